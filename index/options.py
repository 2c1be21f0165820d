"""A scorer's options are its dataclass fields; here they become arguments and back."""

from __future__ import annotations

import math
from argparse import BooleanOptionalAction, Namespace, _ActionsContainer
from collections.abc import Mapping
from dataclasses import Field, asdict, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cache.errors import AsdError
from index.scorer import Scorer, find

Option = str | int | float | bool


def option(default: Any, text: str, *, least: float = -math.inf, most: float = math.inf) -> Any:
    """Declare a field that is an option.

    Parameters
    ----------
    default
        The published default.
    text
        What ``--help`` says.
    least, most
        Range of a number.
    """
    return field(default=default, metadata={"help": text, "least": least, "most": most})


def add_options(parser: _ActionsContainer, scorer: type[Scorer]) -> None:
    """Add one argument an option to a parser; what the user leaves out stays out."""
    hints = get_type_hints(scorer)
    for item in _options(scorer):
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


def make(scorer: type[Scorer], values: Mapping[str, Option]) -> Scorer:
    """Build an unfitted scorer.

    Parameters
    ----------
    scorer
        The class.
    values
        Option to value; those not named keep their default.

    Raises
    ------
    AsdError
        If an option is unknown or out of range.
    """
    known = {item.name: item for item in _options(scorer)}
    for name, value in values.items():
        if name not in known:
            raise AsdError(
                f"{scorer.__name__} has no option {name!r}; it has {', '.join(known) or 'none'}"
            )
        least, most = known[name].metadata["least"], known[name].metadata["most"]
        if not isinstance(value, str) and not least <= value <= most:
            raise AsdError(f"--{name.replace('_', '-')} {value} must lie in [{least}, {most}]")
    return scorer(**values)


def from_arguments(scorer: type[Scorer], args: Namespace) -> Scorer:
    """Build the scorer that parsed arguments describe."""
    return make(scorer, {item.name: getattr(args, item.name) for item in _options(scorer)})


def option_names(scorer: type[Scorer]) -> list[str]:
    """List the options of a scorer."""
    return [item.name for item in _options(scorer)]


def options_of(scorer: Scorer) -> dict[str, Option]:
    """Option to value."""
    return asdict(scorer)  # type: ignore[call-overload, no-any-return]


def _options(scorer: type[Scorer]) -> list[Field[Any]]:
    return [item for item in fields(scorer) if "help" in item.metadata]  # type: ignore[arg-type]


def parse_member(text: str) -> Scorer:
    """Build a scorer from text: ``name`` or ``name:option=value:option=value``.

    Raises
    ------
    AsdError
        If the scorer or an option is unknown or a value is not of its kind.
    """
    name, *assignments = text.strip().split(":")
    scorer = find(name)
    hints = get_type_hints(scorer)
    values: dict[str, Option] = {}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        key = key.replace("-", "_")
        try:
            values[key] = _parsed(hints.get(key, str), value)
        except ValueError as error:
            raise AsdError(f"{text!r}: {key} is {value!r}; expected {error}") from error
    return make(scorer, values)


def _parsed(kind: Any, value: str) -> Option:
    if kind is bool:
        if value not in ("true", "false"):
            raise ValueError("true or false")
        return value == "true"
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(" or ".join(get_args(kind)))
        return value
    try:
        return kind(value)  # type: ignore[no-any-return]
    except ValueError:
        raise ValueError("a number") from None
