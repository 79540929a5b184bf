"""Working memory is bounded: no score matrix, no copy of the inputs."""

import os

import pytest

from children import output_of

MIB = 1 << 20
N_QUERIES, N_CORPUS, DIM = 5_000, 150_000, 64
INDEX_AND_SCORE = 8 + 4


@pytest.mark.skipif(os.name == "nt", reason="the standard library reads no peak memory on Windows")
@pytest.mark.parametrize(("job", "k"), [("topk", 100), ("mine", 8)])
def test_working_memory_is_bounded(job: str, k: int) -> None:
    grown = int(output_of("memory.py", job, N_QUERIES, N_CORPUS, DIM, k))
    outputs = N_QUERIES * k * INDEX_AND_SCORE
    # A score matrix would be 2.8 GiB, a packed copy of the corpus 37 MiB.
    assert grown <= 64 * MIB + outputs
