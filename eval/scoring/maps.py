"""Two-dimensional maps of a section's embeddings, written beside its scores."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.files.bounds import read_parquet
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, result_names

Points = NDArray[np.float64]
Projection = Callable[[Points], Points]
Blocks = Callable[[], Iterable[EmbeddingTable]]

MAP = "map"
_MOST = 5000  # test clips that a map is fitted to
_NEIGHBOURS = 15  # UMAP, McInnes et al. 2018: the default of its authors


def pca(reference: Points) -> Projection:
    """Fit the two directions in which the reference varies most; what projects (N, D) on them.

    Parameters
    ----------
    reference
        (N, D) standardised.
    """
    if min(reference.shape) < 2 or not np.ptp(reference, axis=0).any():
        return lambda points: np.pad(points, ((0, 0), (0, 2)))[:, :2]  # nothing to fit to: two values
    from sklearn.decomposition import PCA  # noqa: PLC0415 (a second that most commands do not need)

    fitted = PCA(2, svd_solver="randomized", random_state=0).fit(reference)
    return lambda points: np.asarray(fitted.transform(points), dtype=np.float64)


def umap(points: Points) -> Points:
    """Lay (N, D) points out so that neighbours stay neighbours (McInnes et al. 2018); (N, 2)."""
    from umap import UMAP  # noqa: PLC0415  compiles for seconds when imported

    near = min(_NEIGHBOURS, len(points) - 1)
    if near < 2:
        return pca(points)(points)
    layout = UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(layout, dtype=np.float64)


def write_map(results: ResultsFolder, train: EmbeddingTable | None, blocks: Blocks, method: str) -> Path:
    """Write where each clip lies on the map, as Parquet.

    Parameters
    ----------
    results
        Where submissions are written.
    train
        (N, D) embeddings of a section's training clips, which may be unknown.
    blocks
        Gives the section's test clips, at least one, a few (M, D) at a time; called more than once.
    method
        ``pca`` or ``umap``, which holds all clips in memory.

    Returns
    -------
    Path
        ``map_<machine>_section_<nn>_test.parquet`` with a row a clip.
    """
    reference = (train.embeddings if train is not None else _spread(blocks)).astype(np.float64)
    centre, scale = reference.mean(axis=0), reference.std(axis=0)
    scale[scale == 0] = 1.0
    tables = chain([] if train is None else [train], blocks())
    keys: list[tuple[str, ClipKey]] = []
    found: list[Points] = []
    project = pca((reference - centre) / scale) if method == "pca" else np.asarray
    for table in tables:
        keys += [(table.split, key) for key in table.keys]
        found.append(project((table.embeddings - centre) / scale))
    points = np.concatenate(found) if method == "pca" else umap(np.concatenate(found))
    names = result_names([key.clip_id for split, key in keys if split == "test"])
    rows = pa.table(
        {
            "clip_id": [key.clip_id for _, key in keys],
            "name": [*[None] * (len(keys) - len(names)), *names],
            "split": [split for split, _ in keys],
            "domain": pa.array([key.domain for _, key in keys], pa.string()),
            "attributes": [json.dumps(dict(key.attributes or {})) for _, key in keys],
            "x": points[:, 0],
            "y": points[:, 1],
            "method": [method] * len(keys),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return results.write(file_name(MAP, table.section, "parquet"), buffer.getvalue())


def _spread(blocks: Blocks) -> NDArray[np.float32]:
    """Pick test clips all over the table to fit a map to, where training clips are unknown."""
    count = sum(len(block) for block in blocks())
    picked = np.unique(np.linspace(0, count - 1, min(count, _MOST)).astype(np.intp))
    first, parts = 0, []
    for block in blocks():
        own = picked[(picked >= first) & (picked < first + len(block))] - first
        parts.append(block.embeddings[own])
        first += len(block)
    return np.concatenate(parts)


def map_path(directory: Path, section: Section) -> Path:
    """Where a section's map lies, whether it exists or not."""
    return directory / file_name(MAP, section, "parquet")


def read_columns(path: Path, columns: set[str]) -> list[dict[str, Any]]:
    """Read a Parquet file's rows, ``None`` for a missing value; no rows where there is no file.

    Raises
    ------
    AsdError
        If it is damaged or lacks a column.
    """
    try:
        data = ResultsFolder(path.parent).read(path.name)
        table = read_parquet(pa.BufferReader(data), len(data))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise AsdError(f"{path} is damaged ({error}); score again, or delete it") from error
    if not columns <= set(table.column_names):
        lacking = ", ".join(sorted(columns - set(table.column_names)))
        raise AsdError(f"{path} lacks the columns {lacking}; score again, or delete it")
    # A missing number was NaN where pandas wrote it.
    return [
        {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in table.to_pylist()
    ]
