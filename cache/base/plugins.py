"""What may be chosen by name: a file each or kin in one file, ours and of other installed packages."""

from __future__ import annotations

import ast
import pkgutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.abc import InspectLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

from cache.base.errors import AsdError, needed
from cache.base.options import nearest


class OfferedName(str):
    """A name to choose by; `origin` is the package it comes from, empty for ours."""

    __slots__ = ("origin",)
    origin: str


@dataclass(frozen=True)
class Plugins:
    """The modules of one package of ours by name, and those that other packages offer.

    A module ``min_distance.py`` is called ``min-distance``, ``ast_.py`` is called ``ast`` (a
    trailing underscore keeps a file from shadowing the standard library). Another package offers a
    module by an entry point; ours keep their names. Listing imports none.

    Attributes
    ----------
    package
        Dotted name of our package; empty where our choices are no files.
    kind
        What the modules are, for messages: ``backbone``, ``scorer``.
    group
        Entry points of other packages; empty where none is asked for.
    shared
        Modules of several choices, kin, and none themselves: they have a table ``CHOICES`` of name to class.
    """

    package: str
    kind: str
    group: str = ""
    shared: tuple[str, ...] = ()

    @cached_property
    def _kin(self) -> dict[str, str]:
        return {name: place for module in self.shared for name, place in _choices(module)}

    @cached_property
    def _modules(self) -> dict[str, str]:
        spec = find_spec(self.package) if self.package else None
        folders = list(spec.submodule_search_locations or []) if spec else []
        found = [module.name for module in pkgutil.iter_modules(folders) if module.name[0] != "_"]
        shared = {place.partition(":")[0] for place in self._kin.values()}
        paths = {name.rstrip("_").replace("_", "-"): f"{self.package}.{name}" for name in found}
        return {name: path for name, path in paths.items() if path not in shared} | {
            name: place.partition(":")[0] for name, place in self._kin.items()
        }

    @cached_property
    def _offered(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = defaultdict(list)
        for point in entry_points(group=self.group) if self.group else ():
            # A folder that is on the path twice names its packages twice.
            if point not in found[point.name]:
                found[point.name].append(point)
        return found

    def offered(self, ours: Sequence[str] = ()) -> list[OfferedName]:
        """Names that other packages offer, ascending, ours left out."""
        names = []
        for text in sorted(set(self._offered) - {*self._modules, *ours}):
            name = OfferedName(text)
            name.origin = ", ".join(map(_origin, self._offered[text]))
            names.append(name)
        return names

    def names(self) -> list[str]:
        """Names to choose from, ascending; those of other packages are each a `OfferedName`."""
        return sorted([*self._modules, *self.offered()])

    def find(self, name: str) -> ModuleType:
        """Import the module of that name.

        Raises
        ------
        AsdError
            If there is none, with the known names; if several packages offer it, or the one that
            does cannot be imported, with their names.
        """
        if name in self._modules:
            try:
                return import_module(self._modules[name])
            except ModuleNotFoundError as error:
                raise needed(f"{self.kind} {name}", error) from error
        points = self._offered.get(name, [])
        if not points:
            known = self.names()
            raise AsdError(
                f"unknown {self.kind} {name!r}; known are {', '.join(known)}{nearest(name, known)}"
            )
        origins = ", ".join(map(_origin, points))
        if len(points) > 1:
            raise AsdError(f"{self.kind} {name!r} is offered by {origins}: uninstall all but one")
        try:
            module = points[0].load()
        except Exception as error:  # a stranger's code may raise anything
            raise AsdError(
                f"{self.kind} {name!r} of {origins} cannot be loaded from {points[0].value}: "
                f"{type(error).__name__}: {error}; mend or uninstall that package"
            ) from error
        if not isinstance(module, ModuleType):
            raise AsdError(
                f"{self.kind} {name!r} of {origins}: its entry point {points[0].value} must name a module"
            )
        return module

    def part(self, name: str, attribute: str = "") -> Any:
        """Import what the module of that name must hold: of kin their class, else an attribute.

        Raises
        ------
        AsdError
            As `find` does, and if the module holds no such thing.
        """
        return part(self.find(name), self._kin.get(name, attribute).rpartition(":")[2], self.kind)


def _choices(module: str) -> Iterator[tuple[str, str]]:
    """Read the table ``CHOICES`` of a module from its source: importing it may load a network's library."""
    spec = find_spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    for line in ast.parse((source or "").partition("\nCHOICES = ")[2]).body[:1]:  # a whole file takes long
        table = cast("ast.Dict", cast("ast.Expr", line).value)
        for name, owner in zip(table.keys, table.values, strict=True):
            yield ast.literal_eval(cast("ast.expr", name)), f"{module}:{ast.unparse(owner)}"


def part(module: ModuleType, name: str, kind: str) -> object:
    """Take what a module must hold.

    Raises
    ------
    AsdError
        If it does not: a module of another package may not be as ours are.
    """
    found = getattr(module, name, None)
    if found is None:
        raise AsdError(f"{module.__name__} is offered as a {kind} but holds no {name}")
    return found


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
