"""One file, one name: the folders whose files are choices on the command line."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from cache.errors import AsdError


@dataclass(frozen=True)
class Plugins:
    """The modules of one package, by name.

    A module ``min_distance.py`` is called ``min-distance``, ``ast_.py`` is called ``ast`` (a
    trailing underscore keeps a file from shadowing the standard library). Listing imports none.

    Attributes
    ----------
    package
        Dotted name of the package.
    kind
        What its modules are, for messages: ``backbone``, ``scorer``.
    """

    package: str
    kind: str

    @cached_property
    def _modules(self) -> dict[str, str]:
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        found = [module.name for module in pkgutil.iter_modules(folders)]
        return {name.rstrip("_").replace("_", "-"): name for name in found if name[0] != "_"}

    def names(self) -> list[str]:
        """Names to choose from, ascending."""
        return sorted(self._modules)

    def find(self, name: str) -> ModuleType:
        """Import the module of that name.

        Raises
        ------
        AsdError
            If there is none; the known names are listed.
        """
        if name not in self._modules:
            raise AsdError(f"unknown {self.kind} {name!r}; known are {', '.join(self.names())}")
        return import_module(f"{self.package}.{self._modules[name]}")
