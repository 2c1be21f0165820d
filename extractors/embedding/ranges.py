"""The ranges that 8-bit integers are calibrated with: kept by hash, carried with what was made by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files import places
from cache.files.atomic import write_atomic
from cache.recipe import Recipe
from extractors.fetching.offline import home

Ranges = Mapping[str, tuple[float, float]]  # tensor of a graph to its least and largest value


def folder() -> Path:
    """Give the folder of exported graphs and of ranges, beside the weights."""
    return home() / "graphs"


def keep(ranges: Ranges) -> str:
    """Keep ranges, and give their name: 16 digits of the file's SHA-256."""
    data = json.dumps(ranges, sort_keys=True, indent=1).encode()
    name = hashlib.sha256(data).hexdigest()[:16]
    write_atomic(folder() / _file(name), data)
    return name


def ranges_of(name: str) -> Ranges:
    """Read ranges that were kept or brought here.

    Raises
    ------
    AsdError
        If they are not here, or damaged.
    """
    path = folder() / _file(name)
    try:
        return {tensor: (low, high) for tensor, (low, high) in parse_json(_whole(path, name)).items()}
    except OSError as error:
        raise AsdError(
            f"{path}: {error.strerror}; copy {path.name} here from the cache folder, or from this folder of "
            "the machine that made the tables, or extract and build anew"
        ) from error


def carry(recipe: Recipe, place: Path) -> None:
    """Put the ranges that a recipe's tables were made with into a folder, as far as they are here."""
    _copy(recipe, folder(), place)


def bring(recipe: Recipe, place: Path) -> None:
    """Take the ranges that a recipe's tables were made with from a folder, as far as they are there.

    Raises
    ------
    AsdError
        If they are damaged there.
    """
    _copy(recipe, place, folder())


def _copy(recipe: Recipe, source: Path, target: Path) -> None:
    names = (str(dict(each.settings).get("calibration", "")) for each in recipe.parents or (recipe,))
    for name in filter(None, names):
        file = _file(name)
        if not places.exists(target / file) and places.exists(source / file):
            write_atomic(target / file, _whole(source / file, name))


def _file(name: str) -> str:
    return f"ranges-{name}.json"


def _whole(path: Path, name: str) -> bytes:
    data = places.read_bytes(path)
    if hashlib.sha256(data).hexdigest()[:16] != name:
        raise AsdError(
            f"{path} is damaged: its SHA-256 is not its name; remove it, and copy it from another place that "
            "has it: the bank, the cache folder, the machine that made the tables"
        )
    return data
