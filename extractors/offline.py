"""Whether anything may be fetched, and what is said where it may not."""

from __future__ import annotations

import os
from argparse import ArgumentParser

VARIABLE = "ASD_OFFLINE"
# What Hugging Face's libraries read, once, when they are imported.
_HUB_VARIABLE = "HF_HUB_OFFLINE"
_NO = ("", "0", "false", "no", "off")


def add_offline(parser: ArgumentParser) -> None:
    """Give a command line the option ``--offline``; hand its value to `go_offline`."""
    parser.add_argument(
        "--offline",
        action="store_true",
        help=f"fetch nothing, say what to bring instead (also: {VARIABLE}=1)",
    )


def go_offline() -> None:
    """Fetch nothing from here on, in this process and those it starts.

    The environment is where Hugging Face's libraries look too, so that is where it stands; call it
    before any of them is imported.
    """
    os.environ[VARIABLE] = os.environ[_HUB_VARIABLE] = "1"


def is_offline() -> bool:
    """Tell whether fetching is forbidden, by ``--offline`` or by the environment."""
    return os.environ.get(VARIABLE, "").lower() not in _NO
