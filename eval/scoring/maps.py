"""Two-dimensional maps of a section's embeddings, written beside its scores."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.files.bounds import read_parquet
from cache.table import EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, result_names

Points = NDArray[np.float64]

MAP = "map"
_NEIGHBOURS = 15  # UMAP, McInnes et al. 2018: the default of its authors


def pca(reference: Points, others: Points) -> Points:
    """Project on the two directions in which the reference varies most.

    Parameters
    ----------
    reference, others
        (N, D), (M, D) standardised by the reference.

    Returns
    -------
    ndarray
        (N + M, 2).
    """
    both = np.vstack([reference, others])
    if min(reference.shape) < 2 or not np.ptp(reference, axis=0).any():
        return np.pad(both, ((0, 0), (0, 2)))[:, :2]  # nothing to fit to: the first two values
    from sklearn.decomposition import PCA  # noqa: PLC0415 (a second that most commands do not need)

    fitted = PCA(2, svd_solver="randomized", random_state=0).fit(reference)
    return np.asarray(fitted.transform(both), dtype=np.float64)


def umap(reference: Points, others: Points) -> Points:
    """Lay both out so that neighbours stay neighbours (McInnes et al. 2018); (N + M, 2)."""
    from umap import UMAP  # noqa: PLC0415  compiles for seconds when imported

    both = np.vstack([reference, others])
    near = min(_NEIGHBOURS, len(both) - 1)
    if near < 2:
        return pca(reference, others)
    layout = UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(both)
    return np.asarray(layout, dtype=np.float64)


METHODS: Mapping[str, Callable[[Points, Points], Points]] = {"pca": pca, "umap": umap}


def write_map(
    results: ResultsFolder, train: EmbeddingTable | None, test: EmbeddingTable, method: str
) -> Path:
    """Write where each clip lies on the map, as Parquet.

    Parameters
    ----------
    results
        Where submissions are written.
    train, test
        (N, D), (M, D) embeddings of one section; training clips may be unknown.
    method
        Of `METHODS`.

    Returns
    -------
    Path
        ``map_<machine>_section_<nn>_test.parquet`` with a row a clip.
    """
    tables = [test] if train is None else [train, test]
    reference = tables[0].embeddings.astype(np.float64)
    centre, scale = reference.mean(axis=0), reference.std(axis=0)
    scale[scale == 0] = 1.0
    standard = [(table.embeddings - centre) / scale for table in tables]
    others = standard[1] if len(standard) > 1 else np.zeros((0, test.width))
    points = METHODS[method](standard[0], others)
    keys = [(table.split, key) for table in tables for key in table.keys]
    rows = pa.table(
        {
            "clip_id": [key.clip_id for _, key in keys],
            "name": [*[None] * (len(keys) - len(test)), *result_names(test.clip_ids)],
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
    return results.write(file_name(MAP, test.section, "parquet"), buffer.getvalue())


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
