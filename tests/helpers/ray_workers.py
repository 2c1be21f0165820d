"""Workers of a cluster that die, wait or differ, for the tests of its engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import extractors.embedding.embedder
from cache.heard import Signal, Span
from extractors.audio import batches
from extractors.audio import decode as audio
from extractors.engines.local import Report
from extractors.engines.tables import Table
from extractors.engines.worker import Orders, TableWorker

GO = "go"  # a file beside the cache folder: workers that wait go on
CRASH = "crash"  # in a clip's name: reading it kills the process
CRASHES = "crashes.txt"  # beside the cache folder, a line a crash
BROKEN = "broken"  # a machine type whose tables raise


class Waiting(TableWorker):
    """Makes half of a table, says which process it is, and waits until it may go on."""

    def extract(self, table: Table) -> Sequence[Report]:
        folder = self._extraction.store.root.parent
        if not (folder / GO).exists():
            self._extraction.run(table.clips[: len(table.clips) // 2])
            name = f"{os.environ.get('ASD_NODE', '')}.{os.getpid()}.waits"
            (folder / name).write_text(str(table))
        while not (folder / GO).exists():
            time.sleep(0.02)
        return super().extract(table)


class Crashing(TableWorker):
    """Dies of some clips, as of a decoder's fault, and fails at tables of `BROKEN`."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self._crashes = orders.request.cache_dir.parent / CRASHES
        batches.decode_file = self._decode  # type: ignore[assignment]

    def extract(self, table: Table) -> Sequence[Report]:
        if table.section.machine_type == BROKEN:
            raise ZeroDivisionError("a fault in a backbone")
        return super().extract(table)

    def _decode(self, path: Path, span: Span | None, longest: float, told: Signal) -> audio.Decoding:
        if CRASH in path.name:
            with self._crashes.open("a") as file:
                file.write(f"{path.name}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return audio.decode_file(path, span, longest, told)


class Other(TableWorker):
    """Has another resampler."""

    def __init__(self, orders: Orders) -> None:
        extractors.embedding.embedder.RESAMPLER = "soxr 0.0.1"
        super().__init__(orders)


class Elsewhere(TableWorker):
    """Runs on a machine where neither the data nor the cache folder is the one meant."""

    def __init__(self, orders: Orders) -> None:
        orders.token.unlink()
        super().__init__(orders)
