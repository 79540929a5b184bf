"""What the benches share: threads pinned alike, rounds that alternate, peak memory, and a record.

Import it before numpy, faiss or torch and call `pin` first: these read the environment when they
load.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benches" / "results"
MIB = 1 << 20

# How each library is held to AVX2, so that a level is compared with its like.
AVX2_PEERS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "FAISS_OPT_LEVEL": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
# A bundled OpenBLAS that is older than the processor falls back to AVX2. faiss gains up to 1.4x by this.
AVX512_PEERS = {"OPENBLAS_CORETYPE": "SkylakeX"}


def arguments(description: str, *, rounds: int = 5) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n", type=int, help="number of pairs (default: all)")
    parser.add_argument("--rounds", type=int, default=rounds, help="times each contender runs (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender (default: %(default)s)")
    parser.add_argument("--level", choices=["scalar", "avx2", "avx512"], help="highest SIMD level of negfast")
    parser.add_argument(
        "--peers",
        choices=["best", "as-installed"],
        default="best",
        help="let the peers' libraries use the widest instructions (default: %(default)s)",
    )
    parser.add_argument("--name", help="name of the result files (default: made from the settings)")
    return parser


def pin(threads: int, level: str | None = None, peers: str = "best") -> None:
    """Give every contender the same threads, and the same level where its library can be told."""
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "NEGFAST_NUM_THREADS",
    ):
        os.environ[name] = str(threads)
    # Else the idle threads of the contender before spin on the processors of the contender now.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["TQDM_DISABLE"] = "1"
    if level is not None:
        os.environ["NEGFAST_SIMD"] = level
    if level == "avx2":
        os.environ.update(AVX2_PEERS)
    elif peers == "best" and "avx512f" in processor()["flags"].split():
        os.environ.update(AVX512_PEERS)


def alternate(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each contender once a round, in turns; each returns its own seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            seconds[name].append(run())
        taken = ", ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        print(f"round {number + 1}: {taken}", file=sys.stderr, flush=True)
    return seconds


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def summary(seconds: Mapping[str, list[float]], ours: str = "negfast") -> dict[str, dict[str, float]]:
    """Median and spread of each contender, and how many times as long as ours it took, round by round."""
    return {
        name: {
            "median_seconds": statistics.median(times),
            "min_seconds": min(times),
            "max_seconds": max(times),
            "ratio_to_negfast": statistics.median(ratios),
            "min_ratio": min(ratios),
            "max_ratio": max(ratios),
        }
        for name, times in seconds.items()
        for ratios in [[theirs / mine for theirs, mine in zip(times, seconds[ours], strict=True)]]
    }


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{'contender':<34} {'median s':>9} {'min':>9} {'max':>9} {'x negfast':>10}  (min, max of rounds)"]
    for name, row in rows.items():
        lines.append(
            f"{name:<34} {row['median_seconds']:9.2f} {row['min_seconds']:9.2f} {row['max_seconds']:9.2f} "
            f"{row['ratio_to_negfast']:10.2f}  ({row['min_ratio']:.2f}, {row['max_ratio']:.2f})"
        )
    return "\n".join(lines)


def peak_bytes() -> int:
    """Peak resident memory of this process; Linux tells it since the last `forget_peak`."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def memory_of(script: str, contender: str, options: argparse.Namespace) -> int:
    """Bytes that one contender takes beyond inputs and outputs, alone in a process of its own."""
    command = [sys.executable, script, "--memory-of", contender]
    for name, value in vars(options).items():
        if value is not None and name not in {"memory_of", "rounds", "name"}:
            command += [f"--{name}", str(value)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def versions(*packages: str) -> dict[str, str]:
    names = ("negfast", "numpy", *packages)
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def processor() -> dict[str, str]:
    """What the system says of its first processor; `name` and `flags` are always there."""
    said = {"name": platform.processor() or platform.machine(), "flags": ""}
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        first = listing.read_text().split("\n\n")[0]
        said |= {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    if {"model name", "cpu family", "model"} <= said.keys():
        said["name"] = "{model name}, family {cpu family} model {model}".format_map(said)
    return said


def machine() -> dict[str, Any]:
    return {
        "processor": processor()["name"],
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def peer_libraries() -> list[str]:
    """The linear algebra that the loaded peers run on, and the processor that each takes this one for."""
    import threadpoolctl
    import torch

    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    blas = {f"{Path(library['filepath']).name} as {library['architecture']}" for library in found}
    return [*sorted(blas), f"torch {torch.backends.cpu.get_cpu_capability()}"]


def record(name: str, result: Mapping[str, Any], text: str) -> None:
    """Write ``results/<name>.json`` and ``.txt`` and print the text."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT).as_posix()
    command = shlex.join(["python", script, *sys.argv[1:]])
    head = {"command": command, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    lines = [
        f"$ {command}",
        f"{head['machine']['processor']}, {head['machine']['processors']} processors; {head['date']}",
        ", ".join(f"{package} {version}" for package, version in result["versions"].items()),
        *([f"peers on {', '.join(result['peer_libraries'])}"] if "peer_libraries" in result else []),
        "",
        text,
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(head | dict(result), indent=2) + "\n")
    (RESULTS / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
