"""The example of batches shows what it says: fewer false negatives, then harder ones."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from children import output_of

SCRIPT = Path(__file__).parents[2] / "examples" / "batches.py"


def test_batches_become_clean_and_then_hard() -> None:
    printed = output_of(str(SCRIPT), "--code", "--pairs", 1500, "--batch", 32, "--rows", 2, deadline=100)
    names = re.findall(r"^(.*): [\d,]+ batches of 32$", printed, re.MULTILINE)
    assert names == ["A plain shuffle", "Without duplicates", "Hard"]
    best = [float(value) for value in re.findall(r"in the batch (\S+) on average", printed)]
    false = [float(value) for value in re.findall(r"false negative in the batch (\S+)%", printed)]
    assert false[1] == false[2] == 0.0 <= false[0]
    assert best[2] > best[0] + 0.05
    assert "leaves out" in printed
