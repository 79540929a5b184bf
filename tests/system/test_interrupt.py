"""Ctrl-C during a long call."""

import os
import signal

import pytest

from children import run_child

LONGEST_ANSWER = 0.2  # seconds
# A busy machine can keep any process waiting for longer than that; it hardly does so three times in a row.
TRIES = 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that a process can send to itself as Ctrl-C")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("job", ["topk", "mine", "near_duplicates"])
# Early, while rows are read and packed, and in the middle of the scan.
@pytest.mark.parametrize("after", [0.02, 0.7])
def test_an_interrupt_ends_a_search_at_once(job: str, n_threads: int, after: float) -> None:
    assert_answered(job, n_threads, after)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that a process can send to itself as Ctrl-C")
def test_an_interrupt_ends_the_dealing_of_batches_at_once() -> None:
    assert_answered("batches", 1, 1.2)


def assert_answered(job: str, n_threads: int, after: float) -> None:
    answers = []
    for _ in range(TRIES):
        child = run_child("interrupt.py", job, n_threads, after, deadline=60)
        assert "KeyboardInterrupt" in child.stderr, child.stderr
        assert child.returncode == -signal.SIGINT
        answers.append(float(child.stdout))
        if answers[-1] <= LONGEST_ANSWER:
            break
    assert min(answers) <= LONGEST_ANSWER, answers
