"""Scorers as text, and the scorer whose options a command line takes."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from cache.base.options import parse
from index.scorer import DEFAULT, Scorer, find


def parse_member(text: str) -> Scorer:
    """Build a scorer from text: ``name`` or ``name:option=value:option=value``.

    Raises
    ------
    AsdError
        If the scorer or an option is unknown or a value is not of its kind.
    """
    return parse(text, find)


def scorer_named_in(arguments: Sequence[str]) -> str:
    """Find the scorer that arguments name, for its own options are arguments too.

    Raises
    ------
    AsdError
        If there is none of that name.
    """
    chooser = ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--scorer", default=DEFAULT)
    name = str(chooser.parse_known_args(arguments)[0].scorer).partition(":")[0]
    find(name)
    return name
