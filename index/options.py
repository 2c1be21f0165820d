"""A scorer's options as arguments of a command line and back."""

from __future__ import annotations

from argparse import BooleanOptionalAction, Namespace, _ActionsContainer
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cache.options import make, option_fields, option_names, parse
from index.scorer import Scorer, find


def add_options(parser: _ActionsContainer, scorer: type[Scorer]) -> None:
    """Add one argument an option to a parser; what the user leaves out stays out."""
    hints = get_type_hints(scorer)
    for item in option_fields(scorer):
        kind = hints[item.name]
        settings: dict[str, Any] = {"default": item.default}
        if kind is bool:
            settings["action"] = BooleanOptionalAction
        elif get_origin(kind) is Literal:
            settings["choices"] = get_args(kind)
        else:
            settings |= {"type": kind, "metavar": item.name.upper()}
        text = f"{item.metadata['help']} (default: %(default)s)"
        parser.add_argument(f"--{item.name.replace('_', '-')}", help=text, **settings)


def from_arguments(scorer: type[Scorer], args: Namespace) -> Scorer:
    """Build the scorer that parsed arguments describe."""
    return make(scorer, {name: getattr(args, name) for name in option_names(scorer)})


def parse_member(text: str) -> Scorer:
    """Build a scorer from text: ``name`` or ``name:option=value:option=value``.

    Raises
    ------
    AsdError
        If the scorer or an option is unknown or a value is not of its kind.
    """
    return parse(text, find)
