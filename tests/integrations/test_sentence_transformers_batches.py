"""`HardBatchSampler` as the trainer of sentence-transformers makes and uses it."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    st = pytest.importorskip("sentence_transformers", exc_type=ImportError)
    import torch
    from accelerate.data_loader import BatchSamplerShard
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from negfast.integrations.sentence_transformers import HardBatches, HardBatchSampler, batches
    from negfast.torch import HardBatchSampler as TorchSampler
    from tiny_models import code_pairs, static_encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
PAIRS = list(dict.fromkeys(code_pairs(80)))


def table(pairs: list[tuple[str, str]] = PAIRS) -> Any:
    return datasets.Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]})


def lists_of(pairs: list[tuple[str, str]]) -> negfast.MinedNegatives:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((len(pairs), 8)).astype(np.float32)
    return negfast.mine(rows, rows + 0.1, np.arange(len(pairs)), num_negatives=8)


def clean(batch: list[int]) -> bool:
    texts = [" ".join(text.split()) for row in batch for text in set(PAIRS[row])]
    return len(texts) == len(set(texts))


def test_batches_are_clean_and_epochs_differ() -> None:
    sampler = HardBatchSampler(table(), batch_size=8, drop_last=True, seed=3)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)
        assert all(len(batch) == 8 and clean(batch) for batch in epochs[-1])
    assert epochs[0] != epochs[1]
    again = HardBatchSampler(table(), batch_size=8, drop_last=True, seed=3)
    assert list(again) == epochs[0]


def test_same_batches_as_the_torch_sampler_with_lists() -> None:
    mined = lists_of(PAIRS)
    keys = negfast.content_keys([[a for a, _ in PAIRS], [p for _, p in PAIRS]])
    want = TorchSampler(len(PAIRS), 8, keys=keys, mined=mined, community=4, seed=5)
    got = HardBatchSampler.factory(mined=mined, community=4)(table(), batch_size=8, drop_last=True, seed=5)
    assert list(got) == list(want)


def test_lists_of_texts_are_looked_into() -> None:
    dataset = datasets.Dataset.from_dict(
        {"q": ["a", "b", "c", "d"], "docs": [["x", "y"], ["z"], ["y ", "w"], []], "labels": [[1, 0], [1], [1, 0], []]}
    )
    indptr, keys = batches.text_keys(dataset, ["labels"])
    assert np.diff(indptr).tolist() == [3, 2, 3, 1]
    assert keys[2] == keys[6]
    for seed in range(5):
        sampler = HardBatchSampler(dataset, batch_size=2, drop_last=True, valid_label_columns=["labels"], seed=seed)
        assert {0, 2} not in map(set, sampler)


def test_label_columns_are_no_texts() -> None:
    dataset = datasets.Dataset.from_dict({"q": ["a", "b"], "label": ["same", "same"]})
    assert len(HardBatchSampler(dataset, 2, True, valid_label_columns=["label"])) == 1
    assert len(HardBatchSampler(dataset, 2, True)) == 0


def test_accelerate_deals_batches_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_processes", lambda: 2)
    sampler = HardBatchSampler(table(), batch_size=8, drop_last=True, seed=3)
    shares = [list(BatchSamplerShard(sampler, 2, rank, even_batches=False)) for rank in range(2)]
    whole = [
        TorchSampler(len(PAIRS), 8, keys=batches.text_keys(table(), []), seed=3, rank=r, world_size=2) for r in (0, 1)
    ]
    assert shares == [list(share) for share in whole]
    assert len(shares[0]) == len(shares[1]) == len(sampler) // 2
    for step in zip(*shares, strict=True):
        assert clean([row for batch in step for row in batch])


def test_settings_are_saved_without_lists() -> None:
    made = HardBatchSampler.factory(mined=lists_of(PAIRS), community=16)
    saved = pickle.dumps(made)
    assert len(saved) < 500
    read = pickle.loads(saved)  # noqa: S301 - as the trainer does
    assert read == HardBatches({"community": 16}, complete=False)
    with pytest.raises(negfast.StateError, match="batch_sampler must be made anew"):
        read(table(), batch_size=8, drop_last=True)
    plain = pickle.loads(pickle.dumps(HardBatchSampler.factory(community=16)))  # noqa: S301
    assert len(plain(table(), batch_size=8, drop_last=True))


def test_streams_are_refused() -> None:
    with pytest.raises(negfast.InvalidTypeError, match="got IterableDataset"):
        HardBatchSampler(table().to_iterable_dataset(), batch_size=8, drop_last=True)


@pytest.mark.parametrize("several", [False, True], ids=["one data set", "several data sets"])
@pytest.mark.parametrize("kind", ["class", "factory"])
def test_in_the_trainer(tmp_path: Path, several: bool, kind: str) -> None:
    torch.set_num_threads(1)
    model = static_encoder([text for pair in PAIRS for text in pair])
    model._create_model_card = lambda *_, **__: None  # it takes longer than the training
    halves = {"one": table(PAIRS[:60]), "two": table(PAIRS[60:])}
    sampler: Any = HardBatchSampler if kind == "class" else HardBatchSampler.factory(community=8)
    arguments = st.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=16,
        batch_sampler=sampler,
        save_steps=5,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = st.SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.DatasetDict(halves) if several else table(),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.train()
    assert trainer.state.epoch == 2
    assert list(tmp_path.glob("checkpoint-*/training_args.bin"))
    json.dumps(arguments.to_dict(), default=str)
