"""Train with SentenceTransformerTrainer: mined negatives drawn by tier, hard batches, a memory bank, a curriculum.

    python examples/train_sentence_transformers.py --folder run           # a static encoder from scratch, a minute
    python examples/train_sentence_transformers.py --model all-MiniLM-L6-v2 --folder minilm --rate 2e-5 --batch 32
    python examples/train_sentence_transformers.py --folder plain --plain # the loss of the library alone

It learns to find functions by the first sentence of their docstrings, and is judged on modules that it has not seen.
Started again with the same folder, it goes on from its last checkpoint and ends as if it had never stopped.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.trainer_utils import get_last_checkpoint

import negfast
import negfast.torch as nt
from negfast.cli.demo.held_out import installed
from negfast.integrations.sentence_transformers import (
    CurriculumCallback,
    CurriculumLoss,
    HardBatchSampler,
    NegativesDataCollator,
    number_rows,
)


def static_encoder(texts, *, dim=128, n_words=8000):
    """Return an encoder without weights to download: it learns a vector for each piece of a word, and averages."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learn = trainers.BpeTrainer(vocab_size=n_words, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(texts, learn)
    torch.manual_seed(0)
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=dim)], device="cpu")


def with_negfast(model, pairs, args):
    """Return what the trainer takes in the place of its own loss, collator and batches."""
    encode = {"show_progress_bar": False, "batch_size": 256}
    queries, passages = model.encode(pairs.queries, **encode), model.encode(pairs.passages, **encode)
    rows = np.arange(len(pairs))
    labels = {"keys": (pairs.keys, pairs.keys), "groups": (pairs.groups, pairs.groups)}
    mined = negfast.mine(queries, passages, rows, num_negatives=50, **labels)

    sources = [nt.MinedRows(mined), nt.UniformRows(len(pairs))]
    shares = {"num_negatives": 4, "probabilities": {}, "min_random": 1}  # until the curriculum says more
    sampler = nt.NegativeSampler(sources, **shares, positives=rows, **labels)
    collator = NegativesDataCollator.for_training(
        model,
        args,
        sampler=sampler,
        corpus=pairs.passages,
        positives=rows,
        groups=(pairs.groups, pairs.groups),
        log_weight=False,  # beside in-batch negatives drawn ones count like any other
    )
    args.batch_sampler = HardBatchSampler.factory(mined=mined, groups=pairs.groups)

    n_steps = int(args.num_train_epochs) * (len(pairs) // args.per_device_train_batch_size)
    tiers = {"hard": 0.5, "semi_hard": 0.3, "easy": 0.1}
    curriculum = negfast.Curriculum.random_first(max(n_steps, 10), **tiers, final_temperature=0.05)
    bank = nt.MemoryBank(2048, queries.shape[1])
    loss = CurriculumLoss(model, curriculum, bank=bank)
    callback = CurriculumCallback(loss, publish_every=max(1, n_steps // 20))
    return {"loss": loss, "data_collator": collator, "callbacks": [callback]}


def train(options):
    """Train; return how well questions were answered before and after."""
    benchmark = installed(options.pairs)
    pairs = benchmark.train
    if options.model is None:
        model = static_encoder([*pairs.queries, *pairs.passages])
    else:
        model = SentenceTransformer(options.model)
    args = SentenceTransformerTrainingArguments(
        output_dir=str(options.folder),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        learning_rate=options.rate,
        warmup_steps=0.1,
        dataloader_drop_last=True,
        dataloader_num_workers=options.workers,
        logging_steps=20,
        save_steps=50,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
    table = number_rows(Dataset.from_dict({"anchor": pairs.queries, "positive": pairs.passages}))
    if options.plain:
        table, parts = table.remove_columns("row"), {"loss": MultipleNegativesRankingLoss(model)}
    else:
        parts = with_negfast(model, pairs, args)
    before = measured(benchmark, model)
    trainer = SentenceTransformerTrainer(model=model, args=args, train_dataset=table, **parts)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(options.folder)))
    return before, measured(benchmark, model)


def measured(benchmark, model):
    return benchmark.measure(lambda texts: model.encode(texts, show_progress_bar=False, batch_size=256)).mrr.mean()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder or a name for SentenceTransformer (default: a new static encoder)")
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--plain", action="store_true", help="MultipleNegativesRankingLoss in place of everything")
    for name, default in {"pairs": 4000, "epochs": 3, "batch": 128, "seed": 0, "workers": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-2, help="of learning (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    before, after = train(options)
    print(f"MRR@10 of held-out questions: {before:.4f} before, {after:.4f} after")


if __name__ == "__main__":
    main()
