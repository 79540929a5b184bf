"""Modules are held out whole, and answers are judged as by hand."""

import numpy as np
import pytest

from negfast.cli.demo.held_out import Benchmark, Pairs, split


def made(n: int = 400) -> tuple[Pairs, list[str]]:
    modules = [f"module{i // 4}" for i in range(n)]
    return Pairs.of([f"what is {i}" for i in range(n)], [f"it is {i}" for i in range(n)]), modules


def test_wholes_are_held_out_and_parts_have_none_in_common() -> None:
    pairs, modules = made()
    module_of = dict(zip(pairs.queries, modules, strict=True))
    test, validation = (split(pairs, modules, part=part) for part in ("test", "validation"))
    for found in (test, validation):
        asked, trained = ({module_of[query] for query in part.queries} for part in (found.held_out, found.train))
        assert asked and trained and not asked & trained
        assert 20 <= len(found.held_out) <= 80, "about one in ten"
    assert not {*test.held_out.queries} & {*validation.held_out.queries, *validation.train.queries}
    assert test.train.queries == validation.train.queries


def test_pairs_that_share_a_text_with_held_out_ones_are_not_trained_on() -> None:
    pairs, modules = made()
    held_out = split(pairs, modules).held_out
    copies = Pairs.of([*pairs.queries, "unheard of"], [*pairs.passages, held_out.passages[0]])
    alone = next(name for name in map(str, range(100)) if len(split(Pairs.of(["a"], ["b"]), [name]).train))
    found = split(copies, [*modules, alone])
    assert "unheard of" not in found.train.queries and "unheard of" not in found.held_out.queries


def test_answers_are_judged_as_by_hand() -> None:
    train = Pairs.of(["q0", "q1", "shared"], ["d0", "d1", "d2"])
    held_out = Pairs.of(["shared", "alone", "lost"], ["d3", "D4", "d5"])
    benchmark = Benchmark(train, held_out)
    assert len(benchmark.corpus) == 6
    places = {text: place for place, text in enumerate(benchmark.corpus)}
    assert benchmark.right == [{places["d2"], places["d3"]}, {places["D4"]}, {places["d5"]}]
    rows = {text: row for row, text in enumerate(benchmark.corpus)}

    def encode(texts: list[str]) -> np.ndarray:
        """Let the first question find its answers at ranks 1 and 3, the second its own at 2."""
        best = {"shared": ["d2", "d0", "d3"], "alone": ["d1", "D4"], "lost": ["d5"]}
        found = np.zeros((len(texts), 6), np.float32)
        for row, text in zip(found, texts, strict=True):
            if text in rows:
                row[rows[text]] = 1.0
            for rank, answer in enumerate(best.get(text, ())):
                row[rows[answer]] = 1.0 - 0.1 * rank
        return found

    found = benchmark.measure(encode, n_threads=1)
    assert found.mrr.tolist() == pytest.approx([1.0, 0.5, 1.0])
    ideal = 1.0 + 1.0 / np.log2(3)
    assert found.ndcg.tolist() == pytest.approx([1.5 / ideal, 1.0 / np.log2(3), 1.0])


def test_equal_passages_are_one_row_of_the_corpus() -> None:
    benchmark = Benchmark(Pairs.of(["a"], ["the same"]), Pairs.of(["b"], ["the  same"]))
    assert len(benchmark.corpus) == 1 and benchmark.right == [{0}]
