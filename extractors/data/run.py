"""Command line of the data sets; a command is one module with ``add_parser``."""

from __future__ import annotations

from collections.abc import Sequence

from cache.base.console import console_of, parser_of
from cache.base.errors import guarded
from extractors.data import check, fetch

# Each adds its sub-parser, whose default `call` takes the arguments and gives the exit code.
_COMMANDS = (check, fetch)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command on data sets.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where there is something to look at; 2 for a mistake in the call.
    """
    about = "Data sets: fetch public ones, see whether a folder is whole."
    parser = parser_of("extractors.data", about)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(argv)
    code: int = args.call(args, console_of(args))
    return code
