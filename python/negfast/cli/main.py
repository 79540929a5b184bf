"""The `negfast` command: reads the arguments and starts a subcommand; mistakes end in one clear line."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import negfast
from negfast.cli import near_duplicates, refresh
from negfast.cli.convert import command as convert
from negfast.cli.demo import command as demo
from negfast.cli.mine import command as mine
from negfast.errors import NegfastError

EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count
EXIT_TERMINATED = 143  # 128 + SIGTERM


class _Terminated(KeyboardInterrupt):
    """The process was told to end."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_MISTAKE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the command's name; by default those of this process.

    Returns
    -------
    int
        Exit code: 0, 2 after a mistake that the user can mend, 130 after Ctrl-C, 143 after SIGTERM.
    """
    parsed = _parser().parse_args(arguments)
    try:
        with _tidy_when_terminated():
            code: int = parsed.run(parsed)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has left, as `| head` does. The interpreter flushes once more when it ends,
        # which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NegfastError, OSError) as error:
        sys.stderr.write(f"negfast: {_line(error)}\n")
        return EXIT_MISTAKE
    except _Terminated:
        sys.stderr.write("\nnegfast: terminated\n")
        return EXIT_TERMINATED
    except KeyboardInterrupt:
        sys.stderr.write("\nnegfast: interrupted\n")
        return EXIT_INTERRUPTED
    return code


@contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """Let SIGTERM, with which schedulers end a job, end it as Ctrl-C does: without half-written files."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # only that may have signals
        yield
        return
    earlier = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _line(error: Exception) -> str:
    """Return what an error says on one line; of an error of the system, which file and why."""
    named = isinstance(error, OSError) and error.filename is not None and error.strerror is not None
    text = f"{error.filename}: {error.strerror}" if named and isinstance(error, OSError) else str(error)
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="negfast", description="Hard negatives for contrastive training: mined exactly, under rules.")
    parser.add_argument("--version", action="version", version=f"negfast {negfast.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    mine.add_command(commands)
    refresh.add_command(commands)
    near_duplicates.add_command(commands)
    convert.add_command(commands)
    demo.add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
