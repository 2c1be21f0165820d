"""What travels between a run and its workers: a table's clips out, what was done with them back.

Both are Arrow tables of one row a table of the store; embeddings never travel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from cache.base.errors import listing
from cache.facts import Remark
from cache.files.places import place, with_siblings
from cache.table import Section
from extractors.clips.listing import Clip, Fault
from extractors.engines.local import Report

_SHOWN = 3  # clips that are named of those without a row

_CLIP = pa.struct(
    [
        ("clip_id", pa.string()),
        ("path", pa.string()),
        ("domain", pa.string()),
        ("condition", pa.string()),
        ("attributes", pa.string()),  # JSON
        ("span", pa.list_(pa.float64())),  # start and end, s
    ]
)
_KEY = [("machine_type", pa.string()), ("number", pa.int64()), ("split", pa.string())]
_MANIFEST = pa.schema([*_KEY, ("clips", pa.list_(_CLIP))])
_ANSWERS = pa.schema([*_KEY, ("answer", pa.string())])  # JSON

TableKey = tuple[Section, str]


@dataclass(frozen=True)
class Table:
    """A table to bring up to date: all clips of one section and split."""

    section: Section
    split: str
    clips: tuple[Clip, ...]

    @property
    def key(self) -> TableKey:
        """What tells it from the others."""
        return self.section, self.split

    def __str__(self) -> str:
        return f"{self.section} {self.split}"


@dataclass(frozen=True)
class Answer:
    """What a worker did with a table.

    Attributes
    ----------
    section, split
        Which table.
    reports
        One a backbone.
    notes
        What the libraries logged on the worker: level and text.
    error
        What the user can put right and ends the run; empty where nothing did.
    failure
        Any other exception, which leaves the table unfinished; empty where there was none.
    """

    section: Section
    split: str
    reports: tuple[Report, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    error: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Lost:
    """A table that no worker finished.

    Attributes
    ----------
    table
        Which.
    lacking
        Ids of its clips that have no row in a table asked for.
    reason
        What is known of the cause.
    """

    table: Table
    lacking: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        named = f": {listing(self.lacking, _SHOWN)}" if self.lacking else ""
        count = f"{len(self.lacking)} of {len(self.table.clips)} clips lack a row"
        return f"{self.table}: {self.reason}; {count}{named}"


@dataclass(frozen=True)
class Outcome:
    """What a run did: a report a backbone, and the tables that were not finished."""

    reports: Sequence[Report]
    lost: Sequence[Lost] = field(default_factory=tuple)


def tables_of(clips: Sequence[Clip]) -> list[Table]:
    """Group clips by table, in the order in which one process would take them."""
    ordered = sorted(clips, key=lambda clip: (clip.section, clip.split, clip.clip_id))
    groups = groupby(ordered, lambda clip: (clip.section, clip.split))
    return [Table(section, split, tuple(group)) for (section, split), group in groups]


def manifest(table: Table) -> pa.Table:
    """Write a table's clips as one row, local paths made absolute."""
    clips = [
        {
            "clip_id": clip.clip_id,
            "path": str(clip.path.absolute()),
            "domain": clip.domain,
            "condition": clip.condition,
            "attributes": json.dumps(dict(clip.attributes)),
            "span": clip.span,
        }
        for clip in table.clips
    ]
    return pa.Table.from_pylist([{**_columns(*table.key), "clips": clips}], schema=_MANIFEST)


def tables_from(rows: pa.Table) -> list[Table]:
    """Read what `manifest` wrote."""
    return [
        Table(*_key(row), tuple(_clip(*_key(row), clip) for clip in row["clips"])) for row in rows.to_pylist()
    ]


def answer_rows(answers: Sequence[Answer]) -> pa.Table:
    """Write answers, a row each."""
    rows = []
    for answer in answers:
        told = asdict(answer)
        del told["section"], told["split"]
        text = json.dumps(told, default=str)  # of all there is, only a fault's path is no JSON
        rows.append({**_columns(answer.section, answer.split), "answer": text})
    return pa.Table.from_pylist(rows, schema=_ANSWERS)


def answers_from(rows: pa.Table) -> list[Answer]:
    """Read what `answer_rows` wrote."""
    found = []
    for row in rows.to_pylist():
        told = json.loads(row["answer"])
        for fields in told["reports"]:
            fields["faults"] = [Fault(place(fault["path"]), fault["reason"]) for fault in fields["faults"]]
            fields["remarks"] = [Remark(**remark) for remark in fields["remarks"]]
        told["reports"] = tuple(Report(**fields) for fields in told["reports"])
        told["notes"] = tuple((int(level), str(text)) for level, text in told["notes"])
        found.append(Answer(*_key(row), **told))
    return found


def _columns(section: Section, split: str) -> dict[str, Any]:
    return {"machine_type": section.machine_type, "number": section.number, "split": split}


def _key(row: dict[str, Any]) -> TableKey:
    return Section(row["machine_type"], row["number"]), row["split"]


def _clip(section: Section, split: str, fields: dict[str, Any]) -> Clip:
    span = fields["span"]
    return Clip(
        fields["clip_id"],
        with_siblings(place(fields["path"])),
        section,
        split,
        fields["domain"],
        fields["condition"],
        json.loads(fields["attributes"]),
        None if span is None else (span[0], span[1]),
    )
