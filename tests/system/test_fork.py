"""Workers that are forked or spawned after a search.

They neither hang nor take more than one thread unasked.
"""

import os

import pytest

from children import output_of

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@pytest.mark.parametrize(
    "method", [pytest.param("raw", marks=needs_fork), pytest.param("fork", marks=needs_fork), "spawn"]
)
def test_a_worker_finds_what_its_parent_found(method: str) -> None:
    output_of("fork.py", method)
