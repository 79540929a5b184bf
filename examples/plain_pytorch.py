"""Train a small text-embedding model from scratch in plain PyTorch, with hard negatives that are mined anew each epoch.

    python examples/plain_pytorch.py pairs.jsonl --folder run

Each line of the file is {"anchor": "a text", "positive": "a text"}; every tenth is kept for recall. Started again with
the same folder, it goes on from its last checkpoint and ends as if it had never stopped.
"""

import argparse
import json
import zlib
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, normalize

import negfast
from negfast.torch import EpochSampler, NegativesCollator, NegativesDataset

N_WORDS, DIM, BATCH_SIZE, TEMPERATURE = 2**14, 64, 32, 0.05


def encode(texts):
    """Hash words: the numbers of all words in a row, and where in it each text begins."""
    words = [[zlib.crc32(word.encode()) % N_WORDS for word in text.lower().split()] for text in texts]
    lengths = torch.tensor([0, *map(len, words)])
    return torch.tensor([word for text in words for word in text], dtype=torch.int64), lengths.cumsum(0)[:-1]


@torch.no_grad()
def embed(model, texts):
    return normalize(model(*encode(texts)))  # (n_texts, DIM)


def train(pairs, corpus, positives, folder, *, n_epochs, n_workers):
    """Yield the model, the epoch and its loss after each epoch."""
    anchors = [pair["anchor"] for pair in pairs]
    torch.manual_seed(0)
    model = torch.nn.EmbeddingBag(N_WORDS, DIM)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sampler, collate = EpochSampler(len(pairs)), NegativesCollator(encode, positives)
    parts = {"model": model, "optimizer": optimizer, "sampler": sampler}
    checkpoint, lists = folder / "checkpoint.pt", folder / "mined.safetensors"
    if checkpoint.exists():
        for name, state in torch.load(checkpoint, weights_only=True).items():
            parts[name].load_state_dict(state)

    def save():
        torch.save({name: part.state_dict() for name, part in parts.items()}, folder / "new.pt")
        (folder / "new.pt").replace(checkpoint)

    for epoch in range(sampler.epoch, n_epochs):
        if sampler.position == 0:
            mined = negfast.mine(embed(model, anchors), embed(model, corpus), positives, num_negatives=4)
            mined.save(lists)
        else:  # the model has moved on since the epoch began
            mined = negfast.MinedNegatives.load(lists)
        dataset = NegativesDataset(pairs, mined, corpus)
        loader = torch.utils.data.DataLoader(
            dataset, BATCH_SIZE, sampler=sampler, collate_fn=collate, num_workers=n_workers
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
        yield model, epoch, sum(losses) / max(len(losses), 1)  # no step is left after a stop at the very end


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--folder", type=Path, default="run", help="for checkpoints (default: run)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)

    pairs = [json.loads(line) for line in options.pairs.read_text(encoding="utf-8").splitlines()]
    corpus = sorted({pair["positive"] for pair in pairs})
    row_of = {text: row for row, text in enumerate(corpus)}
    known = {}  # all positives of an anchor, which several pairs may share
    for pair in pairs:
        known.setdefault(pair["anchor"], []).append(row_of[pair["positive"]])
    held_out, pairs = pairs[::10], [pair for i, pair in enumerate(pairs) if i % 10]
    positives = [known[pair["anchor"]] for pair in pairs]
    questions, answers = [pair["anchor"] for pair in held_out], [set(known[pair["anchor"]]) for pair in held_out]
    epochs = train(pairs, corpus, positives, options.folder, n_epochs=options.epochs, n_workers=options.workers)
    for model, epoch, loss in epochs:
        found = negfast.topk(embed(model, questions), embed(model, corpus), 10).indices.tolist()
        hits = sum(not right.isdisjoint(rows) for right, rows in zip(answers, found, strict=True))
        print(f"epoch {epoch}: loss {loss:.4f}, recall@10 {hits / len(held_out):.3f}")


if __name__ == "__main__":
    main()
