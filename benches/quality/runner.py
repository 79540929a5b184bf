"""Runs, each in a process of its own, whose results are kept: what is there already is not run again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import negfast
from quality.settings import Run, digest

_ONE = Path(__file__).with_name("one.py")


@dataclass(frozen=True)
class Job:
    """A run, the folder of its data, and their fingerprint."""

    run: Run
    data: Path
    fingerprint: str

    def key(self, versions: dict[str, str]) -> str:
        settings = json.dumps(self.run.plain(), sort_keys=True)
        return digest(settings, self.fingerprint, json.dumps(versions, sort_keys=True))


class OutOfTimeError(Exception):
    """The time of the plan is spent; what is done is kept."""


class Runner:
    """Runs jobs, a few at a time.

    Parameters
    ----------
    folder : where results are kept, by what they depend on
    versions : part of that
    processes : at a time
    minutes : after which no further run begins
    command : what runs one job, for tests
    """

    def __init__(
        self,
        folder: Path,
        versions: dict[str, str],
        *,
        processes: int,
        minutes: float,
        command: Iterable[str] = (sys.executable, str(_ONE)),
    ) -> None:
        self.folder, self.versions, self.processes = folder, versions, processes
        self.deadline = time.monotonic() + 60 * minutes
        self.command = tuple(command)
        folder.mkdir(parents=True, exist_ok=True)

    def results(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Return the result of each job.

        Raises
        ------
        OutOfTimeError
            If the time was spent before the last one began.
        RuntimeError
            If a run failed.
        """
        with ThreadPoolExecutor(self.processes) as pool:
            waiting = [pool.submit(self._result, job) for job in jobs]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _result(self, job: Job) -> dict[str, Any]:
        path = self.folder / f"{job.key(self.versions)}.json"
        if not path.exists():
            if time.monotonic() > self.deadline:
                raise OutOfTimeError
            self._run(job, path)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _run(self, job: Job, path: Path) -> None:
        settings = path.with_suffix(".run")
        settings.write_text(json.dumps(job.run.plain()), encoding="utf-8")
        begin = time.monotonic()
        # The negfast of this process, which need not be installed.
        paths = [str(Path(negfast.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        arguments = [*self.command, str(settings), str(job.data), str(path)]
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        settings.unlink()
        if ended.returncode:
            raise RuntimeError(f"the run {job.run} failed:\n{ended.stderr[-3000:]}")
        print(f"{job.run.data}, seed {job.run.seed}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
