"""`HashedEncoder`: unit rows that are close when texts share rare words or parts of words."""

import numpy as np
import pytest

import negfast
from negfast import encoder
from negfast.encoder import HashedEncoder

TEXTS = [
    "Return the mean of all rows.",
    "def row_mean(rows):\n    return sum(rows) / len(rows)",
    "Open a socket to the given host.",
    "def open_socket(host):\n    return socket.create_connection((host, 80))",
    "",
    "Größe des Wörterbuchs 漢字",
]


def test_rows_are_unit_float32_and_empty_texts_are_zero() -> None:
    rows = HashedEncoder().fit(TEXTS).encode([*TEXTS, " _-+ \n"])
    assert rows.shape == (7, 384)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0, 1, 0], atol=1e-6)


def test_related_texts_are_closer() -> None:
    rows = HashedEncoder().fit(TEXTS).encode(TEXTS)
    scores = rows @ rows.T
    assert scores[0, 1] > scores[0, 3] + 0.1
    assert scores[2, 3] > scores[2, 1] + 0.1


PINNED = [-0.122418, -0.063984, 0.588717, 0.058434, 0.122418, 0.501359, -0.134105, 0.588717]


def test_values_are_pinned() -> None:
    # The same on every machine: projections come from hashes, not from a generator of numpy's.
    row = HashedEncoder(dim=8, seed=3).encode(["pinned value"])[0]
    np.testing.assert_allclose(row, PINNED, atol=1e-6)


def test_a_row_depends_on_its_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = HashedEncoder().fit(TEXTS)
    together = fitted.encode(TEXTS)
    np.testing.assert_allclose(fitted.encode(TEXTS[3:4])[0], together[3], atol=1e-6)
    monkeypatch.setattr(encoder, "TEXTS_PER_BLOCK", 2)
    np.testing.assert_allclose(fitted.encode(TEXTS), together, atol=1e-6)


def test_seed_and_dim_choose_the_projection() -> None:
    rows = [HashedEncoder(seed=seed).encode(TEXTS[:1])[0] for seed in (0, 0, 1)]
    assert (rows[0] == rows[1]).all()
    assert abs(float(rows[0] @ rows[2])) < 0.3
    assert HashedEncoder(dim=1).encode(TEXTS).shape == (6, 1)


def test_inner_products_estimate_those_before_the_projection() -> None:
    # Two texts of 40 words each, half of them shared, all of equal weight: a cosine near 1/2. Words of three
    # letters have no n-grams. Over 200 pairs the mean error is below 6 standard errors of 0.05 / sqrt(200).
    letters = "abcdefghij"
    words = [a + b + c for a in letters for b in letters for c in letters]
    rng = np.random.default_rng(0)
    firsts, seconds = [], []
    for _ in range(200):
        chosen = rng.choice(words, 60, replace=False)
        firsts.append(" ".join(chosen[:40]))
        seconds.append(" ".join(chosen[20:]))
    plain = HashedEncoder()
    scores = np.einsum("ij,ij->i", plain.encode(firsts), plain.encode(seconds))
    assert abs(scores.mean() - 0.5) < 0.02
    assert scores.std() < 0.1


def test_rare_words_weigh_more_after_fitting() -> None:
    corpus = ["common alpha", *["common words"] * 50]
    fitted = HashedEncoder().fit(corpus)
    shared_rare, shared_common, anchor = fitted.encode(["alpha thing", "common thing", "common alpha"])
    assert anchor @ shared_rare > anchor @ shared_common + 0.2
    unfitted_rare, unfitted_common, anchor = HashedEncoder().encode(["alpha thing", "common thing", "common alpha"])
    assert abs(anchor @ unfitted_rare - anchor @ unfitted_common) < 0.2


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("parse_HTTPHeader2", ["parse", "http", "header", "2"]),
        ("XMLParser.feedData", ["xml", "parser", "feed", "data"]),
        ("__init__(self)", ["init", "self"]),
        ("Größe École élan", ["größe", "école", "élan"]),
        ("snake_case camelCase", ["snake", "case", "camel", "case"]),
    ],
)
def test_identifiers_are_split(text: str, tokens: list[str]) -> None:
    found = encoder._Tokens()
    assert [found.names[i] for i in found.of(text)] == tokens


def test_n_grams_stay_within_their_token() -> None:
    owners, hashes = encoder._n_grams(["abcd", "xy", "bcda", "1234567", "abcd"])
    assert np.bincount(owners).tolist() == [7, 0, 7, 0, 7]  # <ab abc bcd cd> and <abc abcd bcd>
    assert hashes[owners == 0].tolist() == hashes[owners == 4].tolist()
    assert len(set(hashes[owners == 0].tolist())) == 7
    assert set(hashes[owners == 0].tolist()) & set(hashes[owners == 2].tolist()) == {hashes[2]}  # bcd
    assert [part.size for part in encoder._n_grams(["xy"])] == [0, 0]


def test_progress_counts_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "TEXTS_PER_BLOCK", 4)
    calls: list[int] = []
    HashedEncoder().encode(TEXTS, calls.append)
    assert calls == [4, 2]


def test_no_texts_are_legal() -> None:
    assert HashedEncoder().fit([]).encode([]).shape == (0, 384)
    assert np.isfinite(HashedEncoder().fit([]).encode(["a word"])).all()
    assert repr(HashedEncoder().fit(["a b"])) == "HashedEncoder(dim=384, seed=0, n_texts=1, n_tokens=2)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HashedEncoder(0), negfast.InvalidValueError, "dim must be at least 1, got 0"),
        (lambda: HashedEncoder(384.0), negfast.InvalidTypeError, "dim must be an integer, got float"),
        (lambda: HashedEncoder(seed=-1), negfast.InvalidValueError, "seed must be at least 0, got -1"),
        (lambda: HashedEncoder(seed=2**64), negfast.InvalidValueError, "seed must be at most"),
        (lambda: HashedEncoder().encode("text"), negfast.InvalidTypeError, r"got str; use \[texts\]"),
        (lambda: HashedEncoder().fit(b"text"), negfast.InvalidTypeError, "got bytes"),
        (
            lambda: HashedEncoder().encode(["a", None]),
            negfast.InvalidTypeError,
            r"texts\[1\] .* got NoneType",
        ),
    ],
)
def test_bad_input(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
