"""Which modules of this project score without it: their files, found by what they import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

import eval as own
from cache.base.errors import AsdError

ROOT = Path(own.__file__ or "").parents[1]
OURS = ("cache", "extractors", "index")


def modules_of(scorer: object) -> set[str]:
    """Name the modules of a scorer and of those inside it."""
    inner: Iterable[object] = vars(scorer).get("_scorers", ())
    return {type(scorer).__module__}.union(*map(modules_of, inner))


def closure(modules: Iterable[str]) -> list[Path]:
    """Find the files of modules of ours, and of all that they import when they are imported.

    What a module imports only when it is called, or tries to import, is not needed.
    """
    found: dict[str, Path] = {}
    left = list(modules)
    while left:
        name = left.pop()
        if name in found:
            continue
        path = _file(name)
        if path is None:
            raise AsdError(f"{name} is of another package: a bank that uses it cannot be exported")
        found[name] = path
        left += [name.rpartition(".")[0]] if "." in name else []
        for node in ast.parse(path.read_text("utf-8")).body:
            wanted = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = (f"{node.module}.{each.name}" for each in node.names)
                wanted = [node.module, *filter(_file, inner)]
            others = {each.partition(".")[0] for each in wanted} - {*OURS, *sys.stdlib_module_names, "numpy"}
            if others:
                raise AsdError(
                    f"{name} needs {min(others)} beside NumPy: a bank that uses it cannot be exported"
                )
            left += [each for each in wanted if each.partition(".")[0] in OURS]
    return list(found.values())


def _file(module: str) -> Path | None:
    """Find the file of a module of ours; ``None`` where there is none of that name."""
    stem = ROOT.joinpath(*module.split("."))
    return next((p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file()), None)
