"""The static encoder."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import negfast
from negfast.torch.static_encoder import StaticEncoder

TEXTS = ["read a file", "def readFile(path)", "draw a circle", ""]


def test_rows_have_length_one_and_do_not_depend_on_others() -> None:
    encoder = StaticEncoder(TEXTS, 32, buckets=1024)
    rows = encoder.encode(TEXTS)
    assert rows.dtype == np.float32 and rows.shape == (4, 32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[1:2]), rows[1:2], rtol=1e-5, atol=1e-6)
    assert encoder.encode([]).shape == (0, 32)


def test_it_begins_with_words_in_common() -> None:
    rows = StaticEncoder(TEXTS, 256).encode(TEXTS)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1, "read and file are words of an identifier too"


def test_seeds_and_limits() -> None:
    first, again, other = (StaticEncoder(TEXTS, 8, seed=seed).encode(TEXTS) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)
    short = StaticEncoder(TEXTS, 8, max_words=2)
    np.testing.assert_allclose(short.encode(["one two three"]), short.encode(["one two four"]))


def test_it_learns() -> None:
    encoder = StaticEncoder(TEXTS, 8)
    encoder(*encoder.tokenize(TEXTS)).sum().backward()
    assert bool(torch.isfinite(encoder.table.weight.grad).all())


@pytest.mark.parametrize(("name", "value"), [("dim", 0), ("buckets", 0), ("max_words", 0), ("seed", -1)])
def test_bad_input(name: str, value: int) -> None:
    options = {"dim": 8} | {name: value}
    with pytest.raises(negfast.InvalidValueError, match=name):
        StaticEncoder(TEXTS, **options)
