"""`negfast mine`: reads tables and embeddings, mines block by block, writes negatives by id and as texts."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import negfast
from negfast import threads
from negfast.cli.encoding import Encoder, encoder_for
from negfast.cli.mine import outputs
from negfast.cli.mine.blocks import block_size, mine_blocks, mine_whole
from negfast.cli.mine.embed import encoded_matrices, given_matrices, given_sources, name_bad_row
from negfast.cli.mine.estimate import estimate
from negfast.cli.mine.job import BUILT_IN, Job, job_beside
from negfast.cli.mine.pairs import Pairs, read_pairs
from negfast.cli.mine.parts import Parts
from negfast.cli.mine.recipes import add_options, recipe_of
from negfast.cli.options import positive
from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen
from negfast.errors import InvalidValueError
from negfast.files.fingerprints import path_fingerprint
from negfast.files.tables import SUFFIXES
from negfast.files.writers import check_writable, write_json
from negfast.miner import Miner
from negfast.recipe import Recipe
from negfast.results import MinedNegatives

_OUTPUTS = ("output", "triplets", "n_tuples", "state")
_CHANGEABLE = (*_OUTPUTS, "block_size")
"""Fields of a recorded job that the command line may change; others make it another job."""
_MATRICES = ("queries", "corpus")


def add_command(commands: Any) -> None:  # argparse has no public name for the type of its subparsers
    """Add `negfast mine` to the commands.

    Parameters
    ----------
    commands : action
        What `ArgumentParser.add_subparsers` returns.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "mine",
        usage="negfast mine INPUT -o OUTPUT [options]\n       negfast mine --recipe FILE [options]",
        help="mine hard negatives for the pairs of a table",
        description="Reads pairs of anchor and positive from a .parquet or .jsonl file or a folder of BEIR, mines hard "
        "negatives among the positives of all pairs and the rows of a corpus file, and writes them by id, with "
        "scores, tiers and sources. Beside the output it writes the recipe, with which `negfast mine --recipe FILE` "
        "repeats the job, and a report.",
    )
    _add_data(parser)
    _add_outputs(parser)
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="start from these settings; without INPUT, repeat that job"
    )
    add_options(parser)
    parser.set_defaults(run=run)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("input", nargs="?", metavar="INPUT", help="table of pairs, .parquet or .jsonl, or folder of BEIR")
    for name, text in (
        ("anchor", 'column of anchors (default "anchor")'),
        ("positive", 'column of positives, texts or lists of texts (default "positive")'),
        ("group", "column of groups, whose rows are never each other's negatives"),
        ("id", "column of ids, one for each row (default: the number of the row)"),
        ("exclude", "column of texts, or lists of them, that the anchor must not get"),
    ):
        data.add_argument(f"--{name}", metavar="COLUMN", help=text)
    data.add_argument(
        "--split", metavar="NAME", help='judgements of a folder of BEIR that are its pairs (default "train")'
    )
    data.add_argument("--corpus", metavar="FILE", help="table of further rows that negatives are taken from")
    data.add_argument("--corpus-text", metavar="COLUMN", help='its column of texts (default "text")')
    data.add_argument("--corpus-group", metavar="COLUMN", help="its column of groups")
    data.add_argument("--corpus-id", metavar="COLUMN", help="its column of ids (default: the number of the row)")
    data.add_argument(
        "--forbidden", metavar="FILE", help="table of texts that are never negatives, such as held-out data"
    )
    data.add_argument("--forbidden-text", metavar="COLUMN", help='its column of texts (default "text")')
    rows = parser.add_argument_group("embeddings", "given, or made by an encoder")
    for side, table in (("anchor", "INPUT"), ("positive", "INPUT, each positive of a list"), ("corpus", "the corpus")):
        rows.add_argument(
            f"--{side}-embeddings",
            metavar="FILE",
            help=f".npy or .safetensors (FILE:TENSOR if it holds several), one row for each of {table}",
        )
    rows.add_argument(
        "--model", metavar="NAME", help=f"sentence-transformers model, by name or folder (default: {BUILT_IN})"
    )
    rows.add_argument("--anchor-prompt", metavar="TEXT", help="what the model is given before each anchor")
    rows.add_argument("--corpus-prompt", metavar="TEXT", help="what the model is given before each row of the corpus")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    out = parser.add_argument_group("output")
    out.add_argument(
        "-o", "--output", metavar="FILE", help="negatives by id, .parquet or .jsonl; replaced if it exists"
    )
    out.add_argument("--triplets", metavar="FILE", help="also write texts: anchor, positive, negative")
    out.add_argument("--n-tuples", metavar="FILE", help="also write texts: anchor, positive, negative_1 to negative_n")
    out.add_argument("--block-size", type=positive, metavar="N", help="anchors mined at a time (default: by sizes)")
    out.add_argument(
        "--state",
        metavar="FILE",
        help="also write what `negfast refresh` needs, .safetensors: embeddings, and more candidates than are served; "
        "all anchors are then mined in one call, so an interrupted job goes on with its embeddings alone",
    )
    earlier = out.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on with an interrupted job")
    earlier.add_argument("--restart", action="store_true", help="drop what an interrupted job has done")
    out.add_argument("--dry-run", action="store_true", help="say what the job would cost, and write nothing")
    out.add_argument(
        "--threads", type=positive, metavar="N", help="threads (default: NEGFAST_NUM_THREADS, else all CPUs)"
    )
    out.add_argument("--quiet", action="store_true", help="write the files and print nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run the job.

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
    recipe, job, recorded = _wanted(arguments)
    job.check()
    if not arguments.dry_run:
        _check_outputs(job)
    screen, shown = Screen(quiet=arguments.quiet), is_progress_wanted(arguments.quiet)
    with Progress("read", None, shown=shown):
        fingerprints = {name: path_fingerprint(path) for name, path in job.files().items()}
        _check_recorded(job, fingerprints, recorded, arguments.recipe)
        pairs = read_pairs(job)
    encoder = None if job.is_embedded else encoder_for(None if job.model == BUILT_IN else job.model)
    _show_job(screen, pairs, recipe, encoder)
    given = None if encoder is not None else given_sources(job, pairs)
    if arguments.dry_run:
        estimate(pairs, recipe, job, n_threads=n_threads, encoder=encoder, given=given).show(screen)
        return 0
    with Parts(Path(str(job.output)), keeps_rows=job.model != BUILT_IN) as parts:
        parts.open(_plan(recipe, job, fingerprints, encoder), resume=arguments.resume, restart=arguments.restart)
        mined, miner = _mined(job, recipe, pairs, encoder, parts, n_threads=n_threads, shown=shown)
        written = _write(job, recipe, mined, pairs, fingerprints, encoder)
        if miner is not None:
            written |= _write_state(Path(str(job.state)), miner, job, fingerprints)
        parts.remove()
    _show_result(screen, mined, written)
    _warn_of_other_rows(mined, recorded)
    return 0


def _wanted(arguments: argparse.Namespace) -> tuple[Recipe, Job, dict[str, Any]]:
    """Return the settings, the job, and what a recipe file recorded about that job's data."""
    start, recorded = Recipe(), None
    if arguments.recipe is not None:
        start, recorded = Recipe.load_with_job(arguments.recipe)
    recipe = recipe_of(arguments, start)
    given = {field.name: getattr(arguments, field.name) for field in fields(Job)}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.input is not None:
        return recipe, Job(**given), {}
    if recorded is None:
        raise InvalidValueError(
            "INPUT must be given, got none; name a table of pairs, or a --recipe that records a job"
        )
    fixed = [name for name in given if name not in _CHANGEABLE]
    if fixed:
        raise InvalidValueError(
            f"--{fixed[0].replace('_', '-')} must be given with INPUT, got it for the job of {arguments.recipe}; name "
            "the input file too"
        )
    job = Job.from_dict(recorded, arguments.recipe.parent, str(arguments.recipe))
    return recipe, replace(job, **given), recorded


def _check_outputs(job: Job) -> None:
    if job.output is None:
        raise InvalidValueError("--output must be given, got none; name a .parquet or .jsonl file")
    named: dict[Path, str] = {}
    for name in _OUTPUTS:
        value = getattr(job, name)
        if value is None:
            continue
        option, path = f"--{name.replace('_', '-')}", Path(value)
        check_writable(path, option, (".safetensors",) if name == "state" else SUFFIXES)
        final = Path(os.path.realpath(path))
        other = next(
            (read for read in job.files().values() if read.exists() and path.exists() and read.samefile(path)), None
        )
        if job.is_folder and final.is_relative_to(os.path.realpath(job.input)):  # whose bytes are part of the job
            raise InvalidValueError(f"{option} must be outside of the folder {job.input}, got {path}; name another")
        if other is not None or final in named:
            raise InvalidValueError(f"{option} must be a file of its own, got {path}, which the job uses; name another")
        named[final] = option
    for path in _beside(Path(job.output)):
        if path.is_dir():
            raise InvalidValueError(f"--output must leave {path} free for a file, got a folder there; name another")
    if job.state is not None and job_beside(Path(job.state)).is_dir():
        path = job_beside(Path(job.state))
        raise InvalidValueError(f"--state must leave {path} free for a file, got a folder there; name another")


def _beside(output: Path) -> tuple[Path, Path]:
    """Return where the recipe and the report go."""
    return output.with_name(f"{output.name}.recipe.json"), output.with_name(f"{output.name}.report.json")


def _check_recorded(job: Job, fingerprints: dict[str, str], recorded: dict[str, Any], recipe: Path | None) -> None:
    """Refuse other bytes than a recipe was made with: the job would not be repeated."""
    known = recorded.get("fingerprints")
    for name, value in fingerprints.items():
        if isinstance(known, dict) and known.get(name, value) != value:
            raise InvalidValueError(
                f"{getattr(job, name)} must be the file that {recipe} was made with (fingerprint {known[name]}), got "
                f"{value}; name INPUT to mine the new one with these settings"
            )


def _plan(recipe: Recipe, job: Job, fingerprints: dict[str, str], encoder: Encoder | None) -> dict[str, Any]:
    """Return what the parts of a job depend on."""
    return {
        "recipe": recipe.fingerprint,
        "job": {**job.to_dict(Path(str(job.output)).parent), **dict.fromkeys(("triplets", "n_tuples", "state"))},
        "input": fingerprints,
        "version": _versions(encoder),
    }


def _versions(encoder: Encoder | None) -> dict[str, str]:
    own = {"negfast": negfast.__version__, "numpy": np.__version__}
    return own if encoder is None else {**own, **encoder.versions}


def _mined(
    job: Job, recipe: Recipe, pairs: Pairs, encoder: Encoder | None, parts: Parts, *, n_threads: int, shown: bool
) -> tuple[MinedNegatives, Miner | None]:
    """Return what was mined, and the miner where its state is to be kept."""
    try:
        queries, corpus = _matrices(job, pairs, encoder, parts, shown=shown)
        if job.state is not None:
            with _mining(len(pairs.anchors), shown=shown) as progress:
                return mine_whole(pairs, queries, corpus, recipe=recipe, n_threads=n_threads, progress=progress)
        size = block_size(len(pairs.anchors), len(pairs.corpus), corpus.shape[1], recipe, job.block_size)
        with _mining(len(pairs.anchors), shown=shown) as progress:
            blocks = mine_blocks(
                pairs, queries, corpus, recipe=recipe, size=size, n_threads=n_threads, parts=parts, progress=progress
            )
            return blocks, None
    except InvalidValueError:
        name_bad_row(job)  # rows have other numbers in the file than in the search, where repeats are left out
        raise
    except KeyboardInterrupt:
        sys.stderr.write(f"\nwhat is finished is kept in {parts.folder}; add --resume to go on with it")
        raise


def _matrices(
    job: Job, pairs: Pairs, encoder: Encoder | None, parts: Parts, *, shown: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    if encoder is None:
        with Progress("copy", None, shown=shown):
            return given_matrices(job, pairs, parts.folder)
    with Progress("encode", len(pairs.anchors) + len(pairs.corpus), shown=shown) as progress:
        return encoded_matrices(job, pairs, encoder, parts.folder, progress)


@contextmanager
def _mining(n_anchors: int, *, shown: bool) -> Iterator[Callable[[float], None]]:
    """Show a bar over all anchors; it is told how many are done."""
    done = 0
    with Progress("mine", n_anchors, shown=shown) as bar:

        def tell(anchors: float) -> None:
            nonlocal done
            bar(int(anchors) - done)
            done = int(anchors)

        yield tell


def _write(
    job: Job,
    recipe: Recipe,
    mined: MinedNegatives,
    pairs: Pairs,
    fingerprints: dict[str, str],
    encoder: Encoder | None,
) -> dict[Path, str]:
    """Write all files, and return what each is."""
    output = Path(str(job.output))
    outputs.write_by_id(output, mined, pairs)
    written = {output: "negatives by id"}
    if job.triplets is not None:
        outputs.write_triplets(Path(job.triplets), mined, pairs)
        written[Path(job.triplets)] = "texts: anchor, positive, negative"
    if job.n_tuples is not None:
        short = outputs.write_n_tuples(Path(job.n_tuples), mined, pairs)
        left_out = f"; {short:,} pairs with fewer are left out" if short else ""
        written[Path(job.n_tuples)] = f"texts: anchor, positive, {recipe.num_negatives} negatives{left_out}"
    rows = {name: mined.fingerprints[name] for name in _MATRICES if name in mined.fingerprints}
    record = {
        **job.to_dict(output.parent),
        "fingerprints": fingerprints,
        "rows": rows,
        "versions": _versions(encoder),
    }
    recipe_path, report_path = _beside(output)
    write_json(recipe_path, {**recipe.to_dict(), "job": record})
    write_json(report_path, {**mined.report.to_dict(), "suspects": outputs.suspects_by_id(mined, pairs)})
    return {**written, recipe_path: "the recipe: repeats this job", report_path: "the report"}


def _write_state(path: Path, miner: Miner, job: Job, fingerprints: dict[str, str]) -> dict[Path, str]:
    """Write the state, and beside it which tables its rows come from; return what each file is."""
    # A state without its tables is one; a state with those of another is none.
    job_beside(path).unlink(missing_ok=True)
    miner.save(path)
    write_json(job_beside(path), {**job.to_dict(path.parent), "fingerprints": fingerprints})
    return {path: "the state, for negfast refresh", job_beside(path): "the tables of the state"}


def _show_job(screen: Screen, pairs: Pairs, recipe: Recipe, encoder: Encoder | None) -> None:
    anchors, corpus = pairs.anchors, pairs.corpus
    screen.line(f"{len(anchors):,} anchors, {len(corpus):,} corpus rows, {len(pairs.pairs):,} pairs", "bold")
    repeats = anchors.n_read - len(anchors), corpus.n_read - len(corpus)
    if any(repeats):
        screen.prose(f"Repeated texts are one row: {repeats[0]:,} of the anchors and {repeats[1]:,} of the corpus.")
    screen.prose("Embeddings are given." if encoder is None else f"Embeddings come from {encoder.description}.")
    for sentence in recipe.describe().splitlines():
        screen.prose(sentence)


def _show_result(screen: Screen, mined: MinedNegatives, written: dict[Path, str]) -> None:
    screen.heading("Report")
    screen.line(str(mined.report))
    screen.heading("Files")
    screen.rows([(str(path), text) for path, text in written.items()])


def _warn_of_other_rows(mined: MinedNegatives, recorded: dict[str, Any]) -> None:
    """Say so where a model did not give the rows that it gave when the recipe was written."""
    known = recorded.get("rows")
    for name in _MATRICES:
        if isinstance(known, dict) and known.get(name, mined.fingerprints.get(name)) != mined.fingerprints.get(name):
            sys.stderr.write(
                f"negfast: the {name} have other embeddings than in the recipe (another version of the model or its "
                "packages, or other hardware), so negatives may differ; keep embeddings in files to repeat a job bit "
                "for bit\n"
            )
