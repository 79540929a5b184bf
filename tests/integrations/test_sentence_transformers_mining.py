"""`mine_hard_negatives`: what it has beside the original, and where it differs on purpose."""

import contextlib
import io
import random
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negfast

with warnings.catch_warnings():  # what the libraries warn of while they load is theirs
    warnings.simplefilter("ignore")
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    util = pytest.importorskip("sentence_transformers.util", exc_type=ImportError)
    import torch

    from negfast.integrations.sentence_transformers import mine_hard_negatives
    from negfast.integrations.sentence_transformers.cache import weights_fingerprint
    from tiny_models import code_pairs, cross_encoder, static_encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
PAIRS = code_pairs(120)
TEXTS = [text for pair in PAIRS for text in pair]


def table(pairs: list[tuple[str, str]] = PAIRS, **columns: list[Any]) -> Any:
    texts = {"sentence": [query for query, _ in pairs], "code": [passage for _, passage in pairs]}
    return datasets.Dataset.from_dict(texts | columns)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.set_num_threads(1)
    return static_encoder(TEXTS)


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cross_encoder(TEXTS, tmp_path_factory.mktemp("cross-encoder"))


def mine(dataset: Any, model: Any, **arguments: Any) -> Any:
    with contextlib.redirect_stderr(io.StringIO()):
        return mine_hard_negatives(dataset, model, **{"verbose": False} | arguments)


def original(dataset: Any, model: Any, **arguments: Any) -> Any:
    with contextlib.redirect_stderr(io.StringIO()):
        return util.mine_hard_negatives(dataset, model, **{"verbose": False} | arguments)


def stripped(mined: Any) -> list[str]:
    """Return negatives without the spaces in which tied texts differ here."""
    return [text.strip() for text in mined["negative"]]


class Spy:
    """Looks on while a model encodes, and hides all of it that is not named."""

    def __init__(self, model: Any, *names: str) -> None:
        self.calls: list[tuple[str, int, dict[str, Any]]] = []
        for name in ("similarity_pairwise", *names):
            setattr(self, name, getattr(model, name))
        self._model = model

    def encode_query(self, texts: list[str], **arguments: Any) -> Any:
        self.calls.append(("query", len(texts), arguments))
        return self._model.encode_query(texts, **arguments)

    def encode_document(self, texts: list[str], **arguments: Any) -> Any:
        self.calls.append(("corpus", len(texts), arguments))
        return self._model.encode_document(texts, **arguments)


class TestModel:
    def test_needs_no_more_than_the_original(self, model: Any) -> None:
        want = mine(table(), model).to_dict()
        assert mine(table(), Spy(model, "similarity")).to_dict() == want
        assert mine(table(), Spy(model), use_faiss=True).to_dict() == want
        assert mine(table(), Spy(model, "similarity_fn_name")).to_dict() == want

    def test_encodes_as_the_original_does(self, model: Any) -> None:
        spy = Spy(model, "similarity")
        arguments = {"query_prompt_name": None, "query_prompt": "find: ", "corpus_prompt": "text: ", "batch_size": 7}
        mine(table(), spy, **arguments)
        same = {"pool": None, "batch_size": 7, "normalize_embeddings": True, "convert_to_numpy": True}
        same |= {"show_progress_bar": False, "prompt_name": None}
        assert spy.calls == [
            ("corpus", len({passage for _, passage in PAIRS}), same | {"prompt": "text: "}),
            ("query", len({query for query, _ in PAIRS}), same | {"prompt": "find: "}),
        ]

    def test_scores_by_the_model_come_in_blocks(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from negfast.integrations.sentence_transformers import similarity

        want = mine(table(), model, output_scores=True)
        monkeypatch.setattr(similarity, "_BLOCK", 4 * len(PAIRS) * 3)
        monkeypatch.setattr(similarity, "_PAIRS", 10)
        got = mine(table(), Spy(model, "similarity"), output_scores=True)
        assert stripped(got) == stripped(want)
        np.testing.assert_allclose(got["scores"], want["scores"], atol=1e-6)

    def test_distances_keep_their_scale_with_faiss(self, model: Any) -> None:
        model.similarity_fn_name = "euclidean"
        try:
            ours = mine(table(), model, use_faiss=True, output_scores=True)
            assert max(negative for _, negative in ours["scores"]) <= 0.0
        finally:
            model.similarity_fn_name = "cosine"

    def test_processes_are_started_and_stopped(self, model: Any) -> None:
        spy = Spy(model, "similarity")
        told: list[Any] = []

        def encode(texts: list[str], *, pool: Any, **_: Any) -> Any:
            told.append(pool)
            return model.encode(texts)

        def start(target_devices: Any) -> str:
            told.append(target_devices)
            return "pool"

        vars(spy).update(
            encode_query=encode,
            encode_document=encode,
            start_multi_process_pool=start,
            stop_multi_process_pool=lambda pool: told.append(f"{pool} ends"),
        )
        mine(table(), spy, use_multi_process=["cpu", "cpu"])
        mine(table(), spy, use_multi_process=True)
        assert told == [["cpu", "cpu"], "pool", "pool", "pool ends", None, "pool", "pool", "pool ends"]


class TestExtras:
    def test_seeds(self, model: Any) -> None:
        def draw(seed: int | None) -> list[str]:
            return list(mine(table(), model, sampling_strategy="random", range_max=20, seed=seed)["negative"])

        assert draw(3) == draw(3)
        assert draw(3) != draw(4)
        random.seed(0)
        before = random.getstate()
        one = draw(None)
        assert random.getstate() == before
        random.setstate(before)
        assert draw(None) != one

    def test_spans_draw_apart(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from negfast.integrations.sentence_transformers import retrieval

        want = mine(table(), model, relative_margin=0.05, output_scores=True)
        monkeypatch.setattr(retrieval, "_SPAN", 400)
        got = mine(table(), model, relative_margin=0.05, output_scores=True)
        assert got.to_dict() == want.to_dict()
        arguments = {"sampling_strategy": "random", "range_max": 8, "seed": 1, "return_ids": True}
        places = np.array(mine(table(), model, num_negatives=2, **arguments)["negative_id"])
        assert len(places) == len(np.unique(PAIRS, axis=0)) * 2

    def test_ids_are_rows(self, model: Any) -> None:
        found = mine(table(), model, return_ids=True)
        assert found.column_names == ["sentence", "sentence_id", "code", "code_id", "negative", "negative_id"]
        for column, side in (("sentence", 0), ("code", 1), ("negative", 1)):
            assert [PAIRS[row][side] for row in found[f"{column}_id"]] == list(found[column])
        corpus = ["further text", *[passage for _, passage in PAIRS[5:9]]]
        found = mine(table(), model, corpus=corpus, return_ids=True)
        rows = corpus + [passage for _, passage in PAIRS]
        assert [rows[row] for row in found["negative_id"]] == list(found["negative"])

    def test_columns_travel(self, model: Any) -> None:
        found = mine(table(row=list(range(len(PAIRS)))), model, keep_columns=True)
        assert found.column_names == ["sentence", "code", "negative", "row"]
        for query, passage, row in zip(found["sentence"], found["code"], found["row"], strict=True):
            assert PAIRS[row] == (query, passage)
            assert row == PAIRS.index((query, passage))

    def test_rules_apply_within_the_window(self, model: Any) -> None:
        window = {"range_max": 12, "num_negatives": 6}
        plain = mine(table(), model, output_format="labeled-list", **window)
        capped = mine(
            table(),
            model,
            output_format="labeled-list",
            rules=negfast.Rules(relative_margin=None, max_exposure=3),
            **window,
        )
        served: dict[str, set[str]] = {}
        for anchor, documents in zip(capped["sentence"], capped["code"], strict=True):
            for text in documents[1:]:
                served.setdefault(text, set()).add(anchor)
        assert max(map(len, served.values())) == 3
        assert len(capped) <= len(plain)

    def test_rules_with_margins_are_those_of_the_arguments(self, model: Any) -> None:
        window = {"range_max": 30, "output_scores": True}
        by_rules = mine(table(), model, rules=negfast.Rules(relative_margin=0.05, max_score=0.7), **window)
        by_arguments = mine(table(), model, relative_margin=0.05, max_score=0.7, **window)
        assert by_rules.to_dict() == by_arguments.to_dict()

    def test_own_text_is_refused_by_rule(self, model: Any) -> None:
        corpus = [query for query, _ in PAIRS]

        def own(**arguments: Any) -> int:
            found = mine(table(), model, corpus=corpus, **arguments)
            return sum(a == n for a, n in zip(found["sentence"], found["negative"], strict=True))

        rules = negfast.Rules(relative_margin=None, exclude_self=True)
        assert own() > 0  # as the original
        assert own(rules=rules) == own(rules=rules, deep=True) == 0

    def test_deep_goes_past_the_window(self, model: Any) -> None:
        arguments = {"relative_margin": 0.3, "num_negatives": 4, "output_format": "labeled-list", "output_scores": True}
        near = mine(table(), model, range_max=6, **arguments)
        deep = mine(table(), model, deep=True, **arguments)
        have = {(a, p[0]): p[1:] for a, p in zip(near["sentence"], near["code"], strict=True)}
        want = {(a, p[0]): p[1:] for a, p in zip(deep["sentence"], deep["code"], strict=True)}
        assert sum(map(len, want.values())) > sum(map(len, have.values()))
        for pair, negatives in have.items():
            assert want[pair][: len(negatives)] == negatives
        for scores in deep["scores"]:
            assert max(scores[1:]) <= scores[0] - abs(scores[0]) * 0.3 + 1e-6

    def test_deep_takes_the_tighter_of_two(self, model: Any) -> None:
        loose, tight = negfast.Rules(relative_margin=0.01), negfast.Rules(relative_margin=0.2, min_score=0.1)
        want = mine(table(), model, deep=True, relative_margin=0.2, min_score=0.1).to_dict()
        assert mine(table(), model, deep=True, relative_margin=0.2, min_score=0.1, rules=loose).to_dict() == want
        assert mine(table(), model, deep=True, relative_margin=0.01, min_score=0.0, rules=tight).to_dict() == want

    def test_search_is_used(self, model: Any) -> None:
        want = mine(table(), model).to_dict()
        assert mine(table(), model, search=negfast.Search(method="certified")).to_dict() == want
        with pytest.raises(negfast.InvalidValueError, match="max_memory"):
            mine(table(), model, search=negfast.Search(max_memory=1))


class TestMiner:
    def test_refreshes_as_it_would_mine(self, model: Any) -> None:
        rules = negfast.Rules(relative_margin=0.05)
        miner = negfast.Miner(num_negatives=3, rules=rules)
        arguments = {"relative_margin": 0.05, "deep": True, "return_ids": True}
        assert mine(table(), model, miner=miner, **arguments).to_dict() == mine(table(), model, **arguments).to_dict()
        later = static_encoder(TEXTS)
        with torch.no_grad():
            for weights in later.parameters():
                weights += 1e-3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))
        got = mine(table(), later, miner=miner, **arguments)
        assert miner.recipe.epoch == 1
        assert got.to_dict() == mine(table(), later, **arguments).to_dict()

    def test_without_filters_it_is_the_original(self, model: Any) -> None:
        miner = negfast.Miner(num_negatives=3, rules=negfast.Rules(relative_margin=None))
        got = mine(table(), model, miner=miner)
        want = original(table(), model)
        assert len(got) == len(want)
        assert stripped(got) == stripped(want)

    def test_other_pairs_are_refused(self, model: Any) -> None:
        miner = negfast.Miner(num_negatives=3, rules=negfast.Rules(relative_margin=None))
        mine(table(), model, miner=miner)
        with pytest.raises(negfast.InvalidValueError, match="miner must have mined the same pairs"):
            mine(table(PAIRS[:50]), model, miner=miner)
        swapped = [(PAIRS[0][0], PAIRS[1][1]), (PAIRS[1][0], PAIRS[0][1]), *PAIRS[2:]]
        with pytest.raises(negfast.InvalidValueError):
            mine(table(swapped), model, miner=miner)

    def test_other_settings_are_refused_with_those_that_fit(self, model: Any) -> None:
        miner = negfast.Miner(num_negatives=4, rules=negfast.Rules(relative_margin=None))
        with pytest.raises(
            negfast.InvalidValueError, match=r"another num_negatives; make it with negfast.Miner\(num_negatives=3"
        ):
            mine(table(), model, miner=miner)


class TestCache:
    def encoded(self, folder: Path, model: Any, **arguments: Any) -> list[int]:
        spy = Spy(model, "similarity_fn_name", *(["state_dict"] if hasattr(model, "state_dict") else []))
        mine(table(), spy, cache_folder=str(folder), **arguments)
        return [n for _, n, _ in spy.calls if n > 16]  # a sample is encoded to look whether files are current

    def test_second_call_reads_the_files(self, model: Any, tmp_path: Path) -> None:
        folder = tmp_path / "new" / "folder"
        assert len(self.encoded(folder, model)) == 2
        assert sorted(file.name.split("_")[0] for file in folder.iterdir()) == ["corpus", "query"]
        assert self.encoded(folder, model) == []
        want = mine(table(), model).to_dict()
        assert mine(table(), model, cache_folder=folder).to_dict() == want

    def test_weights_are_in_the_key(self, model: Any, tmp_path: Path) -> None:
        self.encoded(tmp_path, model)
        other = static_encoder(TEXTS, seed=1)
        assert len(self.encoded(tmp_path, other)) == 2
        assert mine(table(), other, cache_folder=tmp_path).to_dict() == mine(table(), other).to_dict()
        with torch.no_grad():  # a row that no sample of texts meets
            changed = static_encoder(TEXTS)
            next(changed.parameters())[-1] += 1e-3
        assert weights_fingerprint(changed) != weights_fingerprint(model)
        assert len(self.encoded(tmp_path, changed)) == 2

    @pytest.mark.parametrize(
        "arguments", [{"query_prompt": "find: "}, {"corpus_prompt": "text: "}, {"corpus": ["one more"]}], ids=str
    )
    def test_prompts_and_texts_are_in_the_key(self, model: Any, tmp_path: Path, arguments: dict[str, Any]) -> None:
        self.encoded(tmp_path, model)
        assert len(self.encoded(tmp_path, model, **arguments)) == 1

    def test_dimension_and_named_prompts_are_in_the_key(self, tmp_path: Path) -> None:
        def run(**changes: Any) -> int:
            changed = static_encoder(TEXTS, prompts={"query": "a: ", "document": ""})
            for name, value in changes.items():
                setattr(changed, name, value)
            before = len(list(tmp_path.iterdir()))
            mine(table(), changed, query_prompt_name="query", cache_folder=tmp_path)
            return len(list(tmp_path.iterdir())) - before

        assert [run(), run(), run(truncate_dim=8), run(prompts={"query": "b: ", "document": ""})] == [2, 0, 2, 1]

    def test_what_no_key_holds_is_found_by_sample(
        self, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A model without weights to hash."""
        first, second = Spy(model, "similarity"), Spy(static_encoder(TEXTS, seed=1), "similarity")
        mine(table(), first, cache_folder=tmp_path)
        mine(table(), second, cache_folder=tmp_path, verbose=True)
        assert "differs from what the model gives now; encoding again" in capsys.readouterr().out
        assert [n for _, n, _ in second.calls if n > 16] != []
        assert mine(table(), second, cache_folder=tmp_path).to_dict() == mine(table(), second).to_dict()

    def test_damaged_files_are_replaced(self, model: Any, tmp_path: Path) -> None:
        self.encoded(tmp_path, model)
        for file in tmp_path.iterdir():
            file.write_bytes(file.read_bytes()[:1000])
        assert len(self.encoded(tmp_path, model)) == 2
        assert self.encoded(tmp_path, model) == []

    def test_messages(self, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for verb in ("Saved", "Loaded"):
            mine(table(), model, cache_folder=tmp_path, verbose=True)
            lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[Cache]")]
            assert [line.split(" embeddings ")[0] for line in lines] in (
                [f"[Cache] {verb} corpus", f"[Cache] {verb} query"],
                [f"[Cache] {verb} query", f"[Cache] {verb} corpus"],
            )


class TestDifferences:
    """Each of these is in the list of the how-to page."""

    def test_nothing_is_shown_if_not_verbose(self, model: Any) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as shown, contextlib.redirect_stdout(shown):
            mine_hard_negatives(table(), model, verbose=False, relative_margin=0.05)
        assert shown.getvalue() == ""

    def test_min_score_counts_candidates_alone(self, model: Any, capsys: pytest.CaptureFixture[str]) -> None:
        queries, corpus = (list(dict.fromkeys(column)) for column in zip(*PAIRS, strict=True))
        scores = model.similarity(model.encode(queries), model.encode(corpus)).numpy()
        width = 10 + max(Counter(query for query, _ in PAIRS).values())
        known = {(queries.index(query), corpus.index(passage)) for query, passage in PAIRS}
        best = np.argsort(-scores, axis=1)[:, :width]
        want = sum(scores[q, row] < 0.6 and (q, row) not in known for q in range(len(queries)) for row in best[q])

        arguments = {"range_max": 10, "min_score": 0.6, "verbose": True}
        for function, right in ((mine, True), (original, False)):  # theirs counts positives, which are out already
            function(table(), model, **arguments)
            assert (f"Skipped {want:,} potential" in capsys.readouterr().out) == right

    def test_repeated_rows_are_not_missing_samples(self, model: Any, capsys: pytest.CaptureFixture[str]) -> None:
        few = table(PAIRS[:20] * 3)
        for function, counted in ((original, True), (mine, False)):
            function(few, model, verbose=True, output_format="labeled-pair", range_max=8, num_negatives=2)
            assert ("Could not find enough negatives" in capsys.readouterr().out) == counted

    def test_cross_encoder_scores_are_output_without_a_filter(self, model: Any, crossing: Any) -> None:
        few = table(PAIRS[:15])
        found = mine(few, model, cross_encoder=crossing, output_scores=True)
        for row in found:
            scores = crossing.predict([(row["sentence"], row["code"]), (row["sentence"], row["negative"])])
            np.testing.assert_allclose(row["scores"], scores, atol=1e-4)
        assert original(few, model, cross_encoder=crossing, output_scores=True)["scores"][0] != found["scores"][0]

    def test_cross_encoder_without_effect_warns(
        self, model: Any, crossing: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        few = table(PAIRS[:15])
        assert mine(few, model, cross_encoder=crossing).to_dict() == mine(few, model).to_dict()
        assert "`cross_encoder` is not used" in caplog.text

    def test_types_stay_where_nothing_is_found(self, model: Any) -> None:
        full, empty = mine(table(), model, output_scores=True), mine(table(), model, output_scores=True, max_score=-2.0)
        assert len(empty) == 0
        assert empty.features == full.features

    def test_faiss_is_not_needed(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "faiss", None)
        assert mine(table(), model, use_faiss=True).to_dict() == mine(table(), model).to_dict()

    def test_equal_inputs_have_equal_fingerprints(self, model: Any) -> None:
        one, same, other = mine(table(), model), mine(table(), model), mine(table(), model, num_negatives=2)
        assert one._fingerprint == same._fingerprint != other._fingerprint


@pytest.mark.parametrize(
    ("dataset", "arguments", "kind", "message"),
    [
        (table, {"sampling_strategy": "best"}, ValueError, "sampling_strategy must be 'top' or 'random'"),
        (
            lambda: datasets.DatasetDict({"train": table()}),
            {},
            TypeError,
            "must be a datasets.Dataset, got DatasetDict",
        ),
        (lambda: table().to_iterable_dataset(), {}, TypeError, "got IterableDataset"),
        (lambda: table().rename_column("sentence", "label"), {"output_format": "labeled-pair"}, ValueError, "label;"),
        (
            lambda: datasets.Dataset.from_dict({"a": [1, 2], "b": ["x", "y"]}),
            {},
            TypeError,
            "column 'a' of the dataset",
        ),
        (lambda: datasets.Dataset.from_dict({"a": ["v", None], "b": ["x", "y"]}), {}, ValueError, "None in row 1"),
        (table, {"anchor_column_name": "code"}, ValueError, "anchor_column_name and positive_column_name must differ"),
        (table, {"corpus": "text"}, TypeError, "corpus must be a list of texts"),
        (table, {"rules": 3}, TypeError, "rules"),
        (table, {"rules": negfast.Rules(range_max=9)}, ValueError, "rules must leave out range_min and range_max"),
        (table, {"search": "exact"}, TypeError, "search"),
        (table, {"seed": -1}, ValueError, "seed"),
        (table, {"miner": "warm"}, TypeError, "miner must be a negfast.Miner"),
        (table, {"deep": 1}, TypeError, "deep"),
        (table, {"return_ids": "yes"}, TypeError, "return_ids"),
        (table, {"keep_columns": None}, TypeError, "keep_columns"),
        (table, {"deep": True, "include_positives": True}, ValueError, "include_positives must be False with deep"),
        (table, {"miner": negfast.Miner(), "seed": 1}, ValueError, "search and seed must be None with a miner"),
        (table, {"miner": negfast.Miner(), "max_score": 0.5}, ValueError, "deep must be True with a miner and filters"),
        (table, {"deep": True, "cross_encoder": object()}, ValueError, "cross_encoder must be None with deep=True"),
        (table, {"deep": True, "relative_margin": -0.1}, ValueError, "relative_margin"),
        (lambda: table(negative=[0] * len(PAIRS)), {"keep_columns": True}, ValueError, "got negative;"),
    ],
    ids=str,
)
def test_bad_input(
    model: Any, dataset: Callable[[], Any], arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        mine(dataset(), model, **arguments)
    assert isinstance(raised.value, negfast.NegfastError)


def test_deep_needs_a_metric_of_negfast(model: Any) -> None:
    with pytest.raises(negfast.InvalidValueError, match="model must score by cosine or dot"):
        mine(table(), Spy(model, "similarity"), deep=True)


def test_cross_encoders_with_several_labels_are_refused(model: Any) -> None:
    class Several:
        def predict(self, pairs: list[Any], **_: Any) -> Any:
            return torch.zeros(len(pairs), 2)

    with pytest.raises(negfast.InvalidValueError, match="cross_encoder must give one score per pair"):
        mine(table(), model, cross_encoder=Several(), max_score=0.5)
