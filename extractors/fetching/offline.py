"""Whether anything may be fetched, and what is said where it may not."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from cache.base.options import option
from cache.files.places import OFFLINE, check_reachable, is_offline
from extractors.weights.place import keep_caches

__all__ = ["VARIABLE", "add_offline", "apply_offline", "is_offline", "offline_option"]

VARIABLE = OFFLINE
# What Hugging Face's libraries read, once, when they are imported.
_HUB_VARIABLE = "HF_HUB_OFFLINE"


class _Request(Protocol):
    @property
    def offline(self) -> bool: ...


def offline_option() -> Any:
    """Declare ``--offline``, the same in every request."""
    return option(False, f"ask no address, say what to bring instead (also: {VARIABLE}=1)")


def add_offline(parser: ArgumentParser) -> None:
    """Give a command line the option ``--offline``; hand what was parsed to `apply_offline`."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"ask no address, say what to bring instead (also: {VARIABLE}=1)",
    )


def apply_offline(args: _Request) -> None:
    """Ask no address from here on, in this process and those it starts, where that is asked for.

    What is fetched is kept where it can be, see `extractors.weights.place.keep_caches`.
    The environment is where Hugging Face's libraries look too, so that is where it stands; call it
    before any of them is imported.

    Parameters
    ----------
    args
        A request, or what a parser that went through `add_offline` parsed.

    Raises
    ------
    AsdError
        If it names a place in a store that would have to be asked.
    """
    keep_caches()
    if args.offline or is_offline():
        os.environ[VARIABLE] = os.environ[_HUB_VARIABLE] = "1"
        for place in _places(args):
            check_reachable(place)


def _places(value: object) -> Iterator[Path]:
    """Every place of a store in a request, and in what stands in it."""
    if is_dataclass(value) or isinstance(value, Namespace):
        for inner in vars(value).values():
            yield from _places(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _places(inner)
    elif hasattr(value, "protocol"):
        yield cast("Path", value)
