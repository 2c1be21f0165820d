"""Command lines that read histories: print judgements, look for drift."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cache.base.console import parser_of, read
from cache.base.errors import AsdError, guarded
from cache.base.options import Options, documented, option
from cache.files.atomic import write_atomic
from eval.monitor.history import History, Judgement, facts_of, line_of

_HISTORY = "Print what a watch has judged, in that order; with filters, what fits all of them."
_EXAMPLES = "watch --events\nwatch --abnormal --since 2026-11-01 --table november.csv"
_DRIFT = """Say whether the scores of unflagged clips have moved since the bank was built, since when,
and what is different; of several, given as BANK HISTORY BANK HISTORY ..., whose drift is alone.
Changes nothing. Exit code 1 where one has moved, 2 where there are too few clips to tell, else 0."""


def moment(text: str) -> float:
    """Read a date, or date and time, of ISO 8601; UTC where it does not say: s since 1970."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise AsdError(f"{text!r} is no time: expected 2026-11-26 or 2026-11-26T08:00") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


@documented
@dataclass(frozen=True, kw_only=True)
class HistoryRequest(Options):
    """Histories and filters of their judgements."""

    state: Path = option(Path("watch"), "the --state folder of a watch", flag="state", metavar="STATE")
    since: float | None = option(None, "recorded then or later, UTC", metavar="DATE[THH:MM]", read=moment)
    until: float | None = option(None, "recorded before, UTC", metavar="DATE[THH:MM]", read=moment)
    machine: str | None = option(None, "of this machine type", metavar="NAME")
    clip: str | None = option(None, "whose name fits, `*` standing for anything", metavar="PATTERN")
    abnormal: bool = option(False, "called abnormal")
    unjudged: bool = option(False, "could not be judged")
    events: bool = option(False, "that raised, repeated or cleared an alarm")
    last: int | None = option(None, "of these, the last so many", least=1, metavar="N")
    table: Path | None = option(None, "write them to a file instead, .csv or .parquet", metavar="FILE")
    page: Path | None = option(
        None, "draw them over time instead, in a page that loads nothing", metavar="FILE.html"
    )

    def rows(self) -> list[dict[str, Any]]:
        """Read the judgements that fit all filters.

        Raises
        ------
        AsdError
            If there is no history, or it is damaged.
        """
        rows = [row for one in History.below(self.state) for row in one.read().to_pylist()]
        found = [
            row
            for row in rows
            if (self.since is None or row["time"].timestamp() >= self.since)
            and (self.until is None or row["time"].timestamp() < self.until)
            and self.machine in (None, row["machine_type"])
            and (self.clip is None or fnmatch(row["clip"], self.clip))
            and (not self.abnormal or row["decision"] == 1)
            and (not self.unjudged or row["decision"] is None)
            and (not self.events or row["event"])
        ]
        return found if self.last is None else found[-self.last :]


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


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print or write down judgements."""
    parser = parser_of("eval.monitor.history_run", _HISTORY, _EXAMPLES)
    request, console = read(parser, HistoryRequest, argv)
    rows = request.rows()
    if request.table is not None:
        write_rows(request.table, rows)
        console.made(f"{len(rows)} judgements -> {request.table}", made=request.table, rows=len(rows))
        return 0
    if request.page is not None and rows:
        from eval.page.build import history_page  # noqa: PLC0415 (the page's parts)

        write_atomic(request.page, history_page(rows).encode())
        console.made(f"{len(rows)} judgements -> {request.page}", made=request.page, rows=len(rows))
        return 0
    for row in rows:
        told = {item.name: row[item.name] for item in fields(Judgement)}
        one = Judgement(**told | {"time": row["time"].timestamp()})
        console.made(line_of(one), **facts_of(one))
    if not rows and not console.speech.json:
        console.made("nothing fits")
    return 0


@guarded
def drift_main(argv: Sequence[str] | None = None) -> int:
    """Look for drift."""
    from eval.monitor.drift import DriftRequest, advice, drift  # noqa: PLC0415 (banks, which need faiss)
    from index.threshold import share_of  # noqa: PLC0415

    parser = parser_of("eval.monitor.history_run drift", _DRIFT, "pump.bank watch")
    request, console = read(parser, DriftRequest, argv)
    limit = 1 / share_of(request.false_alarms, 1.0)
    pairs = zip(request.pairs[::2], request.pairs[1::2], strict=True)
    found = [one for bank, history in pairs for one in drift(bank, history, limit)]
    for one in found:
        console.made(one.text, **asdict(one) | {"section": str(one.section)})
    console.notes(advice(found))
    return 1 if any(one.direction for one in found) else 2 if not all(one.enough for one in found) else 0


if __name__ == "__main__":
    sys.exit(drift_main(sys.argv[2:]) if sys.argv[1:2] == ["drift"] else main())
