"""`negfast refresh`: mines again for the rows of a saved state, whose embeddings have moved."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negfast import inputs, threads
from negfast.arrays import Ints
from negfast.cli.mine import outputs
from negfast.cli.mine.embed import gathered
from negfast.cli.mine.job import Job, check_tables, job_beside
from negfast.cli.mine.pairs import Pairs, Texts, read_pairs
from negfast.cli.options import natural, positive
from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen
from negfast.errors import InvalidValueError, StateError
from negfast.files.embeddings import open_embeddings, refuse_bad_rows, tensor_of
from negfast.files.writers import check_writable, write_json
from negfast.miner import Miner
from negfast.results import MinedNegatives

_OUTPUTS = ("output", "triplets", "n_tuples")
_Sides = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class _Source:
    """Where the rows of a state come from: the tables of its job, or nothing but their numbers."""

    pairs: Pairs | None

    def rows(self, side: str, n_given: int) -> Ints:
        """Return which of the given rows are those of the state."""
        if self.pairs is None:
            return np.arange(n_given)
        texts = self.pairs.anchors if side == "queries" else self.pairs.corpus
        if n_given != texts.n_read:
            rows = "anchor" if side == "queries" else "row of the corpus file, then each positive,"
            raise InvalidValueError(
                f"--{side} must have one row for each {rows} of the tables: {texts.n_read:,}, got {n_given:,}; give "
                "the embeddings of the whole table"
            )
        return texts.rows


def add_command(commands: Any) -> None:  # argparse has no public name for the type of its subparsers
    """Add `negfast refresh` to the commands.

    Parameters
    ----------
    commands : action
        What `ArgumentParser.add_subparsers` returns.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "refresh",
        help="mine again with the embeddings of a later model",
        description="Mines again for the rows of a state, which `negfast mine --state` or Miner.save wrote, with new "
        "embeddings of the same rows: what it remembers makes that cheaper than mining anew. The state is replaced by "
        "that of the new embeddings.",
    )
    parser.add_argument(
        "--state", type=Path, required=True, metavar="FILE", help="the state; replaced when all is done"
    )
    parser.add_argument(
        "--queries", required=True, metavar="FILE", help="new embeddings of the anchors, .npy or .safetensors"
    )
    parser.add_argument(
        "--corpus",
        required=True,
        nargs="+",
        metavar="FILE",
        help="new embeddings of the corpus, .npy or .safetensors, in one file or in several, one after the other: the "
        "rows of the corpus file, then each positive",
    )
    parser.add_argument("--changed", type=Path, metavar="FILE", help=".npy of the only rows of the corpus that differ")
    parser.add_argument(
        "--ids",
        type=Path,
        nargs=2,
        metavar=("QUERIES", "CORPUS"),
        help=".npy of the ids of the rows, for a state without tables; by default their numbers",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="negatives by id, .parquet or .jsonl")
    parser.add_argument("--triplets", type=Path, metavar="FILE", help="texts: anchor, positive, negative")
    parser.add_argument(
        "--n-tuples", type=Path, metavar="FILE", help="texts: anchor, positive, negative_1 to negative_n"
    )
    parser.add_argument("--epoch", type=natural, metavar="E", help="names the draws (default: the one after the last)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads (default: NEGFAST_NUM_THREADS, else all CPUs)"
    )
    parser.add_argument("--quiet", action="store_true", help="write the files and print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Refresh the state.

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
    NegfastError, OSError
        If the user has something to mend.
    """
    # What may have to be mended is found out before the long work.
    n_threads = threads.resolve(arguments.threads)
    shown = is_progress_wanted(arguments.quiet)
    _check_outputs(arguments)
    with Progress("read", None, shown=shown):
        source = _source(arguments)
        miner = Miner.load(arguments.state, n_threads=n_threads)
    ids = None if arguments.ids is None else (_array(arguments.ids[0]), _array(arguments.ids[1]))
    with TemporaryDirectory(prefix=".negfast-", dir=arguments.state.parent) as folder:
        sides = _sides(arguments, source, Path(folder))
        mined = _refreshed(arguments, miner, source, sides, ids, shown=shown)
        del sides  # no file can be removed while it is mapped, on some systems
    written = _write(arguments, mined, source.pairs or _numbered(miner, mined, ids))
    # The state goes last: if anything before it fails, the same command can be given again.
    miner.save(arguments.state)
    _show(Screen(quiet=arguments.quiet), mined, {**written, arguments.state: "the state"})
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    read = [arguments.state, *(tensor_of(spec)[0] for spec in (arguments.queries, *arguments.corpus))]
    read += [path for path in (arguments.changed, *(arguments.ids or ())) if path is not None]
    for name in _OUTPUTS:
        path, option = getattr(arguments, name), f"--{name.replace('_', '-')}"
        if path is None:
            continue
        check_writable(path, option)
        others = [getattr(arguments, other) for other in _OUTPUTS if other != name]
        if path in others or any(path.exists() and other.exists() and path.samefile(other) for other in read):
            raise InvalidValueError(f"{option} must be a file of its own, got {path}, which is used; name another")


def _source(arguments: argparse.Namespace) -> _Source:
    """Return the tables that the job beside the state records, if there is one."""
    recorded = job_beside(arguments.state)
    if not recorded.exists():
        for option, value in (("--triplets", arguments.triplets), ("--n-tuples", arguments.n_tuples)):
            if value is not None:
                raise InvalidValueError(
                    f"{option} must be given with a state of `negfast mine --state`, which knows texts, got it for "
                    f"{arguments.state}, beside which there is no {recorded.name}; use --output"
                )
        return _Source(None)
    if arguments.ids is not None:
        raise InvalidValueError(
            f"--ids must be given for a state without tables, got it for {arguments.state}; leave it out: {recorded} "
            "knows the ids"
        )
    try:
        values = json.loads(recorded.read_text(encoding="utf-8"))
        known = dict(values["fingerprints"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"{recorded} is damaged: {error!r}; mine again") from error
    job = Job.from_dict(values, recorded.parent, str(recorded))
    # Embeddings and models are those of then, and need not be there any more.
    job = Job(**{**vars(job), "anchor_embeddings": None, "positive_embeddings": None, "corpus_embeddings": None})
    check_tables(job, known, arguments.state)
    return _Source(read_pairs(job))


def _sides(arguments: argparse.Namespace, source: _Source, folder: Path) -> _Sides:
    """Return the new embeddings of the state's rows."""
    queries = _gathered("queries", [arguments.queries], source, folder)
    return queries, _gathered("corpus", arguments.corpus, source, folder)


def _gathered(side: str, specs: Sequence[str], source: _Source, folder: Path) -> NDArray[Any]:
    opened = [open_embeddings(spec) for spec in specs]
    for spec, rows in zip(specs, opened, strict=True):
        if rows.shape[1] != opened[0].shape[1] or rows.dtype != opened[0].dtype:
            raise InvalidValueError(
                f"--{side} must be {opened[0].dtype} of width {opened[0].shape[1]}, as {specs[0]}, got {rows.dtype} of "
                f"width {rows.shape[1]} in {spec}; encode all texts with one model"
            )
    return gathered(opened, source.rows(side, sum(map(len, opened))), folder / f"{side}.npy")


def _refreshed(
    arguments: argparse.Namespace,
    miner: Miner,
    source: _Source,
    sides: _Sides,
    ids: tuple[Any, Any] | None,
    *,
    shown: bool,
) -> MinedNegatives:
    changed = None if arguments.changed is None else _changed(arguments.changed, source, len(sides[1]))
    try:
        return miner.refresh(*sides, changed=changed, ids=ids, epoch=arguments.epoch, progress=shown)
    except InvalidValueError:
        # Rows have other numbers in the files than in the search, where repeats are left out.
        for option, spec in [("--queries", arguments.queries), *(("--corpus", spec) for spec in arguments.corpus)]:
            refuse_bad_rows(option, spec)
        raise


def _changed(path: Path, source: _Source, n_corpus: int) -> Ints:
    """Return the rows of the state that a file names by their place in the tables."""
    if source.pairs is None:
        return np.flatnonzero(inputs.forbidden_mask(_array(path), n_corpus, "--changed"))
    corpus = source.pairs.corpus
    return np.flatnonzero(inputs.forbidden_mask(_array(path), corpus.n_read, "--changed")[corpus.rows])


def _array(path: Path) -> Any:
    """Read a small array; texts become a list of them."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StateError(f"{path} must be a .npy file of numbers or texts, got something else: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidValueError(f"{path} must be a .npy file, got an archive; save one array")
    return array.tolist() if array.dtype.kind == "U" else array


def _numbered(miner: Miner, mined: MinedNegatives, ids: tuple[Any, Any] | None) -> Pairs:
    """Return what a result is written with where there are no tables: ids or numbers, and positives."""
    n_corpus = mined.report.n_corpus
    names = (range(len(mined)), range(n_corpus)) if ids is None else ids
    anchors, corpus = (_named(side) for side in names)
    return Pairs(
        anchors=anchors,
        corpus=corpus,
        sources=np.zeros(n_corpus, np.uint8),
        n_corpus_file=n_corpus,
        positives=miner.positives,
        pairs=np.zeros((0, 2), np.int64),
        exclude=None,
        forbidden=None,
    )


def _named(names: Any) -> Texts:
    plain = names.tolist() if isinstance(names, np.ndarray) else list(names)
    none = np.zeros(0, np.int64)
    return Texts(texts=[], ids=plain, rows=none, n_read=len(plain), keys=none, groups=None)


def _write(arguments: argparse.Namespace, mined: MinedNegatives, pairs: Pairs) -> dict[Path, str]:
    """Write the files that are asked for, and return what each is."""
    written: dict[Path, str] = {}
    if arguments.output is not None:
        report = arguments.output.with_name(f"{arguments.output.name}.report.json")
        outputs.write_by_id(arguments.output, mined, pairs)
        write_json(report, {**mined.report.to_dict(), "suspects": outputs.suspects_by_id(mined, pairs)})
        written |= {arguments.output: "negatives by id", report: "the report"}
    if arguments.triplets is not None:
        outputs.write_triplets(arguments.triplets, mined, pairs)
        written[arguments.triplets] = "texts: anchor, positive, negative"
    if arguments.n_tuples is not None:
        short = outputs.write_n_tuples(arguments.n_tuples, mined, pairs)
        left_out = f"; {short:,} pairs with fewer are left out" if short else ""
        written[arguments.n_tuples] = f"texts: anchor, positive, {mined.recipe.num_negatives} negatives{left_out}"
    return written


def _show(screen: Screen, mined: MinedNegatives, written: dict[Path, str]) -> None:
    screen.heading("Report")
    screen.line(str(mined.report))
    screen.heading("Files")
    screen.rows([(str(path), text) for path, text in written.items()])
