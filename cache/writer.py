"""Rows into a table as they come, saved often enough that a killed run loses almost nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section


class TableWriter:
    """Collect the rows of one table and save them to the store.

    Saving rewrites the table, so it is put off while it would take more than a tenth of the time:
    a killed run loses the batch in flight of a slow model, a fraction of a second of a fast one.

    Parameters
    ----------
    store, recipe
        Where the table goes and how its rows are made.
    section, split
        Which clips it holds.
    """

    _SHARE = 0.1  # of the time since the first row that saving may take

    def __init__(self, store: Store, recipe: Recipe, section: Section, split: str) -> None:
        self._store, self._recipe = store, recipe
        self._section, self._split = section, split
        self._keys: list[ClipKey] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._blocks: Mapping[str, tuple[int, int]] = {}
        self._saved_at = time.monotonic()
        self._cost = 0.0  # seconds the last save took

    def add(
        self,
        keys: Sequence[ClipKey],
        vectors: NDArray[np.float32],
        blocks: Mapping[str, tuple[int, int]],
    ) -> None:
        """Take rows in, and save when it is time.

        Parameters
        ----------
        keys
            B keys of clips not given before.
        vectors
            (B, D) float32.
        blocks
            Name to columns, the same in every call.
        """
        self._keys += keys
        self._vectors.append(vectors)
        self._blocks = blocks
        if (time.monotonic() - self._saved_at) * self._SHARE >= self._cost:
            self.save()

    def save(self) -> None:
        """Write what has been taken in since the last save."""
        if not self._keys:
            return
        begin = time.monotonic()
        table = EmbeddingTable(
            self._section,
            self._split,
            tuple(self._keys),
            np.concatenate(self._vectors),
            self._blocks,
        )
        self._store.add(table, self._recipe)
        self._keys, self._vectors = [], []
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - begin
