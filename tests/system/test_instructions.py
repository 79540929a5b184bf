"""Instructions that the kernels take, counted by callgrind: a measure that a busy machine does not disturb.

The record, ``benches/results/instructions.json``, holds the count per unit of work. More than 5 % above it fails.
Another compiler makes other code, so under a rustc that is not the recorded one the bound is 25 %: wide enough for
its taste, narrow enough for a kernel that lost its vectors. Valgrind 3.19 knows no AVX-512; that level is not counted.

``python tests/system/test_instructions.py`` counts anew and overwrites the record.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benches" / "results" / "instructions.json"
# Kernels, and how many repeats bring each well above the noise of one instruction in ten thousand.
REPEATS = {"tile": 10, "dots": 200, "estimate": 400, "pack": 5, "select": 10}
CASES = [(kernel, level) for level in ("scalar", "avx2") for kernel in ("tile", "dots", "estimate")]
CASES += [("pack", "avx2"), ("select", "avx2")]  # the same code at every level
SAME_COMPILER, OTHER_COMPILER = 1.05, 1.25


def missing() -> str | None:
    """Say what the count cannot do without, if it is not here."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "the record is of x86-64"
    absent = [tool for tool in ("cargo", "rustc", "valgrind") if shutil.which(tool) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def output_of(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout + done.stderr


@cache
def compiler() -> str:
    return output_of("rustc", "--version").strip()


@cache
def binary() -> Path:
    # Flags such as target-cpu would make other code than the recorded.
    command = ("cargo", "build", "--release", "-p", "negfast-instructions", "--message-format=json")
    messages = output_of(*command, RUSTFLAGS="").splitlines()
    built = [json.loads(line).get("executable") for line in messages if line.startswith("{")]
    return Path(next(path for path in built if path))


def collected(kernel: str, level: str, repeats: int) -> tuple[int, str]:
    """Count the instructions of a run; return them with the level that it ran at."""
    options = ("--tool=callgrind", "--callgrind-out-file=/dev/null")
    written = output_of("valgrind", *options, binary(), kernel, str(repeats), NEGFAST_SIMD=level)
    count = re.search(r"Collected : (\d+)", written)
    assert count, written
    return int(count[1]), written.split(maxsplit=1)[0]


def per_repeat(kernel: str, level: str) -> float:
    """Instructions of one repeat: the difference of two runs, so that start-up cancels out."""
    few = REPEATS[kernel]
    (less, ran), (more, _) = collected(kernel, level, few), collected(kernel, level, 3 * few)
    if ran != level:
        pytest.skip(f"this processor has no {level}")
    return (more - less) / (2 * few)


@pytest.mark.timeout(400)  # the first call may have to build
@pytest.mark.parametrize(("kernel", "level"), CASES)
def test_kernels_take_no_more_instructions(kernel: str, level: str) -> None:
    absent = missing()
    if absent:
        pytest.skip(absent)
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    bound = SAME_COMPILER if record["rustc"] == compiler() else OTHER_COMPILER
    recorded = record["instructions"][f"{kernel}/{level}"]
    now = per_repeat(kernel, level)
    assert now <= bound * recorded, f"{kernel} at {level}: {now:.0f} instructions, {recorded:.0f} recorded"
    assert now > 0.1 * recorded, f"{kernel} at {level}: {now:.0f} instructions; is its work still done?"


def record() -> None:
    counts = {f"{kernel}/{level}": round(per_repeat(kernel, level), 1) for kernel, level in CASES}
    valgrind = output_of("valgrind", "--version").strip()
    content = {
        "command": "python tests/system/test_instructions.py",
        "unit": "instructions per repeat of benches/native/instructions, dim 384",
        "rustc": compiler(),
        "valgrind": valgrind,
        "instructions": counts,
    }
    RECORD.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(RECORD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    record()
