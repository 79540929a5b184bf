"""What is kept of a plan: tables as text, markdown and JSON, and pictures."""

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quality import report, tables
from quality.arms import BASE

TABLES = {
    "strict": lambda results: report.retrieval(results, "strict"),
    "group-aware": lambda results: report.retrieval(results, "group-aware"),
    "embeddings": report.embeddings,
    "costs": report.costs,
}


@dataclass
class Record:
    """Collects the tables of a plan and writes them to a folder.

    Attributes
    ----------
    chosen : what was chosen on the dev part, and by what numbers
    """

    folder: Path
    plan: str
    command: str
    versions: dict[str, str]
    budget: list[str]
    chosen: dict[str, Any] = field(default_factory=dict)
    _stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, about: dict[str, Any], results: report.Results) -> None:
        made = {kind: make(results) for kind, make in TABLES.items()}
        self._stages[name] = {"about": about, "tables": made, "curves": report.curves(results)}

    def write(self) -> str:
        """Write everything, and return it as text."""
        from quality import plots

        self.folder.mkdir(parents=True, exist_ok=True)
        text, marked = (self._page(form) for form in ("text", "markdown"))
        (self.folder / f"{self.plan}.txt").write_text(text + "\n", encoding="utf-8")
        (self.folder / f"{self.plan}.md").write_text(marked + "\n", encoding="utf-8")
        plain = {**self._head(), "stages": self._stages}
        (self.folder / f"{self.plan}.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        for name, stage in self._stages.items():
            plots.write(self.folder, f"{self.plan}-{name}", stage["tables"], stage["curves"], BASE)
        return text

    def _head(self) -> dict[str, Any]:
        machine = {"processors": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
        return {
            "command": self.command, "date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": self.versions,
            "budget": self.budget, "chosen": self.chosen,
        }  # fmt: skip

    def _page(self, form: str) -> str:
        head = self._head()
        marked = form == "markdown"
        lines = [f"    $ {self.command}" if marked else f"$ {self.command}", ""]
        lines += [f"{head['date']}; {head['machine']['processors']} processors, {head['machine']['system']}"]
        lines += [", ".join(f"{name} {version}" for name, version in self.versions.items()), "", *self.budget, ""]
        lines += [f"{name}: {json.dumps(value)}" for name, value in self.chosen.items()]
        for name, stage in self._stages.items():
            lines += ["", f"## {name}" if marked else name.upper(), "", _about(stage["about"])]
            for kind, rows in stage["tables"].items():
                lines += ["", f"### {kind}" if marked else kind, "", tables.NOTES[kind], ""]
                lines.append(tables.markdown(rows) if marked else tables.text(rows))
        return "\n".join(lines)


def _about(about: dict[str, Any]) -> str:
    settings = about["settings"]
    longer = ""
    if about["longer"] is not None:
        longer = (
            f"; the whole pipeline took {about['whole takes']:.1f} times as long as the in-batch arm, which trains "
            f"{about['longer']:g} times as many epochs for equal seconds"
        )
    return (
        f"{about['pairs']:,} training pairs of {about['data']}, {settings['epochs']} epochs of batches of "
        f"{settings['batch_size']}, temperature {settings['temperature']:g}, {about['seeds']} seeds; "
        f"{about['questions']:,} questions of the {about['part']} part, {about['corpus']:,} passages; "
        f"{settings['encoder']['kind']} encoder; data {about['fingerprint']}{longer}"
    )
