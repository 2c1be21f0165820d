"""Which training clips are left out together when a threshold is learnt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError, listing
from cache.heard import split_id
from cache.table import EmbeddingTable
from index.knn import NearestNeighbours
from index.space import SpaceOptions

# Embeddings of one sound differ by rounding alone, relative to their length: float32 sums in
# another order for another batch (DESIGN: at most 1e-5).
_SAME = 1e-5
_PROJECTED = 8
# Clips nearer to each other than this share of the median distance of two clips count as siblings.
# Chosen on two machines (benchmarks/calibration.md), where unrelated clips of few independent values
# often lie as near by chance: the cut sooner holds out too much than too little.
_SIBLINGS = 0.7
# Of many independent values unrelated clips all lie about as far apart; siblings stand out that are
# nearer than so many deviations below the median, measured above it, where no siblings are. Chosen
# by simulation: 2 lets a quarter of normal clips through where groups differ moderately, 1 halves
# the promised share where they do not.
_DEVIATIONS = 1.5
_CLUSTERED = 4096  # clips a domain that are clustered; further ones join the nearest of these
_DAY = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)([01][0-9])\2([0-3][0-9])"
    r"(?=$|[^0-9]|[0-9]{4}(?![0-9])|[0-9]{6}(?:[0-9]{3})?(?![0-9]))"  # a time may follow
)

GROUPINGS = ("auto", "none", "file", "folder", "day", "attribute:KEY", "column:NAME")


@dataclass(frozen=True, eq=False)
class Groups:
    """Which clips were recorded together.

    Attributes
    ----------
    numbers
        (N,) group of each clip, from 0.
    told
        What was assumed, for a reader.
    """

    numbers: NDArray[np.intp]
    told: str

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.numbers))


def group_clips(table: EmbeddingTable, grouping: str) -> Groups:
    """Group the training clips of a section.

    Whatever the grouping, copies of one sound and windows of one file are of one group. A domain
    whose clips are all of one group could not be left out without the domain, so that its clips are
    left out one by one.

    Parameters
    ----------
    table
        (N, D) clips.
    grouping
        ``auto``, from the embeddings alone, see `alike`; ``none``, each clip by itself; ``file``,
        the file that windows are cut from; ``folder``, the folder a file lies in; ``day``, the date
        in its name, or in that of a folder; ``attribute:KEY`` or ``column:NAME``, a value of the
        file name, of ``attributes_NN.csv`` or of a manifest's column.

    Raises
    ------
    AsdError
        If there is no such grouping, or a clip has no date or no such attribute.
    """
    check_grouping(grouping)
    files = [split_id(key.clip_id)[0] for key in table.keys]
    told = ""
    if grouping == "auto":
        numbers = alike(table)
        told = "clips of similar sound taken for recorded together"
    elif grouping in ("none", "file"):
        numbers = _numbers(files)
        told = "each file taken for a recording of its own"
    elif grouping == "folder":
        numbers = _numbers([str(PurePosixPath(file).parent) for file in files])
        told = "files of one folder recorded together"
    elif grouping == "day":
        numbers = _numbers(_days(table, files))
        told = "files of one day recorded together"
    else:
        key = grouping.partition(":")[2]
        numbers = _numbers(_values(table, key))
        told = f"clips of one {key} recorded together"
    joined = _linked(table, files, numbers)
    target = np.array([key.domain == "target" for key in table.keys])
    for domain, rows in (("source", np.flatnonzero(~target)), ("target", np.flatnonzero(target))):
        if len(np.unique(joined[rows])) == 1:
            numbers[rows] = numbers.max() + 1 + np.arange(len(rows))
            again = _linked(table, files, numbers)
            if len(np.unique(again[rows])) > 1:
                joined = again
                told += f"; the {domain} clips are all of one group and left out one by one"
    return Groups(np.unique(joined, return_inverse=True)[1], told)


def check_grouping(grouping: str) -> None:
    """Refuse a grouping that there is not."""
    kind, _, key = grouping.partition(":")
    if grouping not in GROUPINGS[:5] and not (kind in ("attribute", "column") and key):
        raise AsdError(f"--group {grouping}: expected one of {', '.join(GROUPINGS)}")


def alike(table: EmbeddingTable) -> NDArray[np.intp]:
    """Cluster the clips of each domain by how alike they sound, (N,) numbers.

    Average linkage (Sokal and Michener 1958) of Euclidean distances between standardised
    embeddings, cut at ``max(0.7, 1 - 1.5 s)`` of the median distance of two clips of the domain,
    ``s`` the 84th percentile of these distances over their median, less 1: a deviation, measured
    where siblings have no part. Some unrelated clips are joined too, so that the threshold comes out
    higher than it need be rather than too low.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 -- heavy, and a bank that is read needs none of it
    from scipy.spatial.distance import pdist  # noqa: PLC0415

    vectors = SpaceOptions().fit_space(table).apply(table.embeddings)
    numbers = np.arange(len(table))
    target = np.array([key.domain == "target" for key in table.keys])
    for rows in (np.flatnonzero(~target), np.flatnonzero(target)):
        if len(rows) < 3:
            continue
        places = np.linspace(0, len(rows) - 1, min(len(rows), _CLUSTERED)).round().astype(np.intp)
        some = vectors[rows[places]]
        distances = pdist(some.astype(np.float64))
        median, upper = np.quantile(distances, [0.5, 0.84])  # 0.84: one deviation of a normal one
        height = median - _DEVIATIONS * (upper - median)
        # Clips that are all as far from each other, but for rounding, are no siblings.
        height = min(max(height, _SIBLINGS * median), 0.99 * median)
        found = fcluster(linkage(distances, "average"), height, "distance")
        if len(rows) > len(places):
            found = found[NearestNeighbours(some).search(vectors[rows], 1).rows[:, 0]]
        first = {number: int(row) for row, number in reversed(list(zip(rows, found, strict=True)))}
        numbers[rows] = [first[number] for number in found]
    return numbers


def _days(table: EmbeddingTable, files: Sequence[str]) -> list[str]:
    found = []
    for file in files:
        days = [_day(part) for part in reversed(PurePosixPath(file).parts)]
        found.append(next((day for day in days if day), ""))
    lacking = [file for file, day in zip(files, found, strict=True) if not day]
    if lacking:
        raise AsdError(
            f"--group day: no date in the name of {listing(lacking)} of {table.section}; expected "
            "one as 20260131, 2026-01-31 or 2026_01_31, or choose --group auto"
        )
    return found


def _day(name: str) -> str:
    for match in _DAY.finditer(name):
        try:
            return date(int(match[1]), int(match[3]), int(match[4])).isoformat()
        except ValueError:
            continue
    return ""


def _values(table: EmbeddingTable, name: str) -> list[str]:
    values = [key.domain if name == "domain" else (key.attributes or {}).get(name) for key in table.keys]
    lacking = [key.clip_id for key, value in zip(table.keys, values, strict=True) if value is None]
    if lacking:
        known = sorted({name for key in table.keys for name in key.attributes or {}})
        raise AsdError(
            f"--group {name}: {len(lacking)} of {len(table)} training clips of {table.section} have "
            f"no {name}, {lacking[0]} for one; known are {', '.join(known) or 'none'}"
        )
    return [str(value) for value in values]


def _numbers(names: Sequence[str]) -> NDArray[np.intp]:
    place: dict[str, int] = {}
    return np.array([place.setdefault(name, row) for row, name in enumerate(names)], dtype=np.intp)


def _linked(table: EmbeddingTable, files: Sequence[str], numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """Least row of each group once copies and windows of one file are joined to it."""
    rows = np.arange(len(table))
    others = (_numbers(files), originals(table), _numbers([str(n) for n in numbers.tolist()]))
    return _joined(len(table), np.concatenate([np.column_stack([rows, o]) for o in others]))


def originals(table: EmbeddingTable) -> NDArray[np.intp]:
    """Row that first holds the sound of each row, (N,); a clip that is no copy gives its own.

    Copies are clips of one content (SHA-256 and span of the file), and clips whose embeddings
    differ by no more than rounding, as the same samples in two file formats do.

    Parameters
    ----------
    table
        (N, D) clips of one section.
    """
    first = np.arange(len(table))
    held: dict[tuple[str, object], int] = {}
    for row, key in enumerate(table.keys):
        if key.content_sha256:
            first[row] = held.setdefault((key.content_sha256, split_id(key.clip_id)[1]), row)
    pairs = np.column_stack([np.arange(len(table)), first])
    return _joined(len(table), np.concatenate([pairs, _equal_embeddings(table.embeddings)]))


def without_copies(table: EmbeddingTable) -> EmbeddingTable:
    """Return the table with one clip of each sound and domain, the first one."""
    first = originals(table)
    seen: set[tuple[int, str | None]] = set()
    rows = []
    for row, key in enumerate(table.keys):
        sound = int(first[row]), key.domain
        if sound not in seen:
            seen.add(sound)
            rows.append(row)
    return table if len(rows) == len(table) else table.select(rows)


def _equal_embeddings(embeddings: NDArray[np.float32]) -> NDArray[np.intp]:
    """(P, 2) pairs of rows that are equal up to rounding; each chain of them is whole."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 -- heavy, and a bank that is read needs none of it

    held: dict[bytes, int] = {}
    first = [held.setdefault(vector.tobytes(), row) for row, vector in enumerate(embeddings)]
    exact = np.column_stack([np.arange(len(first)), first])
    rows = np.array(list(held.values()), dtype=np.intp)
    values = embeddings[rows].astype(np.float64)
    lengths = np.sqrt(np.square(values).sum(axis=1))
    # An orthonormal projection makes no distance longer, and a tree is fast in a few dimensions.
    few = min(_PROJECTED, values.shape[1])
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(values.shape[1], few)))[0]
    limit = _SAME * float(lengths.max(initial=0.0))
    near = cKDTree(values @ axes).query_pairs(limit, output_type="ndarray")
    apart = np.array([np.linalg.norm(values[a] - values[b]) for a, b in near.tolist()])
    same = apart <= _SAME * lengths[near].max(axis=1, initial=0.0)
    return np.concatenate([exact, rows[near[same]]])


def _joined(count: int, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Least row of each row's connected component, (count,)."""
    least = np.arange(count)
    for one, other in pairs.tolist():
        a, b = _root(least, one), _root(least, other)
        least[max(a, b)] = min(a, b)
    return np.array([_root(least, row) for row in range(count)], dtype=np.intp)


def _root(least: NDArray[np.intp], row: int) -> int:
    while least[row] != row:
        row = int(least[row])
    return row
