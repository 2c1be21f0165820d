"""The page about a history: scores over time, alarms, changes of the bank, counts a day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.page.build import HISTORY, render

_DAY = 86_400
_POINTS = 6000  # of a machine; of more, the highest of each moment are shown


def history_page(rows: Sequence[dict[str, Any]]) -> str:
    """Make a page of judgements.

    Parameters
    ----------
    rows
        Of `eval.monitor.history.History.read`, of one machine or several, at least one.
    """
    machines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        machines.setdefault(f"{row['machine_type']} section {row['section']:02d}", []).append(row)
    times = [row["time"].timestamp() for row in rows]
    data = {
        "clips": len(rows),
        "first": min(times),
        "last": max(times),
        "machines": [_machine(label, own) for label, own in sorted(machines.items())],
    }
    return render(data, HISTORY)


def _machine(label: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: row["time"])
    points = _thinned(ordered)
    return {
        "label": label,
        "clips": len(rows),
        "thinned": len(points) < len(rows),
        "points": [
            [
                row["time"].timestamp(), row["score"], row["threshold"], row["decision"], row["clip"],
                row["sentence"], row["event"], row["reason"], row["bank"],
            ]
            for row in points
        ],
        "days": day_counts(ordered),
    }  # fmt: skip


def day_counts(rows: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Count by days, UTC: when one begins, normal, abnormal, not judged, alarms raised."""
    days: dict[int, list[float]] = {}
    for row in rows:
        day = int(row["time"].timestamp() // _DAY * _DAY)
        counts = days.setdefault(day, [day, 0, 0, 0, 0])
        counts[{0: 1, 1: 2, None: 3}[row["decision"]]] += 1
        counts[4] += row["event"] == "raised"
    return [days[day] for day in sorted(days)]


def _thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep what changed an alarm or came with another bank, and of the rest the highest of each moment."""
    if len(rows) <= _POINTS:
        return list(rows)
    kept = {i for i, row in enumerate(rows) if row["event"] or (i and row["bank"] != rows[i - 1]["bank"])}
    size = -(-len(rows) // _POINTS)
    for start in range(0, len(rows), size):
        moment = range(start, min(start + size, len(rows)))
        kept.add(max(moment, key=lambda i: rows[i]["score"] if rows[i]["score"] is not None else -1e308))
    return [rows[i] for i in sorted(kept)]
