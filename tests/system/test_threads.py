"""Python threads beside a search: they run on, and may search at the same time."""

import pytest

from children import output_of


@pytest.mark.parametrize("job", ["topk", "mine"])
def test_other_python_threads_run_during_a_search(job: str) -> None:
    seconds, longest_pause = map(float, output_of("ticks.py", job).split())
    assert seconds > 0.2, "too short a search to show anything"
    # A call that held the interpreter would stop the counting thread for nearly all of its time.
    assert longest_pause < 0.5 * seconds


def test_searches_of_several_python_threads_agree() -> None:
    output_of("together.py")
