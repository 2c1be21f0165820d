"""Rules for the classes of training clips, made without any anomaly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.files.text_tables import read_table
from cache.table import SYNTHETIC, domain_or_source
from extractors.clips.listing import Clip

KINDS = ("attributes", "machine", "groups")
CLUSTERED = ("section", "domain")  # what clips without attributes are clustered within
RARE = "rare"
_GROUP_COLUMNS = ("machine_type", "group")


@dataclass(frozen=True)
class Labels:
    """Classes of clips.

    Attributes
    ----------
    names
        K class names, ascending.
    numbers
        (N,) int64, the class of each clip.
    """

    names: tuple[str, ...]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Labels:
        """Build from the class name of each of N clips."""
        names, numbers = np.unique(np.array(texts, dtype=object), return_inverse=True)
        return cls(tuple(map(str, names)), numbers.astype(np.int64))


def attribute_label(clip: Clip, chosen: Sequence[str]) -> str:
    """Name machine type x section x attributes as a class.

    Parameters
    ----------
    clip
        With attributes or without: then its section is the class.
    chosen
        Attributes to look at; all where empty.
    """
    known = sorted(clip.attributes.items())
    values = [f"{key}={value}" for key, value in known if key != SYNTHETIC and (not chosen or key in chosen)]
    return "/".join([str(clip.section), *([",".join(values)] if values else [])])


def check_attributes(clips: Sequence[Clip], chosen: Sequence[str]) -> None:
    """See that every attribute chosen exists.

    Raises
    ------
    AsdError
        If no clip has one of them.
    """
    known = sorted({key for clip in clips for key in clip.attributes})
    for name in chosen:
        if name not in known:
            raise AsdError(f"no clip has the attribute {name!r}; known are {', '.join(known)}")


def merge_rare(texts: Sequence[str], clips: Sequence[Clip], least: int) -> tuple[list[str], int]:
    """Merge the classes of a section that have too few clips to learn from into one.

    Parameters
    ----------
    texts
        Class of each clip.
    clips
        The clips.
    least
        A class of fewer clips joins ``<machine type>/section_<nn>/rare``, which stays however few
        it then has: it is one class more, never one clip less.

    Returns
    -------
    list of str
        The classes.
    int
        How many classes were merged; a section's only rare class keeps its name.
    """
    counts = Counter(texts)
    rare = {
        (str(clip.section), text) for clip, text in zip(clips, texts, strict=True) if counts[text] < least
    }
    several = Counter(section for section, _ in rare)
    merged = {text: f"{section}/{RARE}" for section, text in rare if several[section] > 1}
    return [merged.get(text, text) for text in texts], len(merged)


def read_groups(path: Path) -> dict[str, str]:
    """Read machine-type groups from a CSV file with the columns ``machine_type,group``.

    Raises
    ------
    AsdError
        If it is no such file, or names a machine type twice.
    """
    table = read_table(path)
    lacking = [name for name in _GROUP_COLUMNS if name not in table.columns]
    if lacking or table.faults:
        number, fault = next(iter(table.faults.items()), (0, ""))
        what = f"no column {lacking[0]}" if lacking else f"row {number}: {fault}"
        wanted = ",".join(_GROUP_COLUMNS)
        raise AsdError(f"--groups {path}: not a CSV file with {wanted}: {what}")
    rows = [(row["machine_type"], row["group"]) for row in table.rows.values()]
    twice = [name for name, count in Counter(name for name, _ in rows).items() if count > 1]
    if twice:
        raise AsdError(f"--groups {path}: {twice[0]!r} stands in it more than once")
    return dict(rows)


def group_labels(clips: Sequence[Clip], groups: Mapping[str, str]) -> list[str]:
    """Name each clip's machine group.

    Raises
    ------
    AsdError
        If a machine type has none.
    """
    missing = sorted({clip.section.machine_type for clip in clips} - groups.keys())
    if missing:
        raise AsdError(
            f"no group for the machine type {', '.join(missing)}; add its line to the --groups file"
        )
    return [groups[clip.section.machine_type] for clip in clips]


def cluster_machines(embeddings: NDArray[np.float32], clips: Sequence[Clip], count: int) -> dict[str, str]:
    """Group machine types by the mean of their frozen embeddings.

    Ward's linkage on means of standardised embeddings; no random numbers.

    Parameters
    ----------
    embeddings
        (N, D) of the clips.
    clips
        The clips.
    count
        Number of groups, at most that of machine types.

    Returns
    -------
    dict
        Machine type to ``group_<n>``.

    Raises
    ------
    AsdError
        If there are fewer machine types than groups.
    """
    machines = sorted({clip.section.machine_type for clip in clips})
    if not 1 <= count <= len(machines):
        raise AsdError(f"--groups {count}: expected 1 to {len(machines)}, the number of machine types")
    if len(machines) == 1:
        return {machines[0]: "group_0"}
    scaled = (embeddings - embeddings.mean(0)) / np.maximum(embeddings.std(0), 1e-12)
    of = np.array([clip.section.machine_type for clip in clips])
    means = np.stack([scaled[of == machine].mean(0) for machine in machines])
    from sklearn.cluster import AgglomerativeClustering  # noqa: PLC0415 -- heavy, seldom used

    found = AgglomerativeClustering(count).fit_predict(means)
    return {machine: f"group_{number}" for machine, number in zip(machines, found, strict=True)}


def pseudo_labels(
    embeddings: NDArray[np.float32], clips: Sequence[Clip], clusters: int, seed: int, by: str = "section"
) -> list[str]:
    """Split sections, or the domains of each, into clusters of frozen embeddings.

    k-means on unit vectors, that is, by cosine.

    Parameters
    ----------
    embeddings
        (N, D) of the clips.
    clips
        The clips, of sections without attributes.
    clusters
        A section or domain, 2 or more; as many as it has different clips at most.
    seed
        Of k-means.
    by
        One of `CLUSTERED`; a clip of unknown domain is of the source.

    Returns
    -------
    list of str
        ``<section>/cluster=<n>`` of each clip, or ``<section>/<domain>/cluster=<n>``.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 -- heavy, seldom used

    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    texts = [""] * len(clips)
    places: dict[str, list[int]] = defaultdict(list)
    for row, clip in enumerate(clips):
        domain = f"/{domain_or_source(clip.domain)}" if by == "domain" else ""
        places[f"{clip.section}{domain}"].append(row)
    for place, rows in places.items():
        count = min(clusters, len(np.unique(unit[rows], axis=0)))
        found = KMeans(count, n_init=4, random_state=seed).fit_predict(unit[rows])
        for row, number in zip(rows, found, strict=True):
            texts[row] = f"{place}/cluster={number}"
    return texts
