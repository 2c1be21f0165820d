"""Whether anything may be fetched, and what is said where it may not."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from cache.places import OFFLINE, check_reachable, is_offline

__all__ = ["VARIABLE", "add_offline", "apply_offline", "is_offline"]

VARIABLE = OFFLINE
# What Hugging Face's libraries read, once, when they are imported.
_HUB_VARIABLE = "HF_HUB_OFFLINE"


def add_offline(parser: ArgumentParser) -> None:
    """Give a command line the option ``--offline``; hand what was parsed to `apply_offline`."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"ask no address, say what to bring instead (also: {VARIABLE}=1)",
    )


def apply_offline(args: Namespace) -> None:
    """Ask no address from here on, in this process and those it starts, where that is asked for.

    The environment is where Hugging Face's libraries look too, so that is where it stands; call it
    before any of them is imported.

    Parameters
    ----------
    args
        Of a parser that went through `add_offline`.

    Raises
    ------
    AsdError
        If an argument is a place that would have to be asked.
    """
    if args.offline or is_offline():
        os.environ[VARIABLE] = os.environ[_HUB_VARIABLE] = "1"
        for value in vars(args).values():
            for one in value if isinstance(value, list | tuple) else (value,):
                if hasattr(one, "protocol"):
                    check_reachable(one)
