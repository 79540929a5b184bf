"""Train a small text-embedding model from scratch in plain PyTorch, with hard negatives that are mined anew each epoch.

    python examples/plain_pytorch.py pairs.jsonl --folder run

Each line of the file is {"anchor": "a text", "positive": "a text"}. Every tenth pair is kept for recall. Started again
with the same folder, it goes on from its last checkpoint and ends as if it had never stopped.
"""

import argparse
import json
import os
import zlib
from collections import defaultdict
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, normalize

import negfast
from negfast.torch import EpochSampler, NegativesCollator, NegativesDataset

N_WORDS, DIM, BATCH_SIZE, TEMPERATURE = 2**14, 64, 32, 0.05


def encode(texts):
    """Hash words: (n_words,) word numbers of all texts in a row, (n_texts,) where each text begins."""
    words = [[zlib.crc32(word.encode()) % N_WORDS for word in text.lower().split()] for text in texts]
    lengths = torch.tensor([0, *map(len, words)])
    return torch.tensor([word for text in words for word in text], dtype=torch.int64), lengths.cumsum(0)[:-1]


@torch.no_grad()
def embed(model, texts):
    return normalize(model(*encode(texts)))  # (n_texts, DIM)


def recall_at_10(model, pairs, corpus, known):
    found = negfast.topk(embed(model, [pair["anchor"] for pair in pairs]), embed(model, corpus), 10).indices
    return sum(bool(known[pair["anchor"]] & set(rows)) for pair, rows in zip(pairs, found.tolist(), strict=True)) / len(
        pairs
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)

    pairs = [json.loads(line) for line in options.pairs.read_text(encoding="utf-8").splitlines()]
    corpus = sorted({pair["positive"] for pair in pairs})
    row_of, known = {text: row for row, text in enumerate(corpus)}, defaultdict(set)
    for pair in pairs:
        known[pair["anchor"]].add(row_of[pair["positive"]])
    held_out, pairs = pairs[::10], [pair for i, pair in enumerate(pairs) if i % 10]
    anchors = [pair["anchor"] for pair in pairs]
    positives = [sorted(known[anchor]) for anchor in anchors]

    torch.manual_seed(0)
    model = torch.nn.EmbeddingBag(N_WORDS, DIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sampler = EpochSampler(len(pairs))
    collate = NegativesCollator(encode, positives)
    parts = {"model": model, "optimizer": optimizer, "sampler": sampler}
    options.folder.mkdir(parents=True, exist_ok=True)
    checkpoint, lists = options.folder / "checkpoint.pt", options.folder / "mined.safetensors"

    def save():
        torch.save({name: part.state_dict() for name, part in parts.items()}, f"{checkpoint}.part")
        os.replace(f"{checkpoint}.part", checkpoint)

    if checkpoint.exists():
        for name, state in torch.load(checkpoint, weights_only=True).items():
            parts[name].load_state_dict(state)
    for epoch in range(sampler.epoch, options.epochs):
        if sampler.position == 0:
            mined = negfast.mine(embed(model, anchors), embed(model, corpus), positives, num_negatives=4)
            mined.save(lists)
        else:  # the model has moved since the epoch began: the lists of then
            mined = negfast.MinedNegatives.load(lists)
        dataset = NegativesDataset(pairs, mined, corpus)
        loader = torch.utils.data.DataLoader(
            dataset, BATCH_SIZE, sampler=sampler, collate_fn=collate, num_workers=options.workers
        )
        losses = []
        for batch in loader:
            queries = normalize(model(*batch.anchors))  # (batch, DIM)
            documents = normalize(model(*batch.documents))  # (batch + negatives, DIM)
            scores = (queries @ documents.T / TEMPERATURE).masked_fill(~batch.mask, -torch.inf)
            loss = cross_entropy(scores, torch.arange(len(batch)))  # document i is the positive of anchor i
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            sampler.consumed(len(batch))
            if len(losses) % 10 == 0:
                save()
        sampler.set_epoch(epoch + 1)
        save()
        recall = recall_at_10(model, held_out, corpus, known)
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}, recall@10 {recall:.3f}")


if __name__ == "__main__":
    main()
