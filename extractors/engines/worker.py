"""A worker of a cluster: it holds the backbones and brings whole tables up to date."""

from __future__ import annotations

import logging
import os
import platform
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cache.base.errors import AsdError
from cache.base.processors import take_cores
from cache.base.progress import hearing
from cache.files import places
from cache.recipe import Recipe
from extractors.embedding.models import load_forwards
from extractors.engines.local import Extraction, Report, extraction
from extractors.engines.tables import Answer, Table, answer_rows, tables_from
from extractors.fetching.offline import apply_offline
from extractors.request import ExtractRequest


@dataclass(frozen=True)
class Orders:
    """What every worker is told.

    Attributes
    ----------
    request
        What the calling process was asked for, its device being the worker's.
    folder
        Where the command was called: relative names of weights mean what they mean there.
    recipes
        Of the tables, as the calling process makes them.
    token
        A file in the cache folder, made for this run.
    cpus
        Threads to use.
    per_gpu
        How many actors compute on one GPU; 0 where they compute on none.
    """

    request: ExtractRequest
    folder: Path
    recipes: tuple[Recipe, ...]
    token: Path
    cpus: int
    per_gpu: int = 0


class TableWorker:
    """Takes rows of tables to make, makes them in the store, gives rows of what was done.

    A worker that cannot start says so in its first answer: there it is told apart from a crash.

    Parameters
    ----------
    orders
        What to load, and where the tables go.
    """

    def __init__(self, orders: Orders) -> None:
        self._refusal = ""
        try:
            self._extraction = _ready(orders)
        except AsdError as error:
            self._refusal = f"{platform.node()}: {error}"

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Bring tables up to date: rows of `manifest` in, rows of `answer_rows` out."""
        return answer_rows([self._answer(table) for table in tables_from(rows)])

    def extract(self, table: Table) -> Sequence[Report]:
        """Bring one table up to date.

        Raises
        ------
        AsdError
            As `Extraction.run`, and where this machine sees none of the files.
        """
        if not any(places.exists(clip.path) for clip in table.clips):
            # Taken for deleted one by one, they would lose their rows.
            raise AsdError(
                f"{platform.node()} sees no file of {table}, e.g. {table.clips[0].path}: every "
                "machine needs the data at the same place"
            )
        return self._extraction.run(table.clips)

    def _answer(self, table: Table) -> Answer:
        if self._refusal:
            return Answer(*table.key, error=self._refusal)
        heard = _Notes()
        try:
            with hearing(heard):
                reports = self.extract(table)
        except AsdError as error:
            return Answer(*table.key, error=str(error))
        except Exception as error:  # noqa: BLE001 -- Ray Data would drop the table without a word
            traceback.print_exc()  # into the log that Ray keeps of this process
            return Answer(*table.key, failure=f"{type(error).__name__} on {platform.node()}: {error}")
        return Answer(*table.key, tuple(reports), tuple(heard.notes))


class _Notes(logging.Handler):
    """Collects what the libraries say on a worker: level and text."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.notes: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append((record.levelno, record.getMessage()))


def _ready(orders: Orders) -> Extraction:
    """Load the backbones, and see that this machine makes the same of a clip in the same place."""
    apply_offline(orders.request)
    with suppress(OSError):
        os.chdir(orders.folder)
    take_cores(orders.cpus)
    if orders.per_gpu > 1:
        # Batches are measured and halved against this, not against what a neighbour may be about to take; a
        # tenth is left for what CUDA keeps for each process beside torch's own memory.
        import torch  # noqa: PLC0415 (seconds that front ends save)

        torch.cuda.set_per_process_memory_fraction(0.9 / orders.per_gpu)
    if not places.exists(orders.token):
        raise AsdError(
            f"{orders.token.parent} is not the folder that the run writes to: every machine needs "
            "the same --cache-dir, on a file system that all share"
        )
    forwards = load_forwards(orders.request)
    if "torch" in sys.modules:  # a network is among them
        sys.modules["torch"].set_num_threads(orders.cpus)
    recipes = [output.recipe for forward in forwards for output in forward.outputs]
    for own, asked in zip(recipes, orders.recipes, strict=True):
        if own.fingerprint != asked.fingerprint:
            raise AsdError(
                f"its tables would be others than asked for: {_difference(own, asked)}; install "
                "the same versions on every machine"
            )
    return extraction(orders.request, forwards)


def _difference(own: Recipe, asked: Recipe) -> str:
    """Name the settings in which two recipes differ."""
    facts = [{**vars(recipe), **dict(recipe.settings)} for recipe in (own, asked)]
    names = [
        name for name in {**facts[0], **facts[1]} if name not in ("settings", "canonical", "fingerprint")
    ]
    pairs = [(name, facts[0].get(name), facts[1].get(name)) for name in names]
    return ", ".join(f"{name} {one} instead of {two}" for name, one, two in pairs if one != two)
