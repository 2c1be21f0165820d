"""The embedding table: N clips x D values and the columns that say what each clip is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.text import control_character
from cache.facts import Facts

Split = Literal["train", "test"]
Domain = Literal["source", "target"]
Condition = Literal["normal", "anomaly"]

SPLITS: tuple[str, ...] = get_args(Split)
DOMAINS: tuple[str, ...] = get_args(Domain)
CONDITIONS: tuple[str, ...] = get_args(Condition)
ANOMALY: Condition = "anomaly"


def domain_or_source(domain: str | None) -> str:
    """Give the domain a training clip is learnt with; of unknown domain, that is source."""
    return domain or "source"


_LAST_SECTION = 2**31 - 1  # tables hold 32-bit numbers
SYNTHETIC = "synthetic"  # the attribute of a clip that no microphone recorded as it is: its method


@dataclass(frozen=True, order=True)
class Section:
    """The unit that gets its own index: one machine type, one section number."""

    machine_type: str
    number: int

    def __post_init__(self) -> None:
        name = self.machine_type
        # A leading - would make an option of a name that stands on a command line.
        if not name or name.startswith((".", "-")) or {"/", "\\"} & set(name):
            raise AsdError(
                f"{name!r} section {self.number}: a machine type is a plain folder name that begins "
                "with neither . nor -; rename it"
            )
        if found := control_character(name):
            raise AsdError(f"{name!r}: a machine type with the control character {found}; rename it")
        if not 0 <= self.number <= _LAST_SECTION:
            raise AsdError(f"{name!r} section {self.number}: expected a number from 0 to {_LAST_SECTION}")

    def __str__(self) -> str:
        return f"{self.machine_type}/section_{self.number:02d}"

    @classmethod
    def at(cls, folder: Path) -> Section:
        """Read a section back from its folder, ``<machine_type>/section_<nn>``.

        Raises
        ------
        AsdError
            If it is no section's.
        """
        found = re.fullmatch("section_([0-9]{2}|[1-9][0-9]{2,9})", folder.name)
        if found is None:
            raise AsdError(f"{folder}: expected <machine_type>/section_<nn>; move it elsewhere")
        return cls(folder.parent.name, int(found[1]))


@dataclass(frozen=True)
class ClipKey:
    """What is known of a clip beside its sound.

    Attributes
    ----------
    clip_id
        POSIX path relative to the data root: unique in a data set.
    content_sha256
        Hexadecimal SHA-256 of the audio file's bytes.
    domain, condition
        ``None`` where unknown, as in the challenge's evaluation data.
    attributes
        Operating conditions, name to value.
    facts
        What the recording turned out to be; ``None`` in tables of before it was kept. No part of
        what tells one clip from another.
    """

    clip_id: str
    content_sha256: str
    domain: str | None = None
    condition: str | None = None
    attributes: Mapping[str, str] | None = None
    facts: Facts | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _expect(self.clip_id, "domain", self.domain, DOMAINS)
        _expect(self.clip_id, "condition", self.condition, CONDITIONS)

    @property
    def synthetic(self) -> bool:
        """Whether the clip is made, not recorded."""
        return SYNTHETIC in (self.attributes or {})


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings of one section's training or test clips, sorted by ``clip_id``.

    Attributes
    ----------
    section, split
        Which clips these are.
    keys
        N keys, one a row.
    embeddings
        (N, D) float32, finite, not normalised.
    blocks
        Name to ``(start, stop)`` columns: one block a backbone, in column order.
    """

    section: Section
    split: str
    keys: tuple[ClipKey, ...]
    embeddings: NDArray[np.float32]
    blocks: Mapping[str, tuple[int, int]]

    def __post_init__(self) -> None:
        _expect(str(self.section), "split", self.split, SPLITS)
        _check_embeddings(self)
        _check_blocks(self)
        order = sorted(range(len(self.keys)), key=lambda row: self.keys[row].clip_id)
        if order != list(range(len(order))):
            object.__setattr__(self, "keys", tuple(self.keys[row] for row in order))
            object.__setattr__(self, "embeddings", self.embeddings[order])
        for before, clip_id in pairwise(self.clip_ids):
            if before == clip_id:
                raise AsdError(f"two clips with one id {clip_id!r}: clip ids must be unique")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def clip_ids(self) -> tuple[str, ...]:
        """Clip ids, ascending."""
        return tuple(key.clip_id for key in self.keys)

    @property
    def width(self) -> int:
        """Values a clip, D."""
        return int(self.embeddings.shape[1])

    def domain_rows(self, domain: str | None) -> NDArray[np.intp]:
        """Row numbers of one domain's clips; ``None`` asks for those of unknown domain."""
        return np.flatnonzero([key.domain == domain for key in self.keys])

    def select(self, rows: Sequence[int] | NDArray[np.intp]) -> EmbeddingTable:
        """Return the table of these rows only.

        Parameters
        ----------
        rows
            Row numbers, each once.
        """
        keys = tuple(self.keys[row] for row in rows)
        picked = np.asarray(rows, dtype=np.intp)
        return replace(self, keys=keys, embeddings=self.embeddings[picked])

    def columns(self, blocks: Sequence[str]) -> EmbeddingTable:
        """Return the table of these blocks only, in the order given."""
        spans = [self.blocks[name] for name in blocks]
        ends = np.cumsum([0, *(stop - start for start, stop in spans)]).tolist()
        embeddings = np.hstack([self.embeddings[:, start:stop] for start, stop in spans])
        named = dict(zip(blocks, pairwise(ends), strict=True))
        return replace(self, embeddings=embeddings, blocks=named)


def append_rows(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """Join tables of one section and split below each other.

    Parameters
    ----------
    tables
        At least one; the same section, split and blocks, no clip twice.

    Raises
    ------
    AsdError
        If they are not of one section, split and width, or share a clip.
    """
    first = tables[0]
    for table in tables[1:]:
        if (table.section, table.split, dict(table.blocks)) != (
            first.section,
            first.split,
            dict(first.blocks),
        ):
            raise AsdError(
                f"cannot append {table.section} {table.split} {dict(table.blocks)} to "
                f"{first.section} {first.split} {dict(first.blocks)}: section, split and blocks "
                "must be the same; extract both with one recipe"
            )
    keys = tuple(key for table in tables for key in table.keys)
    return replace(first, keys=keys, embeddings=np.concatenate([t.embeddings for t in tables]))


def join_columns(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
    """Concatenate blocks side by side, matched by ``clip_id``, never by row order.

    Parameters
    ----------
    tables
        Tables of the same clips: (N, D_1), (N, D_2), ...

    Returns
    -------
    EmbeddingTable
        (N, D_1 + D_2 + ...), blocks in the order given.

    Raises
    ------
    AsdError
        If the tables do not hold the same clips with the same content, or share a block name.
    """
    first = tables[0]
    blocks: dict[str, tuple[int, int]] = {}
    offset = 0
    for table in tables:
        _check_joinable(first, table, blocks)
        for name, (start, stop) in table.blocks.items():
            blocks[name] = (start + offset, stop + offset)
        offset += table.width
    return replace(first, embeddings=np.hstack([t.embeddings for t in tables]), blocks=blocks)


def _check_joinable(
    first: EmbeddingTable, other: EmbeddingTable, blocks: Mapping[str, tuple[int, int]]
) -> None:
    where = f"{first.section} {first.split}"
    shared = sorted(set(blocks) & set(other.blocks))
    if shared:
        raise AsdError(f"{where}: block {shared[0]!r} stands in two of the tables to concatenate")
    if (first.section, first.split) != (other.section, other.split):
        raise AsdError(f"cannot concatenate {where} with {other.section} {other.split}")
    contents = [{key.clip_id: key.content_sha256 for key in t.keys} for t in (first, other)]
    different = sorted(set(contents[0].items()) ^ set(contents[1].items()))
    if different:
        raise AsdError(
            f"{where}: the tables to concatenate do not hold the same clips, e.g. "
            f"{different[0][0]!r} ({len(first)} and {len(other)} rows); run the extraction of "
            "every backbone again on the same data"
        )


def _expect(where: str, name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise AsdError(f"{where}: {name} {value!r} is not one of {', '.join(allowed)}")


def _check_embeddings(table: EmbeddingTable) -> None:
    where, values = f"{table.section} {table.split}", table.embeddings
    if values.ndim != 2 or values.dtype != np.float32 or len(values) != len(table.keys):
        raise AsdError(
            f"{where}: embeddings of shape {values.shape} {values.dtype} for {len(table.keys)} "
            "clips; expected (clips, values) float32"
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise AsdError(
            f"{where}: the embedding of {table.keys[bad[0]].clip_id!r} and {bad.size - 1} more "
            "is not finite; look for silence or overflow in the clip, or extract in float32"
        )


def _check_blocks(table: EmbeddingTable) -> None:
    ends = [0]
    for start, stop in table.blocks.values():
        if start != ends[-1] or stop <= start:
            break
        ends.append(stop)
    if len(ends) != len(table.blocks) + 1 or ends[-1] != table.width:
        raise AsdError(
            f"{table.section} {table.split}: blocks {dict(table.blocks)} do not cover the "
            f"{table.width} columns one after the other"
        )
