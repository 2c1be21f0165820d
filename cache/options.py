"""Options: the dataclass fields that have a text and a range; made from values or from text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from cache.errors import AsdError

T = TypeVar("T")


class Span(NamedTuple):
    """A range to draw from, ends included; as text ``LOW..HIGH``, or one number."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read ``LOW..HIGH`` or one number.

        Raises
        ------
        ValueError
            If it is neither.
        """
        low, dots, high = text.partition("..")
        return cls(float(low), float(high if dots else low))

    def __str__(self) -> str:
        return f"{self.low!r}..{self.high!r}"


Option = str | int | float | bool | Span


def option(default: Any, text: str, *, least: float = -math.inf, most: float = math.inf) -> Any:
    """Declare a field that is an option.

    Parameters
    ----------
    default
        The published default.
    text
        What ``--help`` says.
    least, most
        Range of a number, or of both ends of a span.
    """
    return field(default=default, metadata={"help": text, "least": least, "most": most})


def option_fields(owner: type) -> list[Field[Any]]:
    """List the fields of a dataclass that are options."""
    return [item for item in fields(owner) if "help" in item.metadata]


def option_names(owner: type) -> list[str]:
    """List the options of a dataclass."""
    return [item.name for item in option_fields(owner)]


def options_of(made: Any) -> dict[str, Any]:
    """Option to value."""
    return {name: getattr(made, name) for name in option_names(type(made))}


def make(owner: type[T], values: Mapping[str, Option], where: str = "--") -> T:
    """Build a dataclass from its options.

    Parameters
    ----------
    owner
        The class.
    values
        Option to value; those not named keep their default.
    where
        What stands before an option's name where the user wrote it.

    Raises
    ------
    AsdError
        If an option is unknown or out of range.
    """
    known = option_names(owner)
    for name in values:
        if name not in known:
            raise AsdError(
                f"{owner.__name__} has no option {name!r}; it has {', '.join(known) or 'none'}"
            )
    check_ranges(owner, values, where)
    return owner(**values)


def check_ranges(owner: type, values: Mapping[str, Option], where: str = "") -> None:
    """Refuse options that are out of range; `where` as in `make`.

    Raises
    ------
    AsdError
        Naming the option, its value and its range.
    """
    known = {item.name: item.metadata for item in option_fields(owner)}
    for name, value in values.items():
        least, most = known[name]["least"], known[name]["most"]
        if isinstance(value, Span):
            fits = least <= value.low <= value.high <= most
        else:
            fits = isinstance(value, str) or least <= value <= most
        if not fits:
            option_name = f"{where}{name.replace('_', '-')}"
            raise AsdError(f"{option_name} {value} must lie in [{least}, {most}]")


@dataclass(frozen=True)
class Checked:
    """Options that are in range however they were made; else an `AsdError` is raised."""

    def __post_init__(self) -> None:
        check_ranges(type(self), options_of(self))


def parse(text: str, find: Callable[[str], type[T]]) -> T:
    """Build a dataclass from text: ``name`` or ``name:option=value:option=value``.

    Parameters
    ----------
    text
        What the user wrote.
    find
        Name to class; raises an `AsdError` where there is none.

    Raises
    ------
    AsdError
        If the name or an option is unknown or a value is not of its kind.
    """
    name, *assignments = text.strip().split(":")
    owner = find(name)
    hints = get_type_hints(owner)
    values: dict[str, Option] = {}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        key = key.replace("-", "_")
        try:
            values[key] = _parsed(hints.get(key, str), value)
        except ValueError as error:
            raise AsdError(f"{text!r}: {key} is {value!r}; expected {error}") from error
    return make(owner, values, f"{text.strip()!r}: ")


def find_in(kinds: Mapping[str, type[T]], what: str) -> Callable[[str], type[T]]:
    """Make a look-up for `parse` of a few classes by name.

    Parameters
    ----------
    kinds
        Name to class.
    what
        They are, for the message.
    """

    def find(name: str) -> type[T]:
        if name not in kinds:
            raise AsdError(f"unknown {what} {name!r}; known are {', '.join(sorted(kinds))}")
        return kinds[name]

    return find


def text_of(name: str, made: Any) -> str:
    """Write the text that `parse` reads, every option in it."""
    return ":".join([name, *(f"{key}={_text(value)}" for key, value in options_of(made).items())])


def _text(value: Option) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        return Span.parse(value) if kind is Span else kind(value)
    except ValueError:
        raise ValueError("a number, or LOW..HIGH" if kind is Span else "a number") from None
