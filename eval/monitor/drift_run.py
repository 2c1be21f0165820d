"""Command line that says whether normal operation has moved away from a bank."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.base.console import parser_of, read
from cache.base.errors import AsdError, guarded
from cache.base.options import Options, documented, option
from cache.files.places import place
from eval.monitor.drift import FEWEST, Drift, advice, drift
from eval.monitor.history import utc
from index.threshold import share_of

_ABOUT = """Say whether the scores of unflagged clips have moved since the bank was built, since when,
and what is different; of several, given as BANK HISTORY BANK HISTORY ..., whose drift is alone.
Changes nothing. Exit code 1 where one has moved, 2 where there are too few clips to tell, else 0."""


@documented
@dataclass(frozen=True, kw_only=True)
class DriftRequest(Options):
    """Banks, their histories, and how sure a report is."""

    pairs: tuple[Path, ...] = option(
        (), "a bank and the --state folder of its watch; of further machines too",
        flag="pairs", metavar="BANK HISTORY", read=place,
    )  # fmt: skip
    false_alarms: str = option(
        "1/10000", "one false report in so many unflagged clips at most, on average", metavar="RATE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pairs or len(self.pairs) % 2:
            raise AsdError("name a bank and its history, or several such pairs")


def _line(one: Drift) -> str:
    skipped = f"; {one.other} clips of other versions of the bank left out" if one.other else ""
    if not one.told:
        return f"{one.section}: {one.clips} unflagged clips are too few to tell (from {FEWEST}){skipped}"
    if one.direction is None or one.since is None:
        held = f"of {one.clips} unflagged clips (evidence {one.evidence:,.0f})"
        return f"{one.section}: not moved, {held}{skipped}"
    text = f"{one.section}: scores went {one.direction} since {utc(one.since)}"
    for change in one.changes[:3]:
        text += (
            f"\n  {change.kind} at {change.low:.0f} to {change.high:.0f} Hz, {change.decibels:+.0f} dB: "
            f"{100 * change.share:.0f} % of clips, before {100 * change.before:.0f} %"
        )
    return text + skipped


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Look for drift."""
    request, console = read(
        parser_of("eval.monitor.drift_run", _ABOUT, "pump.bank watch"), DriftRequest, argv
    )
    limit = 1 / share_of(request.false_alarms, 1.0)
    found = [
        one
        for bank, history in zip(request.pairs[::2], request.pairs[1::2], strict=True)
        for one in drift(bank, history, limit)
    ]
    for one in found:
        console.made(_line(one), **asdict(one) | {"section": str(one.section)})
    console.notes(advice(found))
    return 1 if any(one.direction for one in found) else 2 if not all(one.told for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
