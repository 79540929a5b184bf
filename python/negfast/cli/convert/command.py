"""`negfast convert`: reads training data in one format and writes it in another."""

import argparse
from pathlib import Path
from typing import Any

from negfast.cli.convert.sources import SOURCES, check_source, read_paths
from negfast.cli.convert.targets import TARGETS, check_target, refuse_to_overwrite
from negfast.cli.options import natural
from negfast.cli.progress import Progress, is_progress_wanted
from negfast.cli.screen import Screen
from negfast.errors import InvalidValueError
from negfast.formats import RetrievalData, read_trec_run


def add_command(commands: Any) -> None:  # argparse has no public name for the type of its subparsers
    """Add `negfast convert` to the commands.

    Parameters
    ----------
    commands : action
        What `ArgumentParser.add_subparsers` returns.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="bring mined negatives, or other training data, into another format",
        description="Reads what `negfast mine` wrote, with the tables that its recipe names, or training data in the "
        "format of another library, and writes it in another. Queries, rows, positives, negatives, ids and scores are "
        "kept as far as the format has a place for them.",
    )
    parser.add_argument("input", type=Path, metavar="INPUT", help="file or folder, by its format")
    parser.add_argument(
        "--from", dest="source", choices=SOURCES, default="mined", help="format of INPUT (default: mined)"
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="PATH", help="corpus of INPUT: a file of tevatron, a folder of nemo"
    )
    parser.add_argument("--split", metavar="NAME", help='split of beir, on either side (default "train")')
    parser.add_argument(
        "--run", dest="run_file", type=Path, metavar="FILE", help="take negatives from this TREC run, by id"
    )
    parser.add_argument(
        "--least-negatives", type=natural, metavar="N", help="leave out queries with fewer, or without a positive"
    )
    parser.add_argument("--to", dest="target", choices=TARGETS, required=True, help="format of the output")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PATH", help="file or folder, by its format"
    )
    parser.add_argument(
        "--corpus-output",
        type=Path,
        metavar="PATH",
        help="corpus beside the output: a file of tevatron and tables, a folder of nemo",
    )
    parser.add_argument("--quiet", action="store_true", help="write the files and print nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert.

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
    check_source(arguments)
    check_target(arguments)
    if arguments.split is not None and "beir" not in (arguments.source, arguments.target):
        raise InvalidValueError("--split must be given with beir, got it with other formats; leave it out")
    refuse_to_overwrite(arguments, read_paths(arguments))
    with Progress("read", None, shown=is_progress_wanted(arguments.quiet)):
        whole = SOURCES[arguments.source](arguments)
        if arguments.run_file is not None:
            whole = whole.with_negatives(read_trec_run(arguments.run_file))
    data = whole if arguments.least_negatives is None else whole.usable(arguments.least_negatives)
    with Progress("write", None, shown=is_progress_wanted(arguments.quiet)):
        TARGETS[arguments.target](arguments, data)
    _show(Screen(quiet=arguments.quiet), arguments, whole, data)
    return 0


def _show(screen: Screen, arguments: argparse.Namespace, whole: RetrievalData, data: RetrievalData) -> None:
    screen.line(
        f"{len(data):,} queries, {len(data.corpus):,} corpus rows, {data.positives[1].size:,} positives, "
        f"{data.negatives[1].size:,} negatives",
        "bold",
    )
    if len(data) < len(whole):
        screen.prose(f"{len(whole) - len(data):,} queries are left out.")
    paths = (arguments.output, arguments.corpus_output)
    screen.rows([(str(path), arguments.target) for path in paths if path is not None])
