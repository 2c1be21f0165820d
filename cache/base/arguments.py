"""Options as arguments of a command line and as keys of a TOML table, and back to a request."""

from __future__ import annotations

import math
from argparse import (
    SUPPRESS,
    Action,
    ArgumentParser,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
    _ActionsContainer,
)
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from cache.base.errors import AsdError
from cache.base.options import Meta, nearest, value_of

T = TypeVar("T")
_FEW = 6  # choices that a usage line lists itself


@dataclass(frozen=True)
class _Entry:
    """An option of a request, wherever in it it stands."""

    item: Field[Any]
    kind: Any
    several: bool

    @property
    def meta(self) -> Meta:
        meta: Meta = self.item.metadata["option"]
        return meta

    @property
    def flag(self) -> str:
        return self.meta.flag or f"--{self.item.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """Its name in a TOML table and among parsed arguments."""
        return self.flag.removeprefix("--").replace("-", "_").lower()

    @property
    def choices(self) -> list[Any]:
        return list(get_args(self.kind)) if get_origin(self.kind) is Literal else self.meta.listed()

    @property
    def metavar(self) -> str:
        fixed = None if callable(self.meta.choices) or self.meta.named else self.choices
        if self.meta.metavar or not fixed or len(fixed) > _FEW:
            return self.meta.metavar or self.key.upper()
        return f"{{{','.join(map(str, fixed))}}}"

    def help(self) -> str:
        """Text for a help page, with the choices and the default."""
        text, default = self.meta.text, self.item.default
        if "{choices}" in text:
            origins = [(choice, getattr(choice, "origin", "")) for choice in self.choices]
            shown = [f"{choice} (of {origin})" if origin else str(choice) for choice, origin in origins]
            text = text.replace("{choices}", ", ".join(shown))
        if "(default:" in text or default in (MISSING, None, (), "", False):
            return text
        told = ("yes" if default else "no") if isinstance(default, bool) else default
        told = " ".join(map(str, told)) if isinstance(told, tuple) else told
        told = f"{told:g}" if isinstance(told, float) else told
        return f"{text} (default: {told})".lstrip()

    def read(self, text: str) -> Any:
        """Read one value.

        Raises
        ------
        AsdError
            Naming the option, the value and what was expected.
        """
        if text is SUPPRESS:  # argparse reads the default of an argument that is told by its place
            return text
        if self.meta.read:
            return self.checked(self.meta.read(text), self.flag)
        kind = str if get_origin(self.kind) is Literal else self.kind
        try:
            value = value_of(kind, text)
        except ValueError:
            raise AsdError(f"{self.flag} {text}: expected {self.expected}") from None
        return self.checked(value, self.flag)

    @property
    def expected(self) -> str:
        """What a value must be."""
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        least, most = self.meta.least, self.meta.most
        low = f" from {least:g}" if least > -math.inf else ""
        high = f" to {most:g}" if most < math.inf else ""
        return f"{names.get(self.kind, 'a value')}{low}{high}"

    def checked(self, value: Any, where: str) -> Any:
        """Return a value that is in range and among the choices."""
        meta = self.meta
        if isinstance(value, int | float) and not meta.least <= value <= meta.most:
            raise AsdError(f"{where} {value:g}: expected {self.expected}")
        if meta.choices is None and get_origin(self.kind) is not Literal:
            return value
        name = str(value).partition(":")[0].rpartition("=")[2] if meta.named else value
        known = self.choices
        if name not in known:
            near = nearest(str(name), known)
            raise AsdError(f"{where} {name}: expected {' or '.join(map(str, known))}{near}")
        return value

    def of_table(self, value: Any, where: str) -> Any:
        """Read a value of a TOML table."""
        key = f"{where}{self.key}"
        values = value if self.several else [value]
        if not isinstance(values, list | tuple):
            raise AsdError(f"{key}: {value!r} is not a list of values")
        read = tuple(self._of_toml(each, key) for each in values)
        return read if self.several else read[0]

    def _of_toml(self, value: Any, key: str) -> Any:
        if isinstance(value, str) and self.meta.read:
            return self.checked(self.meta.read(value), key)
        if isinstance(value, str) and self.kind not in (int, float, bool):
            return self.checked(value, key)
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            raise AsdError(f"{key} {value!r}: expected {self.expected}")
        return self.checked(value, key)


def add_arguments(parser: _ActionsContainer, owner: type) -> None:
    """Add the options of a request, and of the groups in it, to a command line.

    What the user leaves out stays out of the namespace, see `from_arguments`. Help texts are made
    when a help page is: until then no function that lists choices is called.

    Parameters
    ----------
    parser
        A parser, or a group of one.
    owner
        A dataclass of options.
    """
    _add_all(parser, parser, owner)


def _add_all(root: _ActionsContainer, place: _ActionsContainer, owner: type) -> None:
    hints = get_type_hints(owner)
    for item in fields(owner):
        if "group" in item.metadata:
            title = item.metadata["group"]
            _add_all(root, root.add_argument_group(title) if title else place, hints[item.name])
        elif "option" in item.metadata:
            _add(place, _entry(item, hints[item.name]))


def _add(parser: _ActionsContainer, entry: _Entry) -> None:
    by_place = not entry.flag.startswith("-")
    settings: dict[str, Any] = {"default": SUPPRESS, "help": entry.meta.text.replace("%", "%%")}
    if not by_place:
        settings["dest"] = entry.key
    if entry.kind is bool and not entry.meta.read:
        settings["action"] = BooleanOptionalAction if entry.item.default else "store_true"
        if not entry.item.default:
            hidden: dict[str, Any] = {
                "action": "store_false",
                "default": SUPPRESS,
                "help": SUPPRESS,
            }
            parser.add_argument(f"--no-{entry.flag[2:]}", dest=entry.key, **hidden)
    else:
        settings |= {"type": entry.read, "metavar": entry.metavar}
        if by_place:
            optional, needed = ("*", "+") if entry.several else ("?", None)
            settings["nargs"] = needed if entry.item.default is MISSING else optional
        else:
            if entry.several:
                settings["nargs"] = entry.meta.nargs
            settings["required"] = entry.item.default is MISSING
    action = parser.add_argument(entry.key if by_place else entry.flag, **settings)
    action.entry = entry  # type: ignore[attr-defined]  # the help page is made of it


class _Help(RawDescriptionHelpFormatter):
    """Takes the text of an argument from its option, when the page is asked for."""

    def _get_help_string(self, action: Action) -> str | None:
        entry: _Entry | None = getattr(action, "entry", None)
        return action.help if entry is None else entry.help().replace("%", "%%")


class Parser(ArgumentParser):
    """A command line whose errors are one line and name what is nearest to a mistyped option."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Help, "allow_abbrev": False, **settings})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, all of them."""
        by_place = [action for action in self._actions if not action.option_strings]
        # Values may stand between options too, which argparse knows where there are no commands.
        mixed = by_place and not any(isinstance(action.choices, dict) for action in by_place)
        read = self.parse_known_intermixed_args if mixed else self.parse_known_args
        parsed, unknown = read(args, namespace)
        for name in [key for key, value in vars(parsed).items() if value == SUPPRESS]:
            delattr(parsed, name)  # what was left out by place, of which the other writes this
        if unknown:
            name = unknown[0].partition("=")[0]
            told = "option" if name.startswith("-") else "value"
            self.error(f"unknown {told} {name}{nearest(name, _flags(self)) or ';'} see --help")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong; a command ends with exit code 2."""
        raise AsdError(message.removeprefix("argument "))


def option_value(flag: str, arguments: Sequence[str], default: str) -> str:
    """Read one option before the others are known, because its value says which others there are."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", default=default)
    return str(parser.parse_known_args(arguments)[0].value)


def values_by_place(owners: Sequence[type], arguments: Sequence[str]) -> list[str]:
    """Read what no option takes, before it is known which of several requests is meant."""
    parser = Parser(add_help=False)
    for entry in (entry for owner in owners for entry in _entries(owner)):
        if entry.flag.startswith("-"):
            _add(parser, entry)
    parser.add_argument("values", nargs="*")
    return list(parser.parse_known_intermixed_args(arguments)[0].values)


def from_arguments(owner: type[T], args: Namespace) -> T:
    """Build the request that parsed arguments describe.

    Raises
    ------
    AsdError
        If the request itself refuses them.
    """
    return _built(owner, vars(args), lambda _, value: value)


def from_table(owner: type[T], table: Mapping[str, Any], where: str = "", **fixed: Any) -> T:
    """Build the request that a table of an experiment describes.

    Parameters
    ----------
    owner
        A dataclass of options.
    table
        Option, as on the command line but for the dashes, to value.
    where
        What stands before a key in messages, ``finetune.`` say.
    **fixed
        Options that the caller chooses; the table must not name them.

    Raises
    ------
    AsdError
        If a key is unknown, with the nearest known one, or a value is not of its kind.
    """
    known = [key for key in keys(owner) if key not in fixed]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, 1, 0.0)
            raise AsdError(f"unknown key {where}{key}; the nearest known key is {near[0]}")

    def read(entry: _Entry, value: Any) -> Any:
        return value if entry.key in fixed else entry.of_table(value, where)

    return _built(owner, {**table, **fixed}, read)


def keys(owner: type) -> list[str]:
    """List the keys of a table, the groups' among them."""
    return [entry.key for entry in _entries(owner)]


def _built(owner: type[T], given: Mapping[str, Any], read: Callable[[_Entry, Any], Any]) -> T:
    hints, values = get_type_hints(owner), {}
    for item in fields(owner):  # type: ignore[arg-type]
        if "group" in item.metadata:
            values[item.name] = _built(hints[item.name], given, read)
        elif "option" in item.metadata:
            entry = _entry(item, hints[item.name])
            if given.get(entry.key) is not None:
                value = read(entry, given[entry.key])
                values[item.name] = tuple(value) if entry.several else value
            elif item.default is MISSING:
                raise AsdError(f"{entry.flag} is needed: {entry.meta.text}")
    return owner(**values)


def _entries(owner: type) -> Iterator[_Entry]:
    hints = get_type_hints(owner)
    for item in fields(owner):
        if "group" in item.metadata:
            yield from _entries(hints[item.name])
        elif "option" in item.metadata:
            yield _entry(item, hints[item.name])


def _entry(item: Field[Any], hint: Any) -> _Entry:
    """Look what kind of values a field holds: `X`, `X | None` or `tuple[X, ...]`."""
    several = False
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is tuple:
        several, hint = True, get_args(hint)[0]
    return _Entry(item, hint, several)


def _flags(parser: ArgumentParser) -> list[str]:
    """List the options of a parser and of its commands."""
    found: list[str] = []
    for action in parser._actions:  # noqa: SLF001 -- argparse lists them nowhere else
        found += [] if action.help == SUPPRESS else action.option_strings
        if isinstance(action.choices, dict):
            found += [flag for inner in action.choices.values() for flag in _flags(inner)]
    return found
