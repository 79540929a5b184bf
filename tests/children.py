"""Runs a script of ``tests/system/children`` in a process of its own, with a deadline.

What would hang there fails here.
"""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "system" / "children"
# They would decide what a test is about.
SETTINGS = ("NEGFAST_NUM_THREADS", "PYTHONWARNINGS")


def run_child(script: str, *arguments: object, deadline: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a script, warnings as errors, and return its output and exit status whatever that is."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    # Python warns of a fork beside any other thread, so a thread that negfast left behind fails a test;
    # numpy's own must not be there.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(FOLDER / script), *map(str, arguments)]
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=deadline)
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(f"{script} did not end within {deadline:g} s; it wrote {expired.output!r}") from None


def output_of(script: str, *arguments: object, deadline: float = 60.0) -> str:
    """Run a script that has to succeed and return what it printed."""
    done = run_child(script, *arguments, deadline=deadline)
    assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout
