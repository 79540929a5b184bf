"""`negfast demo` from its arguments to its files.

Pairs of docstring and code are gathered from the Python installation, encoded, mined, compared with brute
force, shown and written to files.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import negfast
from negfast import threads
from negfast.cli.demo import files, learn, report
from negfast.cli.demo.brute_force import Comparison, compare
from negfast.cli.demo.curves import draw_curves
from negfast.cli.demo.held_out import of_code
from negfast.cli.demo.installed_code import InstalledCode, gather
from negfast.cli.encoding import encode_all, encoder_for
from negfast.cli.options import natural, positive
from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen
from negfast.errors import InvalidValueError
from negfast.files.writers import write_json
from negfast.results import MinedNegatives
from negfast.settings import draw_to_dict

DEFAULT_LIMIT = 25_000
DEFAULT_LIMIT_WITH_MODEL = 2_000  # a transformer on a CPU takes tens of milliseconds per text
DEFAULT_NEGATIVES = 8
DEFAULT_EPOCHS = 8
DEFAULT_OUTPUT = Path("negfast-demo")
COMPARED_QUERIES = 4096
COMPARED_K = 100

# Drawn from a window with a taste for the best rows, one list holds all three tiers more often than the best
# rows alone do. Rows above .95 are near-copies: with this encoder they differ in a name or a number.
RULES = negfast.Rules(relative_margin=0.05, duplicate_of_positive=0.95, distinct=0.95)
DRAW = negfast.Softmax(temperature=0.05)

_Floats = npt.NDArray[np.float32]


@dataclass
class _Stages:
    """Seconds of each stage, by name."""

    shown: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measured(self, name: str, total: int | None) -> Iterator[Callable[[int], None]]:
        start = time.perf_counter()
        with Progress(name, total, shown=self.shown) as progress:
            yield progress
        self.seconds[name] = time.perf_counter() - start


def add_command(commands: Any) -> None:  # argparse has no public name for the type of its subparsers
    """Add `negfast demo` to the commands.

    Parameters
    ----------
    commands : action
        What `ArgumentParser.add_subparsers` returns.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="mine hard negatives on the documented functions of this Python installation",
        description="Gathers pairs (first sentence of a docstring, source of its function) from this Python "
        "installation and its packages, mines hard negatives for them, compares the search with brute force "
        "in numpy, and shows and writes the result. Code is read, never run, and nothing is downloaded.",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help=f"gather at most this many functions (default {DEFAULT_LIMIT:,}, "
        f"or {DEFAULT_LIMIT_WITH_MODEL:,} with --model)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="encode with this sentence-transformers model instead of the built-in encoder; slower, and may "
        "download it",
    )
    parser.add_argument(
        "--num-negatives", type=positive, metavar="K", help=f"negatives of each anchor (default {DEFAULT_NEGATIVES})"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help=f"folder for the files (default {DEFAULT_OUTPUT})",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="S",
        help="seed of the draw and of the anchors shown (default 0)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads to mine with (default: NEGFAST_NUM_THREADS, else all CPUs)",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="instead train a small encoder on the pairs, with the other passages of a batch as negatives and with all "
        "that negfast has, and compare both on modules that are held out; some minutes",
    )
    parser.add_argument("--epochs", type=positive, metavar="N", help=f"epochs of --train (default {DEFAULT_EPOCHS})")
    parser.add_argument("--quiet", action="store_true", help="write the files and print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo.

    Parameters
    ----------
    arguments : argparse.Namespace
        The options that `add_command` declares.

    Returns
    -------
    int
        Exit code 0; mistakes are raised.

    Raises
    ------
    InvalidValueError
        If options do not go together, there is no documented function to gather, or the output folder cannot be made.
    MissingExtraError
        If a model is asked for and sentence-transformers is not installed.
    """
    # What the user may have to mend is found out before the long work.
    arguments.threads = threads.resolve(arguments.threads)
    if arguments.limit is None:
        arguments.limit = DEFAULT_LIMIT if arguments.model is None else DEFAULT_LIMIT_WITH_MODEL
    _check_together(arguments)
    if arguments.train:
        learn.check_torch()
    encoder = encoder_for(arguments.model)
    _make_folder(arguments.output)
    screen = Screen(quiet=arguments.quiet)
    stages = _Stages(shown=is_progress_wanted(arguments.quiet))

    with stages.measured("gather", arguments.limit) as progress:
        code = gather(arguments.limit, progress=progress)
    if not len(code):
        raise InvalidValueError("this Python installation holds no documented function; run the demo with another one")
    report.show_pairs(screen, code, stages.seconds["gather"])
    if arguments.train:
        _train(arguments, screen, code, stages)
        return 0
    with stages.measured("encode", 2 * len(code)) as progress:
        encoder.fit([*code.queries, *code.passages])
        queries = encode_all(encoder, code.queries, progress, prompt=None, queries=True)
        corpus = encode_all(encoder, code.passages, progress, prompt=None, queries=False)
    report.show_encoding(screen, arguments.model, corpus.shape[1], stages.seconds["encode"])
    start = time.perf_counter()
    mined = _mine(code, queries, corpus, arguments)  # has a bar of its own
    stages.seconds["mine"] = time.perf_counter() - start
    report.show_mining(screen, mined, stages.seconds["mine"])
    with stages.measured("compare", None):
        comparison = _compare(queries, corpus, arguments.threads, arguments.seed)
    report.show_comparison(screen, comparison)
    report.show_suspects(screen, mined, code)
    report.show_sample(screen, mined, code, seed=arguments.seed)
    _write(arguments, screen, code, mined, comparison, stages)
    return 0


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that would do nothing, and put in what was left out."""
    idle = ("model", "num_negatives") if arguments.train else ("epochs",)
    for name in idle:
        if getattr(arguments, name) is not None:
            option, other = f"--{name.replace('_', '-')}", "with" if arguments.train else "without"
            raise InvalidValueError(
                f"{option} must be left out {other} --train, which it says nothing to; leave it out"
            )
    arguments.num_negatives = arguments.num_negatives or DEFAULT_NEGATIVES
    arguments.epochs = arguments.epochs or DEFAULT_EPOCHS


def _train(arguments: argparse.Namespace, screen: Screen, code: InstalledCode, stages: _Stages) -> None:
    folder: Path = arguments.output
    benchmark = of_code(code)
    learn.check_pairs(benchmark)
    with stages.measured("train", 2 * arguments.epochs) as progress:
        learned = learn.learn(
            benchmark,
            epochs=arguments.epochs,
            seed=arguments.seed,
            n_threads=arguments.threads,
            progress=progress,
        )
    learn.show_learning(screen, benchmark, learned)
    with stages.measured("write", None):
        curves = {name: method.curve for name, method in learned.items()}
        drawn = draw_curves(folder / "curves.png", curves)
        write_json(folder / "training.json", {name: [one._asdict() for one in curve] for name, curve in curves.items()})
    learn.show_files(screen, folder, drawn=drawn)
    files.write_text(folder / "training.txt", screen.text)


def _mine(code: InstalledCode, queries: _Floats, corpus: _Floats, arguments: argparse.Namespace) -> MinedNegatives:
    modules = negfast.content_keys(code.modules)
    keys = negfast.content_keys([code.queries, code.passages])  # (n, 2): a copy of either text is a false negative
    return negfast.mine(
        queries,
        corpus,
        np.arange(len(code)),
        num_negatives=arguments.num_negatives,
        groups=(modules, modules),
        keys=(keys, keys),
        rules=RULES,
        draw=DRAW,
        seed=arguments.seed,
        n_threads=arguments.threads,
        progress=is_progress_wanted(arguments.quiet),
    )


def _compare(queries: _Floats, corpus: _Floats, n_threads: int, seed: int) -> Comparison:
    n = min(COMPARED_QUERIES, len(queries))
    chosen = np.sort(np.random.default_rng(seed).choice(len(queries), n, replace=False))
    return compare(_unit(queries[chosen]), _unit(corpus), k=min(COMPARED_K, len(corpus)), n_threads=n_threads)


def _unit(rows: _Floats) -> _Floats:
    """Return the rows at length 1, as a plain search for cosines wants them; models may give others."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: _Floats = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return unit


def _write(
    arguments: argparse.Namespace,
    screen: Screen,
    code: InstalledCode,
    mined: MinedNegatives,
    comparison: Comparison,
    stages: _Stages,
) -> None:
    folder: Path = arguments.output
    with stages.measured("write", None):
        files.write_pairs(folder / "pairs.jsonl", code)
        files.write_negatives(folder / "negatives.jsonl", mined, code)
        mined.save(folder / "mined.safetensors")
    report.show_files(screen, folder, stages.seconds)
    files.write_text(folder / "report.txt", screen.text)
    options = {"model": arguments.model, "limit": arguments.limit, "num_negatives": arguments.num_negatives}
    options |= {"seed": arguments.seed, "rules": RULES.to_dict(), "draw": draw_to_dict(DRAW)}
    files.write_report(folder / "report.json", mined, code, comparison, options, stages.seconds)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValueError(
            f"--output must be a folder that can be made, got {folder} ({error.strerror}); name another path"
        ) from error
