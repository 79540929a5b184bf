"""Results for several sets of anchors as one."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from negfast.errors import InvalidTypeError, InvalidValueError
from negfast.report import SUSPECT_COLUMNS, FalseNegatives, SearchReport, Suspects
from negfast.results import MinedNegatives
from negfast.summary import Lists, summarise


def concatenate(parts: Sequence[MinedNegatives]) -> MinedNegatives:
    """Join what was mined for several sets of anchors of the same queries and corpus.

    Parameters
    ----------
    parts : sequence of MinedNegatives
        Results of :func:`negfast.mine` with the same arguments but for `anchors`, which no two parts share.

    Returns
    -------
    MinedNegatives
        The lists of the first part, then those of the second, and so on, with one report over all of them: what one
        call for all the anchors in that order returns, but for times.

    Raises
    ------
    InvalidTypeError
        If `parts` holds anything else.
    InvalidValueError
        If there is no part, or the parts are of other settings or data, share anchors, or are bound by
        ``max_exposure``, which holds for all anchors of one call together.

    Examples
    --------
    >>> import numpy as np, negfast
    >>> rows = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    >>> halves = [negfast.mine(rows, rows, np.arange(60), anchors=half) for half in np.split(np.arange(60), 2)]
    >>> bool((negfast.concatenate(halves).indices == negfast.mine(rows, rows, np.arange(60)).indices).all())
    True
    """
    if not isinstance(parts, Sequence):
        raise InvalidTypeError(f"parts must be a list of MinedNegatives, got {type(parts).__name__}; pass a list")
    for i, part in enumerate(parts):
        if not isinstance(part, MinedNegatives):
            raise InvalidTypeError(
                f"parts must hold MinedNegatives, got {type(part).__name__} at place {i}; pass what mine returned"
            )
    if not len(parts):
        raise InvalidValueError("parts must hold one MinedNegatives or more, got none; pass what mine returned")
    _check_same(parts)
    first = parts[0]
    lists = Lists(*(np.concatenate([getattr(part, name) for part in parts]) for name in Lists._fields))
    anchors = np.concatenate([part.anchors for part in parts])
    if len(np.unique(anchors)) < len(anchors):
        raise InvalidValueError("parts must be of different anchors, got some anchors twice; leave out the repeats")
    columns = {
        name: np.concatenate([getattr(part.report.suspects, name) for part in parts]) for name in SUSPECT_COLUMNS
    }
    order = np.lexsort((columns["positives"], columns["anchors"]))
    report = summarise(
        lists,
        recipe=first.recipe,
        search=SearchReport.total([part.report.search for part in parts]),
        n_corpus=first.report.n_corpus,
        dim=first.report.dim,
        dtype=first.report.dtype,
        removed={rule: sum(part.report.removed[rule] for part in parts) for rule in first.report.removed},
        anchors_deepened=sum(part.report.anchors_deepened for part in parts),
        suspects=Suspects(**{name: column[order] for name, column in columns.items()}),
        false_negatives=_false_negatives(parts),
    )
    report.seconds.update({name: sum(part.report.seconds[name] for part in parts) for name in first.report.seconds})
    fingerprints = {name: value for name, value in first.fingerprints.items() if name != "anchors"}
    return MinedNegatives(
        anchors=anchors, **lists._asdict(), report=report, recipe=first.recipe, fingerprints=fingerprints
    )


def _check_same(parts: Sequence[MinedNegatives]) -> None:
    first = parts[0]
    if len(parts) > 1 and first.recipe.rules.max_exposure is not None:
        raise InvalidValueError(
            "parts must be of recipes without max_exposure, got one with; the bound holds for all anchors of one call "
            "together, so mine them in one"
        )
    for i, part in enumerate(parts):
        if part.recipe != first.recipe:
            raise InvalidValueError(
                f"parts must be of one recipe, got another at place {i}; mine all of them with the same settings"
            )
        given = {name: value for name, value in part.fingerprints.items() if name != "anchors"}
        known = {name: value for name, value in first.fingerprints.items() if name != "anchors"}
        other = sorted(name for name in {*given, *known} if given.get(name) != known.get(name))
        if other:
            raise InvalidValueError(
                f"parts must be of the same data, got another {', '.join(other)} at place {i}; pass all queries and "
                "name the anchors with anchors="
            )


def _false_negatives(parts: Sequence[MinedNegatives]) -> FalseNegatives | None:
    counted = [part.report.false_negatives for part in parts]
    found = [counts for counts in counted if counts is not None]
    if not found:
        return None
    return FalseNegatives(*(sum(getattr(counts, field.name) for counts in found) for field in fields(FalseNegatives)))
