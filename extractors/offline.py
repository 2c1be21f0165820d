"""Whether anything may be fetched, and what is said where it may not."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any, Protocol

from cache.options import option

VARIABLE = "ASD_OFFLINE"
# What Hugging Face's libraries read, once, when they are imported.
_HUB_VARIABLE = "HF_HUB_OFFLINE"
_NO = ("", "0", "false", "no", "off")


class _Request(Protocol):
    @property
    def offline(self) -> bool: ...


def offline_option() -> Any:
    """Declare ``--offline``, the same in every request."""
    return option(False, f"fetch nothing, say what to bring instead (also: {VARIABLE}=1)")


def add_offline(parser: ArgumentParser) -> None:
    """Give a command line the option ``--offline``; hand what was parsed to `apply_offline`."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"fetch nothing, say what to bring instead (also: {VARIABLE}=1)",
    )


def apply_offline(args: _Request) -> None:
    """Fetch nothing from here on, in this process and those it starts, where that is asked for.

    The environment is where Hugging Face's libraries look too, so that is where it stands; call it
    before any of them is imported.

    Parameters
    ----------
    args
        A request, or what a parser that went through `add_offline` parsed.
    """
    if args.offline or is_offline():
        os.environ[VARIABLE] = os.environ[_HUB_VARIABLE] = "1"


def is_offline() -> bool:
    """Tell whether fetching is forbidden, by ``--offline`` or by the environment."""
    return os.environ.get(VARIABLE, "").lower() not in _NO
