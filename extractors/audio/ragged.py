"""Arrays of several lengths, held in memory up to a budget, beyond it in a file without a name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import REMEDIES, AsdError


@dataclass(frozen=True)
class RaggedArray:
    """Arrays one after another.

    Attributes
    ----------
    values
        (N, ...) float32; memory-mapped where it is larger than the budget.
    bounds
        (C + 1,) int64: array i has the rows ``bounds[i]`` to ``bounds[i + 1]``.
    """

    values: NDArray[np.float32]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Array `index`."""
        return np.asarray(self.values[self.bounds[index] : self.bounds[index + 1]])


def hold(
    arrays: Iterable[NDArray[np.float32]], width: tuple[int, ...], budget: int, folder: Path
) -> RaggedArray:
    """Hold arrays.

    Parameters
    ----------
    arrays
        (T, *width) each, taken one by one.
    width
        The shape of a row, ``()`` of a waveform.
    budget
        Bytes held in memory, for a moment twice; more goes to a file.
    folder
        Where that file lies. It has no name and is gone when the process is, however it ends.

    Raises
    ------
    AsdError
        If the file system does not take the file.
    """
    lengths = [0]
    with suppress(OSError):  # needed only where memory does not hold them
        folder.mkdir(parents=True, exist_ok=True)
    with SpooledTemporaryFile(max_size=budget, dir=str(folder)) as file:
        for array in arrays:
            _append(file, array, folder)
            lengths.append(len(array))
        bounds = np.cumsum(lengths, dtype=np.int64)
        return RaggedArray(_held(file, (int(bounds[-1]), *width), budget), bounds)


def _append(file: SpooledTemporaryFile[bytes], array: NDArray[np.float32], folder: Path) -> None:
    try:
        file.write(np.ascontiguousarray(array).tobytes())
        file.flush()
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "choose another --cache-dir")
        raise AsdError(
            f"{folder}: cannot hold there what is beyond --memory: {error.strerror}; {remedy}, or "
            "raise --memory"
        ) from error


def _held(file: SpooledTemporaryFile[bytes], shape: tuple[int, ...], budget: int) -> NDArray[np.float32]:
    """Bytes written to an array: copied to memory or mapped from the file."""
    file.flush()
    if 4 * prod(shape) > budget:
        return np.asarray(np.memmap(file, np.float32, "r", shape=shape))
    values = np.empty(shape, np.float32)
    file.seek(0)
    file.readinto(values.reshape(-1).data.cast("B"))
    return values
