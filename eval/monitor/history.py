"""The history of judgements: appended, never changed, readable with pandas, whole after any kill."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import write_atomic
from eval.monitor.request import HistoryRequest

_STATE = b"asd_state"
_NAME = re.compile(r"(\d{10})-(\d{10})\.parquet")
_COMPACTED = 200  # segments after which all are written into one; a segment is a batch of clips


@dataclass(frozen=True)
class Judgement:
    """The judgement of one clip.

    Attributes
    ----------
    time
        Of the recording, s since 1970 (UTC).
    clip
        Its name at the source.
    content_sha256
        Of its bytes: with `clip` it says which recordings were judged already.
    machine_type, section
        Whose normal clips it was held against.
    score, threshold
        Higher is more anomalous; ``None`` where there is none.
    p_value
        In (0, 1]; ``None`` where the bank cannot tell.
    decision
        1 abnormal, 0 normal, ``None`` where it could not be judged.
    evidence
        Of all clips up to this one, in clips a false alarm.
    sentence
        What is different, or why it could not be judged.
    kind, low, high, decibels
        The difference in figures, see `eval.scoring.difference.Difference`; empty and ``None`` where none
        was looked for.
    windows
        How many the recording was heard in, of which the score is the largest.
    bank
        Fingerprint of the bank.
    event, alarm, reason
        What the clip changed: ``raised``, ``repeated``, ``cleared`` or empty; the alarm's number, 0 for
        none; and why.
    """

    time: float
    clip: str
    content_sha256: str
    machine_type: str
    section: int
    score: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    decision: int | None = None
    evidence: float | None = None
    sentence: str = ""
    bank: str = ""
    event: str = ""
    alarm: int = 0
    reason: str = ""
    kind: str = ""
    low: float | None = None
    high: float | None = None
    decibels: float | None = None
    windows: int = 1


_SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("clip", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string(), nullable=False),
        pa.field("machine_type", pa.string(), nullable=False),
        pa.field("section", pa.int32(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("score", "threshold", "p_value")),
        pa.field("decision", pa.int8()),
        pa.field("evidence", pa.float64()),
        *(pa.field(name, pa.string(), nullable=False) for name in ("sentence", "bank", "event")),
        pa.field("alarm", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("low", "high", "decibels")),
        pa.field("windows", pa.int32(), nullable=False),
    ]
)


class History:
    """Judgements below one folder, in the order in which they were made.

    A batch is one file, ``<first>-<last>.parquet`` by the numbers of its judgements, with the state that the
    next batch goes on from (the alarms') in its metadata: both are there or neither, so that a killed
    watcher neither loses nor doubles a clip. Many files are written into one from time to time; a file
    whose numbers another one holds too is what a kill left, and is passed over.

    Parameters
    ----------
    root
        Its folder, on this machine.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def below(cls, folder: Path) -> list[History]:
        """Find the histories in a folder, at any depth, by path.

        Raises
        ------
        AsdError
            If there is none.
        """
        roots = {path.parent for path in folder.rglob("*.parquet") if _NAME.fullmatch(path.name)}
        if not roots:
            raise AsdError(f"no history in {folder}: name the --state folder of a watch")
        return [cls(root) for root in sorted(roots)]

    def append(self, judgements: Sequence[Judgement], state: Mapping[str, Any]) -> None:
        """Add a batch; hold `locked(root)` from reading the state on.

        Parameters
        ----------
        judgements
            At least one.
        state
            JSON values that `state` gives from now on.
        """
        segments = self._segments()
        first = segments[-1][1] + 1 if segments else 0
        rows = [asdict(one) | {"time": round(1e6 * one.time)} for one in judgements]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        self._write(table, first, first + len(judgements) - 1, json.dumps(state).encode())
        if len(segments) + 1 >= _COMPACTED:
            self.compact()

    def compact(self) -> None:
        """Write all batches into one file, then remove theirs."""
        segments = self._segments()
        if len(segments) < 2:
            return
        tables = [_read(self.root / _name(*segment)) for segment in segments]
        whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
        state = (tables[-1].schema.metadata or {})[_STATE]
        self._write(whole, segments[0][0], segments[-1][1], state)
        for path in self.root.glob("*.parquet"):
            if path.name != _name(segments[0][0], segments[-1][1]):
                path.unlink(missing_ok=True)

    def read(self, after: int = -1) -> pa.Table:
        """Read judgements, oldest first, with a column ``number``.

        Parameters
        ----------
        after
            Only those of higher numbers.

        Raises
        ------
        AsdError
            If a file is damaged, or one is missing between others.
        """
        schema = pa.schema([pa.field("number", pa.int64(), nullable=False), *_SCHEMA])
        found = [schema.empty_table()]
        for first, last in self._segments():
            if last > after:
                table = _read(self.root / _name(first, last)).replace_schema_metadata(None)
                numbered = table.add_column(0, schema.field(0), pa.array(range(first, last + 1), pa.int64()))
                found.append(numbered.slice(max(0, after + 1 - first)))
        return pa.concat_tables(found)

    def state(self) -> dict[str, Any]:
        """Return the state of the last batch; empty if there is none.

        Raises
        ------
        AsdError
            If its file is damaged.
        """
        segments = self._segments()
        if not segments:
            return {}
        schema = _opened(self.root / _name(*segments[-1])).schema_arrow
        found: dict[str, Any] = parse_json((schema.metadata or {})[_STATE])
        return found

    def judged(self, after: int = -1) -> tuple[dict[int, float], int]:
        """List the clips judged so far, in a few bytes each.

        Parameters
        ----------
        after
            Only judgements of higher numbers.

        Returns
        -------
        dict, int
            `clip_key` of name and content, and of the name alone, to the time of the recording; and the
            number of the last judgement, `after` where there is none.
        """
        found: dict[int, float] = {}
        for first, last in self._segments():
            if last <= after:
                continue
            table = _read(self.root / _name(first, last), ["time", "clip", "content_sha256"])
            times = table["time"].cast(pa.int64()).to_pylist()
            names, contents = (table[name].to_pylist() for name in ("clip", "content_sha256"))
            for time, name, content in zip(times, names, contents, strict=True):
                found[clip_key(name, content)] = found[clip_key(name)] = time / 1e6
            after = last
        return found, after

    def _write(self, table: pa.Table, first: int, last: int, state: bytes) -> None:
        buffer = io.BytesIO()
        pq.write_table(
            table.replace_schema_metadata({_STATE: state}),
            buffer,
            compression="zstd",
            write_page_checksum=True,
        )
        write_atomic(self.root / _name(first, last), buffer.getvalue())

    def _segments(self) -> list[tuple[int, int]]:
        """List first and last numbers of the files that count, ascending, without a gap."""
        matches = [_NAME.fullmatch(path.name) for path in self.root.glob("*.parquet")]
        spans = sorted(((int(m[1]), int(m[2])) for m in matches if m), key=lambda span: (span[0], -span[1]))
        kept: list[tuple[int, int]] = []
        for span in spans:
            if kept and span[1] <= kept[-1][1]:
                continue  # within the one before it: left by a kill while files were written into one
            expected = kept[-1][1] + 1 if kept else 0
            if span[0] != expected:
                raise AsdError(
                    f"{self.root}: judgements {expected} to {span[0] - 1} are missing; put their files "
                    "back, or begin a new history in another folder"
                )
            kept.append(span)
        return kept


def rows_of(asked: HistoryRequest) -> list[dict[str, Any]]:
    """Read the judgements that fit all filters.

    Raises
    ------
    AsdError
        If there is no history, or it is damaged.
    """
    rows = [row for one in History.below(asked.state) for row in one.read().to_pylist() if asked.fits(row)]
    return rows if asked.last is None else rows[-asked.last :]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write judgements as CSV or Parquet, by the file's suffix."""
    import pandas as pd  # noqa: PLC0415 (half a second that lines do not need)

    frame = pd.DataFrame(rows, columns=["number", *(item.name for item in fields(Judgement))])
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        raise AsdError(f"--table {path}: expected a name that ends in .csv or .parquet")


def judgement_of(row: Mapping[str, Any]) -> Judgement:
    """Read a judgement back from its row."""
    told = {item.name: row[item.name] for item in fields(Judgement)}
    return Judgement(**told | {"time": row["time"].timestamp()})


def line_of(judgement: Judgement) -> str:
    """Write a judgement as a line for people."""
    one = judgement
    verdict = {1: "ABNORMAL", 0: "normal", None: "not judged"}[one.decision]
    parts = [utc(one.time), f"{verdict:10}"]
    if one.score is not None:
        sign = ">" if one.decision == 1 else "<="
        limit = "" if one.threshold is None else f" {sign} {one.threshold:.4g}"
        parts.append(f"{one.score:.4g}{limit}")
    if one.p_value is not None:
        parts.append(f"p {one.p_value:.2g}")
    text = "  ".join([*parts, one.clip]) + (f": {one.sentence}" if one.sentence else "")
    return text + (f"\n  alarm {one.alarm} {one.event}: {one.reason}" if one.event else "")


def facts_of(judgement: Judgement) -> dict[str, Any]:
    """Write a judgement as JSON values."""
    return asdict(judgement) | {"time": utc(judgement.time)}


def utc(time: float) -> str:
    """Write seconds since 1970 as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clip_key(name: str, content_sha256: str = "") -> int:
    """Hash a clip to 64 bits that stand for it; two of a million clips share one with a chance of 3e-8."""
    digest = hashlib.blake2b(f"{name}\0{content_sha256}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _name(first: int, last: int) -> str:
    return f"{first:010d}-{last:010d}.parquet"


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise AsdError(f"{path} is damaged ({error}); put a copy back, or begin a new history") from error


def _read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        table = _opened(path).read(columns=columns)
    except (OSError, ValueError) as error:
        raise AsdError(f"{path} is damaged ({error}); put a copy back, or begin a new history") from error
    if columns is None and table.schema.names == _SCHEMA.names[:-1]:  # of before windows were counted
        table = table.append_column(_SCHEMA.field("windows"), pa.array(np.ones(len(table)), pa.int32()))
    if columns is None and table.schema.names != _SCHEMA.names:
        raise AsdError(f"{path} has columns {table.schema.names}, expected {_SCHEMA.names}: not a history")
    return table
