"""The figures of a history in Prometheus' text format: counters, the last score, alarms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.files.atomic import write_atomic
from eval.monitor.history import History

Labelled = Mapping[tuple[tuple[str, str], ...], float]
"""Labels, pairs of name and value, to a number."""
_DECISIONS = {1: "abnormal", 0: "normal", None: "unjudged"}


def metric(name: str, kind: str, about: str, values: Labelled) -> str:
    """Write a metric of the text format, version 0.0.4.

    Parameters
    ----------
    name, kind, about
        Its name, ``counter`` or ``gauge`` or another, and what it is.
    values
        Labels, pairs of name and value, to the number.
    """
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    for labels, value in values.items():
        told = ",".join(f'{key}="{text.translate(escapes)}"' for key, text in labels)
        lines.append(f"{name}{{{told}}} {value!r}" if told else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


@dataclass
class HistoryMetrics:
    """A history's figures, in a file that is written anew when they change.

    Attributes
    ----------
    history
        Whose; other watchers' judgements in it count too.
    path
        The file, for a node exporter's textfile collector or any web server.
    """

    history: History
    path: Path
    _last: int = field(default=-1, init=False)
    _clips: Counter[str] = field(default_factory=Counter, init=False)
    _alarms: int = field(default=0, init=False)
    _raised: bool = field(default=False, init=False)
    _row: dict[str, Any] = field(default_factory=dict, init=False)

    def update(self, waiting: int = 0) -> None:
        """Take in what is new and write the file.

        Parameters
        ----------
        waiting
            Messages that no sink has taken yet.
        """
        for row in self.history.read(after=self._last).to_pylist():
            self._last = row["number"]
            self._clips[_DECISIONS[row["decision"]]] += 1
            self._alarms += row["event"] == "raised"
            self._raised = row["event"] != "cleared" if row["event"] else self._raised
            self._row = row if row["score"] is not None or not self._row else self._row
        write_atomic(self.path, self.text(waiting).encode())

    def text(self, waiting: int = 0) -> str:
        """Write the figures as text."""
        row = self._row
        machine = tuple((name, str(row[name])) for name in ("machine_type", "section") if name in row)
        clips = {(*machine, ("decision", name)): float(self._clips[name]) for name in _DECISIONS.values()}
        parts = [metric("asd_clips_total", "counter", "Recordings by how they were judged.", clips)]
        gauges = {
            "score": "Anomaly score of the last recording.",
            "threshold": "Scores above it are called abnormal.",
            "evidence": "Evidence of a change, in clips a false alarm.",
        }
        for name, about in gauges.items():
            if row.get(name) is not None:
                parts.append(metric(f"asd_{name}", "gauge", about, {machine: float(row[name])}))
        if row:
            when = row["time"].timestamp()
            told = "When the last recording was made, s since 1970."
            parts.append(metric("asd_last_clip_timestamp_seconds", "gauge", told, {machine: when}))
        parts += [
            metric("asd_alarms_total", "counter", "Alarms raised.", {machine: float(self._alarms)}),
            metric("asd_alarm", "gauge", "1 while an alarm is up.", {machine: float(self._raised)}),
            metric("asd_messages_waiting", "gauge", "Alarms not delivered yet.", {machine: float(waiting)}),
        ]
        return "".join(parts)
