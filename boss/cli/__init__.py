"""`boss-study`: reads its arguments, calls one command, returns an exit code.

Each command is a file of this folder, listed in COMMANDS: `HELP`, `add_arguments(parser)` and
`run(arguments) -> exit code`. Torch is imported only in child processes, pandas only by commands
that read tables, so that help and lists appear at once.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from boss.cli.words import PROGRAM
from boss.errors import InputError

COMMANDS = (
    *("list", "run", "status", "report", "publish"),
    *("data", "select", "refine", "bench"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code.

    0: done (also: stopped by --time-limit); 1: runs failed; 2: wrong input, one line says what;
    130 or 143: stopped by Ctrl-C or SIGTERM, checkpoints written.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that a terminal lacks become escapes
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    try:
        arguments = make_parser(argv).parse_args(argv)
        return int(arguments.run(arguments))
    except InputError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output (`| head`) has gone
        sys.stderr.close()
        return 0
    except OSError as error:  # a name that is too long, for example
        if error.filename is None:
            raise
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of the commands only those named in `argv` get their arguments, to save time."""
    parser = _Parser(prog=PROGRAM, description="Run one-shot learning studies and report them.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"boss.cli.{name}")
        subparser = commands.add_parser(name, help=command.HELP)
        subparser.set_defaults(run=command.run)
        if name in argv:
            command.add_arguments(subparser)
    return parser


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are wrong input: one line, no usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")
