"""The files of `negfast demo`."""

import json
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import negfast
from negfast.cli.demo.brute_force import Comparison
from negfast.cli.demo.installed_code import InstalledCode
from negfast.files.writers import replacing, write_json
from negfast.results import MinedNegatives

TIER_NAMES = ("none", "easy", "semi-hard", "hard")


def write_pairs(path: Path, code: InstalledCode) -> None:
    """Write one line of JSON per pair: its texts, module and location."""
    entries = zip(code.queries, code.passages, code.modules, code.locations, strict=True)
    _write_lines(
        path,
        (
            {"index": i, "query": query, "passage": passage, "module": module, "location": location}
            for i, (query, passage, module, location) in enumerate(entries)
        ),
    )


def write_negatives(path: Path, mined: MinedNegatives, code: InstalledCode) -> None:
    """Write one line of JSON per anchor: its negatives, hardest first, with scores and tiers."""
    _write_lines(path, (_anchor(i, mined, code) for i in range(len(code))))


def _anchor(i: int, mined: MinedNegatives, code: InstalledCode) -> dict[str, Any]:
    found = zip(mined.indices[i].tolist(), mined.scores[i].tolist(), mined.tiers[i].tolist(), strict=True)
    negatives = [
        {"index": row, "location": code.locations[row], "score": round(score, 6), "tier": TIER_NAMES[tier]}
        for row, score, tier in found
        if row >= 0  # -1 pads the lists of anchors that have fewer
    ]
    positive_score = round(float(mined.positive_scores[i]), 6)
    return {
        "anchor": i,
        "location": code.locations[i],
        "positive_score": positive_score,
        "negatives": negatives,
    }


def write_text(path: Path, text: str) -> None:
    """Write a text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def write_report(
    path: Path,
    mined: MinedNegatives,
    code: InstalledCode,
    comparison: Comparison,
    options: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    """Write what was asked for, counted and measured as one JSON object."""
    report = {
        "options": options,
        "machine": machine(),
        "pairs": {
            "n": len(code),
            "n_files": code.n_files,
            "n_unreadable": code.n_unreadable,
            "n_modules": len(set(code.modules)),
            "n_distinct_queries": len(set(code.queries)),
            "n_distinct_passages": len(set(code.passages)),
        },
        "seconds": seconds,
        "numpy_brute_force": asdict(comparison),
        "mining": mined.report.to_dict(),
    }
    write_json(path, _without_nan(report))


def machine() -> dict[str, Any]:
    """Return what a time should be read with."""
    return {
        "negfast": negfast.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "simd_level": negfast.simd_level(),
    }


def _without_nan(value: Any) -> Any:  # any value of JSON
    """Replace NaN and infinity, which are no JSON, by null."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_lines(path: Path, entries: Iterator[dict[str, Any]]) -> None:
    # Lone surrogates, which source code may hold, are kept: json escapes whatever is not ASCII.
    with replacing(path) as temporary, temporary.open("w", encoding="ascii") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
