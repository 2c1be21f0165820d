"""Options: dataclass fields that say once what they may hold; made from values or from text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from cache.base.errors import AsdError

T = TypeVar("T")
REQUIRED: Any = MISSING  # an option without a default


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
Choices = Sequence[Any] | Callable[[], Sequence[Any]]


@dataclass(frozen=True)
class Meta:
    """What an option says of itself, its name, kind and default apart.

    Attributes
    ----------
    text
        Of the help; ``{choices}`` stands for what may be chosen.
    least, most
        Range of a number, ends included, or of both ends of a span.
    choices
        What may be chosen, or a function that lists it: called for a help page or a wrong value
        only.
    named
        Whether a value is ``NAME``, ``NAME:KEY=VALUE...`` or ``BACKBONE=NAME...``, of which the
        choices are the names.
    flag
        How a command line calls it; the field's name by default. Without dashes: by its place.
    metavar
        What stands for the value in the help.
    read
        Makes the value of text, where the field's kind does not say how.
    nargs
        Of a field that holds several values: ``+``, or ``*`` where none is meant as none.
    """

    text: str
    least: float = -math.inf
    most: float = math.inf
    choices: Choices | None = None
    named: bool = False
    flag: str = ""
    metavar: str = ""
    read: Callable[[str], Any] | None = None
    nargs: str = "+"

    def listed(self) -> list[Any]:
        """List what may be chosen; a function is called."""
        return list(self.choices() if callable(self.choices) else self.choices or ())


def option(default: Any, text: str, **meta: Any) -> Any:
    """Declare a field that is an option.

    Parameters
    ----------
    default
        The published default; `REQUIRED` where there is none.
    text
        What ``--help`` says; the default is added.
    **meta
        Of `Meta`.
    """
    metadata = {"option": Meta(text, **meta)}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def option_group(owner: type, title: str = "") -> Any:
    """Declare a field whose dataclass holds further options, shown under a title of their own."""
    return field(default_factory=owner, metadata={"group": title})


def option_fields(owner: type) -> list[Field[Any]]:
    """List the fields of a dataclass that are options."""
    return [item for item in fields(owner) if "option" in item.metadata]


def option_names(owner: type) -> list[str]:
    """List the options of a dataclass."""
    return [item.name for item in option_fields(owner)]


def options_of(made: Any) -> dict[str, Any]:
    """Option to value."""
    return {name: getattr(made, name) for name in option_names(type(made))}


def nearest(name: str, known: Sequence[object]) -> str:
    """Say which of the known names is nearest, ``; did you mean 'x'?``, or nothing."""
    near = get_close_matches(name, list(map(str, known)), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def make(owner: type[T], values: Mapping[str, Any], where: str = "--") -> T:
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
                f"{nearest(name, known)}"
            )
    check_ranges(owner, values, where)
    return owner(**values)


def check_ranges(owner: type, values: Mapping[str, Any], where: str = "") -> None:
    """Refuse options that are out of range; `where` as in `make`.

    Raises
    ------
    AsdError
        Naming the option, its value and its range.
    """
    known: dict[str, Meta] = {item.name: item.metadata["option"] for item in option_fields(owner)}
    for name, value in values.items():
        meta = known[name]
        for one in value if isinstance(value, tuple) and not isinstance(value, Span) else [value]:
            if isinstance(one, Span):
                fits = meta.least <= one.low <= one.high <= meta.most
            else:
                fits = not isinstance(one, int | float) or meta.least <= one <= meta.most
            if not fits:
                option_name = f"{where}{name.replace('_', '-')}"
                raise AsdError(f"{option_name} {one} must lie in [{meta.least}, {meta.most}]")


@dataclass(frozen=True)
class Options:
    """Options that are in range however they were made; else an `AsdError` is raised."""

    def __post_init__(self) -> None:
        for item in option_fields(type(self)):
            read, value = item.metadata["option"].read, getattr(self, item.name)
            if read is None or "Path" not in str(item.type):
                continue
            if isinstance(value, str):  # as a program may write a path
                value = (value,) if str(item.type).startswith("tuple") else read(value)
            if isinstance(value, tuple):
                value = tuple(read(one) if isinstance(one, str) else one for one in value)
            object.__setattr__(self, item.name, value)
        check_ranges(type(self), options_of(self))


def documented(owner: type[T]) -> type[T]:
    """Write a dataclass's options into its docstring, as numpydoc's attributes."""
    lines = []
    for item in fields(owner):  # type: ignore[arg-type]
        meta = item.metadata.get("option")
        text = meta.text.replace("{choices}", "one of those there are") if meta else None
        lines += [item.name, f"    {text or item.metadata.get('group') or 'See its class'}."]
    owner.__doc__ = "\n".join([owner.__doc__ or "", "", "Attributes", "----------", *lines])
    return owner


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
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        key = key.replace("-", "_")
        try:
            values[key] = value_of(hints.get(key, str), value)
        except ValueError as error:
            raise AsdError(f"{text!r}: {key} is {value!r}; expected {error}") from error
    return make(owner, values, f"{text.strip()!r}: ")


@dataclass(frozen=True)
class Kinds(Generic[T]):
    """A few classes of options that a user chooses from by name.

    Attributes
    ----------
    what
        They are, for messages.
    classes
        Name to class.
    """

    what: str
    classes: Mapping[str, type[T]]

    def names(self) -> list[str]:
        """Names to choose from."""
        return sorted(self.classes)

    def parse(self, text: str) -> T:
        """Read ``NAME[:option=value...]``.

        Raises
        ------
        AsdError
            If the name, an option or a value is unknown; the known ones are listed.
        """
        return parse(text, self._find)

    def _find(self, name: str) -> type[T]:
        if name not in self.classes:
            known = self.names()
            raise AsdError(
                f"unknown {self.what} {name!r}; known are {', '.join(known)}{nearest(name, known)}"
            )
        return self.classes[name]


def text_of(name: str, made: Any) -> str:
    """Write the text that `parse` reads, every option in it."""
    values = {k: str(v).lower() if isinstance(v, bool) else v for k, v in options_of(made).items()}
    return ":".join([name, *(f"{key}={value}" for key, value in values.items())])


def value_of(kind: Any, text: str) -> Any:
    """Read a value of a kind; a `ValueError` says what was expected."""
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError("true or false")
        return text == "true"
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(" or ".join(get_args(kind)))
        return text
    try:
        return Span.parse(text) if kind is Span else kind(text)
    except ValueError:
        raise ValueError("a number, or LOW..HIGH" if kind is Span else "a number") from None
