"""The store: where tables lie, and how they are written, found and read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from cache.base.errors import AsdError
from cache.files import objects, places
from cache.files.atomic import is_left, move, temporary_name, write_atomic
from cache.files.locks import locked
from cache.parquet import read_blocks, read_digest, read_keys, read_recipe, read_table, write_table
from cache.recipe import Recipe
from cache.table import SPLITS, ClipKey, EmbeddingTable, Section, append_rows, join_columns


@dataclass(frozen=True)
class StoredTable:
    """One table on disk, as far as its path tells."""

    path: Path
    fingerprint: str
    section: Section
    split: str

    @classmethod
    def at(cls, path: Path) -> StoredTable:
        """Read off a path which table it is.

        Raises
        ------
        AsdError
            If it lies in no section's folder.
        """
        return cls(path, path.parts[-4], Section.at(path.parent), path.stem)


class Store:
    """Embedding tables below one cache folder.

    Parameters
    ----------
    root
        The cache folder; made on the first write. Tables lie at
        ``<root>/<fingerprint>/<machine_type>/section_<nn>/<split>.parquet``. May be in object
        storage, see `cache.files.places`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._signs: list[Path] = []  # of `writing`

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

    def discard(self, recipe: Recipe, section: Section, split: str, clip_ids: Collection[str]) -> None:
        """Remove the rows of these clips; a table left without rows is removed."""

        def kept(stored: EmbeddingTable | None) -> EmbeddingTable | None:
            return None if stored is None else _without(stored, clip_ids)

        self._change(recipe, section, split, kept)

    @contextmanager
    def writing(self, recipes: Iterable[Recipe]) -> Iterator[None]:
        """Say for a while that tables of these recipes are made: nobody may `remove` them.

        An empty file a recipe says so, by its name that of this process; one that a killed process
        left counts for nothing. Where the folder cannot be written to, nothing is said, nor in
        object storage, where nobody is kept out of anything.
        """
        signs: list[Path] = []
        try:
            with suppress(AsdError):
                for recipe in [] if places.is_remote(self.root) else recipes:
                    sign = temporary_name(self.root / _sign(recipe.fingerprint))
                    with self._locked(recipe.fingerprint):
                        write_atomic(sign, b"")
                    signs.append(sign)
            self._signs += signs
            yield
        finally:
            self._signs = [sign for sign in self._signs if sign not in signs]
            for sign in signs:
                places.remove(sign)

    def remove(self, recipe: Recipe) -> None:
        """Remove all tables of a recipe; in object storage no run may be at work on them meanwhile.

        Raises
        ------
        AsdError
            If a run is at work on them, or the file system refuses.
        """
        folder = self.root / recipe.fingerprint
        with self._locked(recipe.fingerprint):
            signs = places.matching(self.root, f".{_sign(recipe.fingerprint)}.*.tmp")
            for sign in signs:
                if not is_left(sign):
                    raise AsdError(
                        f"a run is at work on {folder}: nothing of it was removed; let it end, or "
                        f"end it. Should none be, delete {sign}"
                    )
            if places.is_remote(folder):
                places.remove_tree(folder)
                return
            # In one step, so that no writer meets half of it; what a kill leaves goes with `gc`.
            left = temporary_name(folder)
            move(folder, left)
            places.remove_tree(left)

    def _change(
        self,
        recipe: Recipe,
        section: Section,
        split: str,
        change: Callable[[EmbeddingTable | None], EmbeddingTable | None],
    ) -> Path:
        """Read, change and write a table as one step: behind a lock, or again where overtaken."""
        path = self.path(recipe, section, split)
        for sign in self._signs:
            with suppress(OSError):
                os.utime(sign)  # other computers tell by its age whether the run is still there
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
                except objects.WriteConflict:
                    continue
                return path

    def read(self, recipe: Recipe, section: Section, split: str) -> EmbeddingTable:
        """Read a table; a concatenation is joined from the tables of its parents.

        Raises
        ------
        AsdError
            If it does not exist, is damaged, or was made by another recipe.
        """
        if recipe.parents:
            parts = [self.read(parent, section, split) for parent in recipe.parents]
            return join_columns(_named_apart(parts, recipe))
        path = self.path(recipe, section, split)
        table, stored = read_table(path)
        expect_at(path, table, stored, (recipe, section, split))
        return table

    def read_blocks(
        self, recipe: Recipe, section: Section, split: str, rows: int
    ) -> Iterator[EmbeddingTable]:
        """Read a table at most so many rows at a time, as `read` gives them; see `read_blocks`.

        Raises
        ------
        AsdError
            As `read`; that the table is damaged may show after its last rows.
        """
        if recipe.parents:
            parts = [self.read_blocks(parent, section, split, rows) for parent in recipe.parents]
            for tables in zip_longest(*parts):
                known = [table for table in tables if table is not None]
                if len(known) < len(tables):
                    raise AsdError(
                        f"{section} {split}: the tables to concatenate do not hold the same clips, e.g. "
                        f"{known[0].clip_ids[0]!r}; run the extraction of every backbone again on the "
                        "same data"
                    )
                yield join_columns(_named_apart(known, recipe))
            return
        path = self.path(recipe, section, split)
        for table, stored in read_blocks(path, rows):
            expect_at(path, table, stored, (recipe, section, split))
            yield table

    def keys(self, recipe: Recipe, section: Section, split: str) -> dict[str, ClipKey]:
        """Clip id to key for the rows on disk; empty where no table is."""
        path = self.path(recipe, section, split)
        return {key.clip_id: key for key in read_keys(path)} if places.exists(path) else {}

    def holds(self, recipe: Recipe, section: Section, split: str) -> bool:
        """Whether a table can be read, or joined from its parents'; nothing is listed for it."""
        if recipe.parents:
            return all(self.holds(parent, section, split) for parent in recipe.parents)
        return places.exists(self.path(recipe, section, split))

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

    def tables(self, recipe: Recipe | None = None) -> list[StoredTable]:
        """Every table on disk, or those of one recipe; a concatenation has those of its parents."""
        if recipe is None:
            return sorted(stored_below(self.root, "*"), key=lambda stored: stored.path)
        parts = [
            {(s.section, s.split): s for s in stored_below(self.root, each.fingerprint)}
            for each in recipe.parents or (recipe,)
        ]
        shared = set.intersection(*map(set, parts))
        return [parts[0][key] for key in sorted(shared)]

    def recipes(self) -> list[Recipe]:
        """Recipes of the tables on disk, by their text."""
        found: dict[str, Recipe] = {}
        for stored in self.tables():
            if stored.fingerprint in found:
                continue
            try:
                found[stored.fingerprint] = read_recipe(stored.path)[0]
            except AsdError:
                if places.exists(stored.path):
                    raise
                # Another run has removed it since it was listed.
        return sorted(found.values(), key=str)

    def _locked(self, fingerprint: str) -> AbstractContextManager[None]:
        return locked(self.root / fingerprint)


def _sign(fingerprint: str) -> str:
    return f"writing-{fingerprint}"


def expect_at(path: Path, table: EmbeddingTable, stored: Recipe, place: tuple[Recipe, Section, str]) -> None:
    """Refuse a table that is not what its place says.

    Raises
    ------
    AsdError
        Naming both.
    """
    recipe, section, split = place
    if stored != recipe or (table.section, table.split) != (section, split):
        raise AsdError(
            f"{path} holds {stored} of {table.section} {table.split}, its place says {recipe} "
            f"of {section} {split}; move it back or delete it"
        )


def stored_below(root: Path, fingerprint: str) -> Iterator[StoredTable]:
    """List the tables of a recipe, ``*`` for any, in folders of sections."""
    for path in table_files(root, fingerprint):
        with suppress(AsdError):  # what lies elsewhere is named by `cache.upkeep.verify`
            yield StoredTable.at(path)


def table_files(root: Path, fingerprint: str) -> Iterator[Path]:
    """List files that are named as tables are, wherever their folder belongs."""
    for path in places.matching(root, f"{fingerprint}/*/section_*/*.parquet"):
        hidden = path.name.startswith(".") or path.parts[-4].startswith(".")  # half removed
        if path.stem in SPLITS and not hidden:
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
        replace(part, blocks={label + name.removeprefix(own): at for name, at in part.blocks.items()})
        for part, own, label in zip(parts, names, labels, strict=True)
    ]
