"""A plan carried out: what is chosen on the dev part, and which runs make which table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quality import data, report
from quality.arms import ARMS, BASE, WHOLE, of_negfast
from quality.plans import LEADERS, LONGER, Plan, Stage
from quality.prepared import Prepared, load, prepare
from quality.record import Record
from quality.runner import Job, Runner
from quality.settings import Encoder, Run


@dataclass
class Experiment:
    """A plan that is carried out: what was chosen so far, and where results go.

    Attributes
    ----------
    temperatures : by encoder and data
    leaders : arms of negfast that did best on the dev part
    """

    plan: Plan
    runner: Runner
    record: Record
    encoders: dict[str, Encoder]
    temperatures: dict[tuple[str, str], float] = field(default_factory=dict)
    leaders: tuple[str, ...] = ()
    _prepared: dict[tuple[str, str], tuple[Path, Prepared]] = field(default_factory=dict)

    def carry_out(self) -> None:
        for stage in self.plan.stages:
            if stage.temperatures:
                self.choose_temperatures(stage)
                continue
            found = {name: self.results(stage, name) for name in stage.data}
            for name, results in found.items():
                self.record.add(f"{stage.name}-{name}", self.about(stage, name, results), results)
            if stage.part == "dev":
                self.leaders = leading(found, self.plan.leaders)
                self.record.chosen["leaders"] = list(self.leaders)

    def choose_temperatures(self, stage: Stage) -> None:
        """Find the in-batch arm's best on the dev part; all arms train with it."""
        for name in stage.data:
            jobs = [self.job(stage, name, BASE, seed, temperature=temperature)
                    for temperature in stage.temperatures for seed in range(stage.seeds)]  # fmt: skip
            values = [np.mean(one["measured"]["retrieval"]["strict"]["nDCG@10"]) for one in self.runner.results(jobs)]
            means = np.reshape(values, (-1, stage.seeds)).mean(axis=1)
            self.temperatures[stage.encoder, name] = stage.temperatures[int(means.argmax())]
            self.record.chosen[f"temperature, {stage.encoder}, {name}"] = {
                "chosen": self.temperatures[stage.encoder, name],
                "nDCG@10 on dev": dict(zip(map(str, stage.temperatures), means.tolist(), strict=True)),
            }

    def results(self, stage: Stage, name: str) -> report.Results:
        """Return the runs of all arms on one data set, seed by seed so that a stop leaves whole seeds."""
        arms = [*self.arms(stage), *([LONGER] if stage.longer else [])]
        jobs = [self.job(stage, name, arm, seed) for seed in range(stage.seeds) for arm in arms]
        done = self.runner.results(jobs)
        by_arm = {arm: done[place :: len(arms)] for place, arm in enumerate(arms)}
        groups = self.prepared(stage, name)[1].split.groups
        return report.Results(by_arm, groups[done[0]["measured"]["questions"]])

    def arms(self, stage: Stage) -> list[str]:
        named = [one for arm in stage.arms for one in (self.leaders if arm == LEADERS else (arm,))]
        return list(dict.fromkeys(named))

    def job(self, stage: Stage, name: str, arm: str, seed: int, *, temperature: float | None = None) -> Job:
        folder, prepared = self.prepared(stage, name)
        epochs = stage.epochs
        if arm == LONGER:
            arm, epochs = BASE, round(epochs * (stage.longer or 1.0))
        run = Run(
            data=name,
            encoder=self.encoders[stage.encoder],
            arm=ARMS[arm],
            seed=seed,
            part=stage.part,
            most=stage.most,
            epochs=epochs,
            batch_size=stage.batch_size,
            temperature=temperature or self.temperatures.get((stage.encoder, name), 0.05),
            most_questions=stage.most_questions,
            most_corpus=stage.most_corpus,
            curve=stage.curve,
        )
        return Job(run, folder, prepared.fingerprint)

    def prepared(self, stage: Stage, name: str) -> tuple[Path, Prepared]:
        key = (stage.encoder, name)
        if key not in self._prepared:
            folder = prepare(name, data.SOURCES[name](), self.encoders[stage.encoder])
            self._prepared[key] = folder, load(folder)
        return self._prepared[key]

    def about(self, stage: Stage, name: str, results: report.Results) -> dict[str, Any]:
        """Return what a table is of."""
        first = next(iter(results.by_arm.values()))[0]
        split = self.prepared(stage, name)[1].split
        return {
            "stage": stage.name,
            "data": name,
            "fingerprint": self.prepared(stage, name)[1].fingerprint,
            "groups": len(np.unique(split.groups)),
            "pairs": first["measured"]["pairs"],
            "questions": len(first["measured"]["questions"]),
            "corpus": first["measured"]["corpus"],
            "part": stage.part,
            "seeds": stage.seeds,
            "longer": stage.longer,
            "whole takes": report.times_as_long(results, WHOLE),
            "settings": {key: value for key, value in first["run"].items() if key not in {"arm", "seed", "data"}},
            "arms": {arm: runs[0]["run"]["arm"] for arm, runs in results.by_arm.items()},
        }


def leading(found: dict[str, report.Results], n: int) -> tuple[str, ...]:
    """Return the arms of negfast, but the whole, with the highest mean nDCG@10 over all data sets."""
    arms = [arm for arm in next(iter(found.values())).by_arm if of_negfast(arm) and arm != WHOLE]

    def mean(arm: str) -> float:
        return float(np.mean([results.values(arm, "strict", "nDCG@10").mean() for results in found.values()]))

    return tuple(sorted(arms, key=mean, reverse=True)[:n])
