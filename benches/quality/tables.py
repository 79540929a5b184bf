"""Tables as text and markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
_PLACES = {
    "steps": 0, "texts in steps": 0, "texts for lists": 0, "peak MB": 0, "beyond texts": 2,
    "alignment": 3, "uniformity": 3, "effective rank": 1,
}  # fmt: skip
"""Decimal places, where they are not one."""
_PERCENT = ("nDCG", "MRR", "Recall", "over", "V-measure", "probe", "false")
"""Measures that are shown in points: hundredths."""


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return a head and one line for each row, every number with its interval."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [names, *([_cell(name, row.get(name)) for name in names] for row in rows)]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    points = name.startswith(_PERCENT)
    places, scale, sign = (2, 100.0, "+" if "over " in name else "") if points else (_PLACES.get(name, 1), 1.0, "")
    if not isinstance(value, Mapping):
        return f"{scale * value:{sign},.{places}f}"
    middle = value.get("mean", value.get("median"))
    low, high = (scale * value[bound] for bound in ("low", "high"))
    alone = low != low or ("median" in value and low == high)  # of one seed
    bounds = "" if alone else f" [{low:{sign},.{places}f}, {high:{sign},.{places}f}]"
    return f"{scale * middle:{sign},.{places}f}{bounds}"


def text(rows: Sequence[Row]) -> str:
    lines = cells(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(rows: Sequence[Row]) -> str:
    head, *lines = ["| " + " | ".join(line) + " |" for line in cells(rows)]
    rule = "|" + " --- |" * (head.count("|") - 1)
    return "\n".join([head, rule, *lines])


NOTES = {
    "strict": """Points (hundredths) with 95 % intervals over seeds and questions; a question's own passage is right.
Columns with `over` are differences in nDCG@10, paired by seed and question: over the in-batch arm; over the best arm
without negfast by these very numbers; over the in-batch arm that trains as long as the whole pipeline.""",
    "group-aware": "As above, with the other rows of a question's group left out of the ranking.",
    "embeddings": """With 95 % intervals over seeds. Alignment and uniformity: lower is better. V-measure and probe in
points.""",
    "costs": """False: the share, in per cent, of negatives that share a text or a group with their anchor, of those
that were drawn or looked up for it, and of the batch. Arms that are told groups and keys have none of the former by
construction. Seconds are medians over seeds, with the least and the most. Beyond texts: seconds over those of the
in-batch arm, less what embedding further texts costs; what one costs in a step the random arm tells.""",
}
