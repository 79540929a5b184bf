"""A training run that is killed between two steps ends, once it is started again, as one that never stopped."""

import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")

import killed
from children import output_of, run_child

SCRIPT = killed.__file__


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_a_killed_run_ends_as_if_it_had_never_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "killed.pt"
    done = run_child(SCRIPT, state, 5)  # in the middle of the second epoch
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = output_of(SCRIPT, state, -1)
    killed.main(tmp_path / "whole.pt", -1)
    assert resumed == capsys.readouterr().out
