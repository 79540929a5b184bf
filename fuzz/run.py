"""Coverage-guided fuzzing of a target: `python fuzz/run.py TARGET [options of libFuzzer]`; see README.md."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["negfast", "numpy.lib", "json"]):
    from targets import TARGETS, survives


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"name a target: {', '.join(TARGETS)}")
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"negfast-seeds-{name}-"))
    for i, seed in enumerate(target.seeds()):
        (folder / str(i)).write_bytes(seed)
    atheris.Setup([sys.argv[0], str(folder), *sys.argv[2:]], lambda data: survives(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
