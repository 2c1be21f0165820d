"""A scorer's options are its dataclass fields; here they become arguments and back."""

from __future__ import annotations

from argparse import BooleanOptionalAction, Namespace, _ActionsContainer
from collections.abc import Mapping
from dataclasses import Field, asdict, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cache.errors import AsdError
from index.scorer import Scorer

Option = str | int | float | bool


def option(default: Any, text: str, *, least: float | None = None) -> Any:
    """Declare a field that is an option.

    Parameters
    ----------
    default
        The published default.
    text
        What ``--help`` says.
    least
        Smallest value it may have.
    """
    return field(default=default, metadata={"help": text, "least": least})


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
        least = known[name].metadata["least"]
        if least is not None and not float(value) >= least:
            raise AsdError(f"--{name.replace('_', '-')} {value} must be at least {least}")
    return scorer(**values)


def from_arguments(scorer: type[Scorer], args: Namespace) -> Scorer:
    """Build the scorer that parsed arguments describe."""
    return make(scorer, {item.name: getattr(args, item.name) for item in _options(scorer)})


def options_of(scorer: Scorer) -> dict[str, Option]:
    """Option to value."""
    return asdict(scorer)  # type: ignore[call-overload, no-any-return]


def _options(scorer: type[Scorer]) -> list[Field[Any]]:
    return [item for item in fields(scorer) if "help" in item.metadata]  # type: ignore[arg-type]
