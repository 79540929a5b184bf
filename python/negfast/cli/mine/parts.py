"""The folder beside an output that holds what an unfinished job has done so far."""

import json
import shutil
from pathlib import Path
from typing import Any

from negfast.errors import InvalidValueError, StateError
from negfast.files.writers import write_json
from negfast.results import MinedNegatives


class Parts:
    """Finished parts of a job: encoded texts and mined blocks.

    Parameters
    ----------
    output : Path
        The file that the job will write; the folder has its name and ``.parts``.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self._plan = self.folder / "job.json"

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
            If there are parts and neither is asked for, or they are of another job.
        """
        if restart:
            self.remove()
        if self._plan.exists():
            self._check(plan, resume=resume)
            return
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InvalidValueError(
                f"--output must be in a folder that can be written, got {self.folder.parent} ({error.strerror}); name "
                "another"
            ) from error
        write_json(self._plan, plan)

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
        """Remove the folder, if it is there."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
