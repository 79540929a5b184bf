"""The examples of the integrations show what they say."""

import re
from pathlib import Path

import pytest

from children import output_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_map_learns_what_brings_modules_together() -> None:
    pytest.importorskip("pytorch_metric_learning", exc_type=ImportError)
    printed = output_of(
        str(EXAMPLES / "metric_learning.py"), "--functions", 2500, "--steps", 60, "--classes", 16, deadline=110
    )
    before, after = (float(share) for share in re.findall(r"same module: (\S+)% ", printed))
    assert after > before and printed.count("triplets") == 3


def test_more_candidates_miss_less() -> None:
    pytest.importorskip("hnswlib", exc_type=ImportError)
    printed = output_of(str(EXAMPLES / "hnsw.py"), "--functions", 1500, deadline=110)
    recalls = [float(recall) for recall in re.findall(r"recall (\S+) \(", printed)]
    assert len(recalls) == 3 and recalls[0] < recalls[1] < recalls[2] and printed.count("def ") >= 3
