"""`content_keys`: what counts as the same text, and in which containers texts may come."""

import time

import numpy as np
import pytest

import negfast
from negfast.keys import content_keys

PINNED = [3797230976420062948, 6485039379443504559, 7462803897230620079]


def test_keys_are_pinned() -> None:
    # Keys are stored beside data, so a change of these values breaks what users have saved.
    assert content_keys(["", "negfast", "naïve  café"]).tolist() == PINNED


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a  b", "a b"),
        ("\ta\n b \r\n", "a b"),
        ("a\u00a0b", "a b"),
        ("\ufb01ne", "fine"),  # a ligature
        ("e\u0301", "\u00e9"),  # an accent of its own
        ("\uff21", "A"),  # full width
        ("\u2003", ""),
    ],
)
def test_texts_that_read_the_same_share_a_key(text: str, same: str) -> None:
    first, second = content_keys([text, same])
    assert first == second


@pytest.mark.parametrize(("text", "other"), [("A", "a"), ("ab", "a b"), ("a", "a."), ("", "a")])
def test_texts_that_read_differently_do_not(text: str, other: str) -> None:
    first, second = content_keys([text, other])
    assert first != second


def test_missing_text_has_no_key_and_every_text_has_one() -> None:
    keys = content_keys([None, "", float("nan"), "\ud800", *map(str, range(1000))])
    assert keys.dtype == np.int64
    assert keys[0] == keys[2] == -1
    assert (np.delete(keys, [0, 2]) >= 0).all()
    assert len(set(keys.tolist())) == len(keys) - 1


def test_columns_are_stacked() -> None:
    keys = content_keys([["a", "b", None], ("b", None, "a")])
    assert keys.shape == (3, 2)
    assert keys[0, 0] == keys[2, 1]
    assert keys[0, 1] == keys[1, 0]
    assert keys[2, 0] == keys[1, 1] == -1
    np.testing.assert_array_equal(keys[:, 0], content_keys(["a", "b", None]))


@pytest.mark.parametrize(("texts", "shape"), [([], (0,)), ([[]], (0, 1)), ([[], []], (0, 2)), ([None], (1,))])
def test_empty_input(texts: list, shape: tuple[int, ...]) -> None:
    assert content_keys(texts).shape == shape


def test_containers_give_the_same_keys() -> None:
    texts = ["one", "two", None]
    expected = content_keys(texts)
    np.testing.assert_array_equal(content_keys(tuple(texts)), expected)
    np.testing.assert_array_equal(content_keys(np.array(texts, dtype=object)), expected)
    np.testing.assert_array_equal(content_keys(np.array(texts[:2])), expected[:2])
    np.testing.assert_array_equal(content_keys([np.array(texts, dtype=object)] * 2)[:, 1], expected)


def test_pyarrow_and_pandas() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    texts = ["one", "two", None]
    np.testing.assert_array_equal(content_keys(pyarrow.array(texts)), content_keys(texts))
    np.testing.assert_array_equal(content_keys(pyarrow.chunked_array([texts, texts]))[3:], content_keys(texts))
    pandas = pytest.importorskip("pandas")
    np.testing.assert_array_equal(content_keys(pandas.Series(texts)), content_keys(texts))
    with pytest.raises(negfast.InvalidTypeError, match="DataFrame of 2 dimensions"):
        content_keys(pandas.DataFrame({"a": texts}))


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("abc", negfast.InvalidTypeError, r"texts must be a sequence of texts, got str; use \[texts\]"),
        (b"abc", negfast.InvalidTypeError, "got bytes"),
        (None, negfast.InvalidTypeError, "got NoneType"),
        (7, negfast.InvalidTypeError, "got int"),
        ({"a": "b"}, negfast.InvalidTypeError, "got dict"),
        ({"a"}, negfast.InvalidTypeError, "got set"),
        ((text for text in "ab"), negfast.InvalidTypeError, "got generator"),
        (["a", 7], negfast.InvalidTypeError, r"texts\[1\] must be a str or None, got int"),
        (["a", b"b"], negfast.InvalidTypeError, r"texts\[1\] must be a str or None, got bytes"),
        (["a", ["b"]], negfast.InvalidTypeError, r"texts\[1\] must be a str or None, got list"),
        ([["a"], "b"], negfast.InvalidTypeError, r"texts\[1\] must be a sequence of texts, got str"),
        ([["a"], None], negfast.InvalidTypeError, r"texts\[1\] must be a sequence of texts, got NoneType"),
        ([["a"], [1.5]], negfast.InvalidTypeError, r"texts\[1\]\[0\] must be a str or None, got float"),
        ([["a", "b"], ["c"]], negfast.InvalidValueError, r"got 2 texts in texts\[0\] and 1 in texts\[1\]"),
        (np.array([["a", "b"]]), negfast.InvalidTypeError, "ndarray of 2 dimensions"),
        (np.array("a"), negfast.InvalidTypeError, "ndarray of 0 dimensions"),
    ],
)
def test_bad_input(texts: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        content_keys(texts)  # type: ignore[arg-type]


def test_texts_are_taken_in_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str | None] = ["a", "b", "a", "a  b", None, "a b", "b"]
    whole = content_keys(texts)
    assert whole[0] == whole[2] and whole[3] == whole[5] and whole[4] == -1
    monkeypatch.setattr("negfast.keys._SPAN", 3)
    assert content_keys(texts).tolist() == whole.tolist()
    with pytest.raises(negfast.InvalidTypeError, match=r"texts\[4\] must be a str or None, got int"):
        content_keys([*texts[:4], 7, None])  # type: ignore[list-item]


def test_many_texts_take_well_under_a_second() -> None:
    texts = [f"the text of row {i} " * 20 for i in range(60_000)]
    start = time.perf_counter()
    content_keys(texts)
    assert time.perf_counter() - start < 5  # ten times what it takes, for slow machines
