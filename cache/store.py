"""The store: where tables lie, and how they are written, found, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache import objects, places
from cache.atomic import move
from cache.errors import AsdError
from cache.locks import locked
from cache.parquet import read_digest, read_keys, read_recipe, read_table, write_table
from cache.recipe import Recipe
from cache.table import SPLITS, ClipKey, EmbeddingTable, Section, append_rows, join_columns

DAMAGED = "damaged"  # below the cache folder: tables that were moved aside


@dataclass(frozen=True)
class Stored:
    """One table on disk, as far as its path tells."""

    path: Path
    fingerprint: str
    section: Section
    split: str


class Store:
    """Embedding tables below one cache folder.

    Parameters
    ----------
    root
        The cache folder; made on the first write. Tables lie at
        ``<root>/<fingerprint>/<machine_type>/section_<nn>/<split>.parquet``. May be in object
        storage, see `cache.places`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, recipe: Recipe, section: Section, split: str) -> Path:
        """Where a table lies, whether it exists or not."""
        return self.root / recipe.fingerprint / str(section) / f"{split}.parquet"

    def write(self, table: EmbeddingTable, recipe: Recipe) -> Path:
        """Write a table, replacing what was there.

        Parameters
        ----------
        table
            At least one row.
        recipe
            How it was made.

        Returns
        -------
        Path
            The file made.

        Raises
        ------
        AsdError
            If the table is empty or the file system refuses.
        """
        path = self.path(recipe, table.section, table.split)
        if not len(table):
            raise AsdError(f"nothing to write to {path}: the table has no rows")
        write_table(path, table, recipe)
        return path

    def add(self, table: EmbeddingTable, recipe: Recipe) -> Path:
        """Add rows to a table, replacing those of the same clips; safe beside other writers.

        In object storage it is so where the store has conditional writes (S3). Elsewhere the later
        of two writers at one moment wins: the table is whole, and the next run adds what it lacks.
        """

        def added(stored: EmbeddingTable | None) -> EmbeddingTable:
            if stored is None:
                return table
            return append_rows([_without(stored, table.clip_ids), table])

        return self._change(recipe, table.section, table.split, added)

    def discard(
        self, recipe: Recipe, section: Section, split: str, clip_ids: Collection[str]
    ) -> None:
        """Remove the rows of these clips; a table left without rows is removed."""

        def kept(stored: EmbeddingTable | None) -> EmbeddingTable | None:
            return None if stored is None else _without(stored, clip_ids)

        self._change(recipe, section, split, kept)

    def _change(
        self,
        recipe: Recipe,
        section: Section,
        split: str,
        change: Callable[[EmbeddingTable | None], EmbeddingTable | None],
    ) -> Path:
        """Read, change and write a table as one step: behind a lock, or again where overtaken."""
        path = self.path(recipe, section, split)
        with self._locked(recipe.fingerprint):
            while True:
                version = places.version(path)
                try:
                    stored = self.read(recipe, section, split) if version else None
                    changed = change(stored)
                    if changed is not None and len(changed):
                        write_table(path, changed, recipe, version)
                    elif version:
                        places.remove(path)
                except objects.Overtaken:
                    continue
                return path

    def read(self, recipe: Recipe, section: Section, split: str) -> EmbeddingTable:
        """Read a table; a concatenation not on disk, or older than a parent, is joined anew.

        Raises
        ------
        AsdError
            If it does not exist, is damaged, or was made by another recipe.
        """
        path = self.path(recipe, section, split)
        if recipe.parents and self._is_outdated(recipe, section, split):
            parts = [self.read(parent, section, split) for parent in recipe.parents]
            return join_columns(_named_apart(parts, recipe))
        table, stored = read_table(path)
        if stored != recipe or (table.section, table.split) != (section, split):
            raise AsdError(
                f"{path} holds {stored} of {table.section} {table.split}, its place says {recipe} "
                f"of {section} {split}; move it back or delete it"
            )
        return table

    def _is_outdated(self, recipe: Recipe, section: Section, split: str) -> bool:
        """Whether a concatenation's table is missing, or a parent at hand holds other clips."""
        if not places.exists(self.path(recipe, section, split)):
            return True
        held = self.keys(recipe, section, split)
        parents = [self.keys(parent, section, split) for parent in recipe.parents]
        return any(keys and keys != held for keys in parents)

    def concatenate(self, recipe: Recipe) -> int:
        """Write the tables of a concatenation, joined from its parents'; return how many.

        Raises
        ------
        AsdError
            If the recipe joins nothing, or its parents' tables do not hold the same clips.
        """
        if not recipe.parents:
            raise AsdError("name at least two backbones or recipes to concatenate")
        tables = self.tables(recipe)
        for stored in tables:
            self.write(self.read(recipe, stored.section, stored.split), recipe)
        return len(tables)

    def keys(self, recipe: Recipe, section: Section, split: str) -> dict[str, ClipKey]:
        """Clip id to key for the rows on disk; empty where no table is."""
        path = self.path(recipe, section, split)
        return {key.clip_id: key for key in read_keys(path)} if places.exists(path) else {}

    def holds(self, recipe: Recipe, section: Section, split: str) -> bool:
        """Whether a table can be read, or joined from its parents'; nothing is listed for it."""
        parents = [self.holds(parent, section, split) for parent in recipe.parents]
        there = places.exists(self.path(recipe, section, split))
        return there or (bool(parents) and all(parents))

    def digest(self, recipe: Recipe, section: Section, split: str) -> str | None:
        """SHA-256 by which a table is known again, of a concatenation that of its parents'.

        Returns
        -------
        str or None
            Hexadecimal; ``None`` where the table, or one of the parents', is not there.

        Raises
        ------
        AsdError
            If a table's footer is damaged; the rows are not looked at.
        """
        if recipe.parents:
            parts = [self.digest(parent, section, split) for parent in recipe.parents]
            text = json.dumps(parts)
            return None if None in parts else hashlib.sha256(text.encode()).hexdigest()
        path = self.path(recipe, section, split)
        return read_digest(path) if places.exists(path) else None

    def missing(self, recipe: Recipe, clip_ids: Iterable[str]) -> list[str]:
        """Clip ids that no table of this recipe holds, in the order given."""
        present: set[str] = set()
        for stored in self.tables(recipe):
            present |= self.keys(recipe, stored.section, stored.split).keys()
        return [clip_id for clip_id in clip_ids if clip_id not in present]

    def tables(self, recipe: Recipe | None = None) -> list[Stored]:
        """Every table on disk, or those of one recipe; a concatenation has those of its parents."""
        if recipe is None:
            return sorted(_stored(self.root, "*"), key=lambda stored: stored.path)
        own = {(s.section, s.split): s for s in _stored(self.root, recipe.fingerprint)}
        if recipe.parents:
            parents = [{(s.section, s.split): s for s in self.tables(p)} for p in recipe.parents]
            shared = set.intersection(*(set(tables) for tables in parents))
            own = {key: parents[0][key] for key in shared} | own
        return [own[key] for key in sorted(own)]

    def recipes(self) -> list[Recipe]:
        """Recipes of the tables on disk, by their text."""
        first = {stored.fingerprint: stored.path for stored in reversed(self.tables())}
        return sorted((read_recipe(path)[0] for path in first.values()), key=str)

    def verify(self) -> Iterator[tuple[Stored, AsdError | None]]:
        """Read every table in full.

        Yields
        ------
        stored, fault
            The table, and what is wrong with it or ``None``.
        """
        for stored in [*self.tables(), *_strays(self.root)]:
            try:
                self._check(stored)
            except objects.Unreachable:
                raise  # says nothing of the table
            except AsdError as fault:
                yield stored, fault
            else:
                yield stored, None

    def set_aside(self, stored: Stored) -> Path | None:
        """Move a faulty table to the same place below ``damaged/``, where nothing is read from.

        Returns
        -------
        Path or None
            Where it is now; ``None`` where another run has made it anew meanwhile.

        Raises
        ------
        AsdError
            If the file system refuses.
        """
        with self._locked(stored.fingerprint):
            try:
                self._check(stored)
            except objects.Unreachable:
                raise
            except AsdError:
                place = self.root / DAMAGED / stored.path.relative_to(self.root)
                number = sum(
                    1 for _ in places.matching(place.parent, f"{place.stem}*{place.suffix}")
                )
                target = place.with_stem(f"{place.stem}-{number}") if number else place
                move(stored.path, target)
                return target
        return None

    def _check(self, stored: Stored) -> None:
        recipe, _ = read_recipe(stored.path)
        if recipe.fingerprint != stored.fingerprint:
            raise AsdError(
                f"{stored.path} was made by recipe {recipe.fingerprint}; move it to that folder"
            )
        if str(stored.path) != str(self.path(recipe, stored.section, stored.split)):
            raise AsdError(
                f"{stored.path} lies in no section's folder and is never read; delete it"
            )
        self.read(recipe, stored.section, stored.split)

    def _locked(self, fingerprint: str) -> AbstractContextManager[None]:
        return locked(self.root / fingerprint)


def _stored(root: Path, fingerprint: str) -> Iterator[Stored]:
    for path in _table_files(root, fingerprint):
        with suppress(AsdError):  # what lies elsewhere is named by `Store.verify`
            yield Stored(path, path.parts[-4], Section.at(path.parent), path.stem)


def _strays(root: Path) -> list[Stored]:
    """Tables in folders that are no section's, each under the name of none."""
    known = {stored.path for stored in _stored(root, "*")}
    strays = sorted(path for path in _table_files(root, "*") if path not in known)
    nowhere = Section("no section", 0)
    return [Stored(path, path.parts[-4], nowhere, path.stem) for path in strays]


def _table_files(root: Path, fingerprint: str) -> Iterator[Path]:
    for path in places.matching(root, f"{fingerprint}/*/section_*/*.parquet"):
        if path.stem in SPLITS and not path.name.startswith("."):
            yield path


def _without(table: EmbeddingTable, clip_ids: Collection[str]) -> EmbeddingTable:
    gone = set(clip_ids)
    return table.select(np.flatnonzero([clip_id not in gone for clip_id in table.clip_ids]))


def _named_apart(parts: list[EmbeddingTable], recipe: Recipe) -> list[EmbeddingTable]:
    """Two tables of one backbone (two layers, say) get their fingerprint into the block names."""
    names = [parent.backbone for parent in recipe.parents]
    if len(set(names)) == len(names):
        return parts
    labels = [f"{parent.backbone}@{parent.fingerprint[:8]}" for parent in recipe.parents]
    return [
        replace(
            part, blocks={label + name.removeprefix(own): at for name, at in part.blocks.items()}
        )
        for part, own, label in zip(parts, names, labels, strict=True)
    ]
