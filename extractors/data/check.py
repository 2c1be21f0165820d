"""What data roots hold and what is wrong with it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from cache.errors import tell_some
from extractors.clips import list_clips


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command ``check``."""
    parser = subparsers.add_parser("check", help="say what data roots hold and what is wrong")
    parser.add_argument("roots", nargs="+", type=Path, metavar="ROOT", help="data roots")
    parser.set_defaults(call=_check)


def _check(args: Namespace) -> int:
    listing = list_clips(args.roots)
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    tell_some("left out", list(map(str, listing.faults)))
    sys.stdout.write(f"{len(listing.clips)} clips, {len(listing.faults)} left out\n")
    return 1 if listing.faults else 0
