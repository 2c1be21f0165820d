"""The one exception a user may cause, and what a command line does with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import wraps
from typing import Protocol

_SHOWN = 10  # items of a kind that are named before the rest is counted


class Main(Protocol):
    """A command line's entry point: arguments (the process's own by default) to exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the command and return the process's exit code."""


class AsdError(Exception):
    """Something the user can put right.

    Its text names the file or value seen, what was expected, and the remedy.
    """


def tell_some(kind: str, items: Sequence[object]) -> None:
    """Name the first items on stderr, a line each, and count the rest.

    Parameters
    ----------
    kind
        What they are: ``left out``, ``warning``.
    items
        Any number.
    """
    for item in items[:_SHOWN]:
        sys.stderr.write(f"{kind}: {item}\n")
    if len(items) > _SHOWN:
        sys.stderr.write(f"{kind}: and {len(items) - _SHOWN} more\n")


def listing(items: Sequence[object]) -> str:
    """Name the first items, a comma between, and count the rest; ``nothing`` where there is none.

    Parameters
    ----------
    items
        Any number.
    """
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return (", ".join(map(str, items[:_SHOWN])) or "nothing") + rest


def guarded(main: Main) -> Main:
    """Turn what a user can put right into one line on stderr and exit code 2.

    Parameters
    ----------
    main
        A command line's entry point.

    Returns
    -------
    Main
        The same entry point; every other exception still ends with its traceback.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except AsdError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write(
                "stopped; what is finished stays, the same command goes on from there\n"
            )
            return 130
        except BrokenPipeError:
            # Who reads the output has read enough, `head` for instance. Python flushes once more
            # at the end; that must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1

    return run
