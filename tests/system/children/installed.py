"""What a user does first with an installed package; run by the interpreter of a clean environment, in an empty folder.

Prints the version, the level and whether threads share the interpreter freely.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

import negfast

N = 50
COMMAND = Path(sysconfig.get_path("scripts")) / ("negfast.exe" if os.name == "nt" else "negfast")


def main(environment: str) -> None:
    assert Path(environment).resolve() in Path(negfast.__file__).resolve().parents, negfast.__file__
    library()
    missing_extra()
    commands()
    free = "free-threaded, " if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    # The compiled module must not have switched the lock on.
    assert not (free and sys._is_gil_enabled())  # type: ignore[attr-defined]
    print(f"negfast {negfast.__version__}, {free}{negfast.simd_level()}, numpy {np.__version__}")


def library() -> None:
    """Call each public function, with the least that it needs."""
    assert negfast.simd_level() in {"scalar", "avx2", "avx512"}
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((200, 16), dtype=np.float32)
    queries = corpus[:N] + 0.1 * rng.standard_normal((N, 16), dtype=np.float32)
    positives = np.arange(N)

    found = negfast.topk(queries, corpus, 5)
    assert (found.indices[:, 0] == positives).all()

    recipe = negfast.Recipe(num_negatives=4, seed=1)
    recipe.save("recipe.json")
    assert negfast.Recipe.load("recipe.json") == recipe
    mined = negfast.mine(queries, corpus, positives, **recipe.arguments())
    assert mined.indices.shape == (N, 4)
    assert not (mined.indices == positives[:, None]).any()
    mined.save("mined.safetensors")
    loaded = negfast.MinedNegatives.load("mined.safetensors")
    np.testing.assert_array_equal(loaded.indices, mined.indices)

    everything = np.tile(np.arange(200), (N, 1))
    chosen = negfast.select(queries, corpus, everything, positives, num_negatives=4, seed=1)
    np.testing.assert_array_equal(chosen.indices, mined.indices)

    labels = negfast.near_duplicates(np.concatenate([corpus, corpus[:3]]), 0.999)
    np.testing.assert_array_equal(labels, [*range(200), 0, 1, 2])


def missing_extra() -> None:
    """Ask for something of an extra, which is not installed, and be told its name."""
    message = "torch is installed here"
    try:
        negfast.MinedNegatives.load("mined.safetensors").to_torch()
    except negfast.MissingExtraError as error:
        message = str(error)
    assert "negfast[torch]" in message, message


def commands() -> None:
    """Run the commands: usage, the version, a small job, and a mistake for each extra that they can miss."""
    assert f"negfast {negfast.__version__}" in run("--version")
    for name in ([], ["mine"], ["near-duplicates"], ["demo"]):
        assert "usage: negfast" in run(*name, "--help")
    write_pairs(Path("pairs.jsonl"))
    run("mine", "pairs.jsonl", "-o", "negatives.jsonl", "--num-negatives", "2", "--quiet")
    lines = Path("negatives.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= N, lines
    run("near-duplicates", "pairs.jsonl", "--text", "positive", "-o", "groups.jsonl", "--quiet")
    assert len(Path("groups.jsonl").read_text(encoding="utf-8").splitlines()) == N
    Path("pairs.parquet").write_bytes(b"PAR1")
    for extra, arguments in (
        ("cli", ["mine", "pairs.parquet", "-o", "negatives.jsonl"]),
        ("sentence-transformers", ["mine", "pairs.jsonl", "-o", "negatives.jsonl", "--model", "any", "--restart"]),
    ):
        mistake = run(*arguments, code=2)
        assert mistake.startswith("negfast: "), mistake
        assert mistake.count("\n") == 1, mistake
        assert f"negfast[{extra}]" in mistake, mistake


def write_pairs(path: Path) -> None:
    pairs = [{"anchor": f"what does tool{i} do", "positive": f"tool{i} sorts things of kind {i}"} for i in range(N)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")


def run(*arguments: str, code: int = 0) -> str:
    """Run the installed command; return what it prints, on stderr if it is to fail."""
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert code or not done.stderr, done.stderr
    return done.stderr if code else done.stdout


if __name__ == "__main__":
    main(sys.argv[1])
