"""The page of a history and the time line of a report, drawn by a browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eval.page.build import day_counts, history_page, thinned
from tests.eval.test_page import HOSTILE, Opened, chromium, opened

__all__ = ["chromium", "opened"]  # fixtures
BEGIN = datetime(2026, 11, 2, 22, tzinfo=UTC)


def rows(count: int, **changes: Any) -> list[dict[str, Any]]:
    """A clip an hour: the 5th not judged, from the 10th on abnormal and in alarm, a new bank at the 20th."""
    found = []
    for i in range(count):
        abnormal = 10 <= i < 15
        row = {
            "time": BEGIN + timedelta(hours=i), "machine_type": "pump", "section": 0,
            "score": None if i == 5 else 10.0 + 5 * abnormal + i % 3, "threshold": 13.0,
            "decision": None if i == 5 else int(abnormal), "clip": f"{HOSTILE}{i}.wav",
            "sentence": "a burst", "event": {12: "raised", 17: "cleared"}.get(i, ""),
            "reason": "3 of 5" if i in (12, 17) else "", "bank": "a" if i < 20 else "b",
        }  # fmt: skip
        found.append(row | changes)
    return found


def test_a_history_is_drawn_with_its_alarms_and_days(tmp_path: Path, opened: Opened) -> None:
    path = tmp_path / "history.html"
    path.write_text(history_page([*rows(30), *rows(3, machine_type="fan", event="")]))
    page = opened.open(path)
    assert page.evaluate("window.pwned") is None
    assert page.title() == "fan section 00, pump section 00 \N{EN DASH} history"
    charts = page.locator("svg.time")
    assert charts.count() == 2
    pump = charts.nth(1)
    assert pump.locator("circle").count() == 30
    assert pump.locator("rect.alarm").count() == 1
    assert pump.locator("path.raised").count() == 1
    assert pump.locator("text.change").all_text_contents() == ["bank changed"]
    days = page.locator("table.days").nth(1).locator("tbody tr").all_inner_texts()
    assert [text.split()[:5] for text in days] == [
        ["2026-11-02", "2", "0", "0", "0"],
        ["2026-11-03", "24", "5", "1", "1"],
        ["2026-11-04", "4", "0", "0", "0"],
    ]
    assert "raised" in page.locator("ul.alarms").nth(1).inner_text()
    charts.nth(1).locator("circle").nth(11).hover()
    assert HOSTILE in page.locator("#tip").inner_text()


def test_days_are_counted() -> None:
    counts = day_counts(rows(30))
    begin = BEGIN.timestamp() - 22 * 3600
    assert counts == [[begin, 2, 0, 0, 0], [begin + 86400, 18, 5, 1, 1], [begin + 2 * 86400, 4, 0, 0, 0]]


def test_of_many_clips_the_highest_and_the_events_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.page.build._POINTS", 10)
    every = rows(400)
    every[33]["score"] = 99.0
    kept = thinned(every)
    assert len(kept) <= 13
    assert max(row["score"] or 0 for row in kept) == 99.0
    assert [row["event"] for row in kept if row["event"]] == ["raised", "cleared"]
    assert kept == sorted(kept, key=lambda row: row["time"])
