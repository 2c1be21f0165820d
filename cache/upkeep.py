"""What is done to a store from time to time: told what it holds, verified, repaired, cleaned up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.base.errors import AsdError
from cache.files import objects, places
from cache.files.atomic import leftovers, move
from cache.files.locks import locked
from cache.parquet import read_table
from cache.recipe import Recipe
from cache.select import DAMAGED, CleanRequest
from cache.store import Store, StoredTable, expect_at, table_files
from cache.table import Section

_TRIES = 5  # to look at a table that is being replaced all the time


@dataclass(frozen=True)
class Holding:
    """What a store holds of one recipe.

    Attributes
    ----------
    recipe
        How the tables were made.
    tables, clips
        How many.
    mib
        Their size, 2^20 bytes.
    """

    recipe: Recipe
    tables: int
    clips: int
    mib: float


def holdings(store: Store) -> Iterator[Holding]:
    """Tell what a store holds, recipe by recipe."""
    for recipe in store.recipes():
        tables = store.tables(recipe)
        size = sum(s.path.stat().st_size for s in tables if s.fingerprint == recipe.fingerprint)
        clips = sum(len(store.keys(recipe, s.section, s.split)) for s in tables)
        yield Holding(recipe, len(tables), clips, size / 2**20)


def verify(store: Store) -> Iterator[tuple[StoredTable, AsdError | None]]:
    """Read every table in full; one that another run removes meanwhile is passed over.

    Yields
    ------
    stored, fault
        The table, and what is wrong with it or ``None``. Of tables in folders that are no
        section's, the section is none.
    """
    tables, strays = list[StoredTable](), list[StoredTable]()
    for path in sorted(table_files(store.root, "*")):  # listed once: others write meanwhile
        try:
            tables.append(StoredTable.at(path))
        except AsdError:
            strays.append(StoredTable(path, path.parts[-4], Section("no section", 0), path.stem))
    for stored in (*tables, *strays):
        try:
            fault = _fault(store, stored)
        except FileNotFoundError:
            continue
        yield stored, fault


def repaired(store: Store, stored: StoredTable) -> tuple[str, dict[str, object]]:
    """Move a faulty table to the same place below ``damaged/``, where nothing is read from.

    Returns
    -------
    told, facts
        What became of it, for people and for programs: it is moved, another run has made it anew or
        removed it meanwhile, or the file system refuses.
    """
    whole: tuple[str, dict[str, object]] = (
        f"{stored.path} is whole by now", {"moved": stored.path, "to": None}
    )  # fmt: skip
    try:
        with locked(store.root / stored.fingerprint):
            fault = _fault(store, stored)
            if fault is None:
                return whole
            if isinstance(fault, objects.Unreachable):
                raise fault
            place = store.root / DAMAGED / stored.path.relative_to(store.root)
            number = sum(1 for _ in places.matching(place.parent, f"{place.stem}*{place.suffix}"))
            target = place.with_stem(f"{place.stem}-{number}") if number else place
            move(stored.path, target)
    except FileNotFoundError:
        return whole
    except AsdError as error:
        return f"not moved: {error}", {"not_moved": error}
    return f"moved {stored.path} to {target}", {"moved": stored.path, "to": target}


def _fault(store: Store, stored: StoredTable) -> AsdError | None:
    """Say what is wrong with a table, as it is now and not half a moment before.

    Raises
    ------
    FileNotFoundError
        If it is gone.
    objects.Unreachable
        If a store does not answer.
    """
    for _ in range(_TRIES):
        fault, version = None, places.version(stored.path)
        if not version:
            raise FileNotFoundError(stored.path)
        try:
            _check(store, stored)
        except AsdError as error:
            if isinstance(error, objects.Unreachable) and places.is_remote(stored.path):
                raise  # neither this table nor any other
            fault = error
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever its bytes cause, others are read too
            fault = AsdError(f"{stored.path} is damaged ({error!r})")
        if fault is None or places.version(stored.path) == version:
            break
    return fault


def _check(store: Store, stored: StoredTable) -> None:
    table, recipe = read_table(stored.path)
    if recipe.fingerprint != stored.fingerprint:
        raise AsdError(f"{stored.path} was made by recipe {recipe.fingerprint}; move it to that folder")
    if str(stored.path) != str(store.path(recipe, stored.section, stored.split)):
        raise AsdError(f"{stored.path} lies in no section's folder and is never read; delete it")
    expect_at(stored.path, table, recipe, (recipe, stored.section, stored.split))


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be.

    Attributes
    ----------
    files
        What killed runs left.
    folders
        Of recipes no longer wanted.
    refused
        Why others were not removed.
    """

    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    refused: tuple[str, ...]


def clean(request: CleanRequest) -> Cleaned:
    """Remove what killed runs left, and recipes no longer wanted.

    Raises
    ------
    AsdError
        If there is no such recipe.
    """
    store = Store(request.cache_dir)
    known = {recipe.fingerprint: recipe for recipe in store.recipes()}
    for fingerprint in request.recipes:
        if fingerprint not in known:
            raise AsdError(f"no recipe {fingerprint!r} in {store.root}; `asd cache ls` lists them whole")
    files, folders, refused = leftovers(request.cache_dir), [], []
    for file in [] if request.dry_run else files:
        places.remove(file)
    for fingerprint in request.recipes:
        try:
            if not request.dry_run:
                store.remove(known[fingerprint])
        except AsdError as error:
            refused.append(str(error))
        else:
            folders.append(store.root / fingerprint)
    return Cleaned(tuple(files), tuple(folders), tuple(refused))
