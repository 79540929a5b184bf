"""Fixtures and the hypothesis profiles that all tests share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("oracle")
settings.register_profile(
    "fixed",
    derandomize=True,  # the same examples on every machine
    database=None,
    deadline=None,  # shared machines
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("explore", settings.get_profile("fixed"), derandomize=False, max_examples=2000)
settings.load_profile("fixed")

Floats = npt.NDArray[np.float32]


@pytest.fixture
def rows() -> Callable[..., Any]:
    """Make seeded random float32 rows, unit length unless told otherwise."""

    def make(n: int, dim: int, seed: int = 0, *, unit: bool = True) -> Floats:
        values = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
        if unit:
            values /= np.linalg.norm(values, axis=1, keepdims=True)
        return values

    return make


@pytest.fixture
def ladder() -> tuple[Floats, Floats]:
    """One anchor and six rows whose dot products are exactly 1, .75, .5, .25, 0 and -.25, in that order."""
    corpus = np.array([[1.0], [0.75], [0.5], [0.25], [0.0], [-0.25]], dtype=np.float32)
    return np.ones((1, 1), dtype=np.float32), corpus


@pytest.fixture
def circle() -> Callable[..., Floats]:
    """Put unit vectors on the circle at the given angles, in degrees."""

    def make(*degrees: float) -> Floats:
        angles = np.deg2rad(np.array(degrees, dtype=np.float64))
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    return make
