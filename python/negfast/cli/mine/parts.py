"""The folder beside an output that holds what an unfinished job has done so far."""

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from negfast.errors import InvalidValueError, StateError
from negfast.files.locks import lock
from negfast.files.writers import write_json
from negfast.results import MinedNegatives

_LOCK = "lock"


class Parts:
    """Finished parts of a job: encoded texts and mined blocks; as a context manager, closed to other jobs.

    Parameters
    ----------
    output : Path
        The file that the job will write; the folder has its name and ``.parts``.
    keeps_rows : bool
        Whether encoded texts alone are worth keeping when the job fails.
    """

    def __init__(self, output: Path, *, keeps_rows: bool) -> None:
        self._worth = ("block-", "anchors.npy", "corpus.npy") if keeps_rows else ("block-",)
        self.folder = output.with_name(f"{output.name}.parts")
        self._plan = self.folder / "job.json"
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Return the parts."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let other jobs have the folder, and remove it if nothing was done."""
        if self._lock is not None and isinstance(error, Exception) and not self._is_begun():
            self.remove()
        self._close()

    def open(self, plan: dict[str, Any], *, resume: bool, restart: bool) -> None:
        """Make the folder, or take it over from an earlier run.

        Parameters
        ----------
        plan : dict
            What the parts depend on, in plain values; those of another plan are no use.
        resume, restart : bool
            Whether to go on with earlier parts, or to drop them.

        Raises
        ------
        InvalidValueError
            If there are parts and neither is asked for, they are of another job, or another job is at them.
        """
        self._take()
        if restart:
            for path in sorted(self._contents(), key=lambda path: path == self._plan):
                path.unlink()
        if self._plan.exists():
            self._check(plan, resume=resume)
        else:
            write_json(self._plan, plan)

    def _take(self) -> None:
        """Make the folder and close it to other jobs."""
        if self.folder.exists() and not (self.folder.is_dir() and self._is_own()):
            raise InvalidValueError(
                f"--output must leave {self.folder} to the parts of its job, got something else there; name another "
                "output, or move that away"
            )
        try:
            self.folder.mkdir(exist_ok=True)
            file = (self.folder / _LOCK).open("wb")
        except OSError as error:
            raise InvalidValueError(
                f"--output must be in a folder that can be written, got {self.folder.parent} ({error.strerror}); name "
                "another"
            ) from error
        if not lock(file):
            file.close()
            raise InvalidValueError(
                f"--output must be written by one job at a time, got {self.folder}, at which another is; wait for it, "
                "or name another output"
            )
        self._lock = file

    def _is_own(self) -> bool:
        return self._plan.exists() or all(
            path.name == _LOCK or path.suffix == ".part" for path in self.folder.iterdir()
        )

    def _is_begun(self) -> bool:
        """Return whether there is more than a later run would make in no time."""
        return any(path.name.startswith(self._worth) for path in self._contents())

    def _contents(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name != _LOCK]

    def _close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check(self, plan: dict[str, Any], *, resume: bool) -> None:
        if not resume:
            raise InvalidValueError(
                f"{self.folder} holds an interrupted job; add --resume to go on with it or --restart to drop it"
            )
        try:
            earlier = json.loads(self._plan.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise StateError(f"{self._plan} is damaged: {error}; use --restart") from error
        if not isinstance(earlier, dict):
            raise StateError(f"{self._plan} is damaged: it holds no object; use --restart")
        plain = json.loads(json.dumps(plan))
        other = [name for name in plain if earlier.get(name) != plain[name]]
        if other:
            raise InvalidValueError(
                f"--resume must be given with the job that {self.folder} holds, got another "
                f"{', another '.join(other)}; give the same command, or use --restart"
            )

    def block(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"block-{number:06d}.safetensors"

    def load(self, number: int) -> MinedNegatives | None:
        """Return a finished block, ``None`` if it is not finished."""
        path = self.block(number)
        return MinedNegatives.load(path) if path.exists() else None

    def remove(self) -> None:
        """Remove the folder; the plan goes last, so that what is left of a removal is never taken for another job's."""
        for path in sorted(self._contents(), key=lambda path: path == self._plan):
            path.unlink()
        self._close()
        shutil.rmtree(self.folder)
