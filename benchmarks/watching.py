"""What a watch promises, simulated; and a week in five minutes, the command killed fifty times.

usage: python -m benchmarks.watching promises
       python -m benchmarks.watching week DATA WORK_DIR

DATA holds dev_data/BearingH. `promises` draws normal scores, builds banks of several sizes from some and
watches the others; `week` copies 168 recordings, one for each hour of a week, into a folder that `asd watch`
looks at.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.stats import beta, binom

from eval.detector import Detector
from eval.monitor.alarm import Alarm, AlarmRule
from eval.monitor.evidence import Evidence, Level, exceedance_levels
from eval.monitor.history import History
from eval.page.build import history_page
from index.threshold import fit_threshold

LIMIT = 1000.0  # clips a false alarm
SIZES = (20, 50, 100, 300, 1000)
SHIFTS = (0.5, 1.0, 2.0, 4.0)  # of the scores' deviation
BANKS, CLIPS = 60, 10_000  # drawn for each size
KILLS, HOURS, SECONDS = 50, 168, 300.0
LUCK = random.Random(22)  # noqa: S311


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw scores as distances are distributed: gamma of shape 8, mean 8, deviation sqrt(8)."""
    return rng.gamma(8.0, 1.0, count)


def promises() -> None:
    """Print how often banks raise false alarms, and how late true ones, by evidence and by votes."""
    print(f"{BANKS} banks of each size, {CLIPS} normal clips each; promised: one in {LIMIT:.0f} clips\n")
    print("| clips | rule | clips a false alarm | banks with more than promised | delay at shifts of "
          + ", ".join(f"{shift:g}" for shift in SHIFTS) + " |")  # fmt: skip
    print("|---|---|---|---|---|")
    for size in SIZES:
        for name in ("evidence", "3 of 5", "k of 10"):
            _row(size, name)


def _row(size: int, name: str) -> None:
    rng = np.random.default_rng(size)
    alarms: list[int | None] = []  # None of a bank that no k keeps
    delays: dict[float, list[float]] = {shift: [] for shift in SHIFTS}
    kept = name
    for _ in range(BANKS):
        own = normal(rng, size)
        levels = exceedance_levels(own)
        limit = fit_threshold(own, "gamma", 90.0).value
        votes = _votes(name, limit, own)
        if votes is None and name != "evidence":
            alarms.append(None)
            continue
        kept = name if name != "k of 10" else "k of 10 that keeps it"

        fresh = partial(_alarm, votes, levels)
        alarm, raised = fresh(), 0
        for i, score in enumerate(normal(rng, CLIPS)):
            if alarm.add(float(i), float(score), bool(score > limit)) is not None:
                raised += 1
                alarm = fresh()
        alarms.append(raised)
        for shift in SHIFTS:
            delays[shift].append(_delay(fresh(), normal(rng, 2000) + shift * 8**0.5, limit))
    told = [one for one in alarms if one is not None]
    if not told:
        print(f"| {size} | {kept} | no k keeps it | | |", flush=True)
        return
    between = CLIPS * len(told) / max(1, sum(told))
    more = np.mean([one > CLIPS / LIMIT for one in told])
    late = ", ".join(f"{np.median(delays[shift]):.0f}" for shift in SHIFTS)
    least = "" if sum(told) else "more than "
    some = "" if len(told) == BANKS else f" ({len(told)} of {BANKS} banks have a k)"
    print(f"| {size} | {kept}{some} | {least}{between:,.0f} | {100 * more:.0f} % | {late} |", flush=True)


def _alarm(votes: tuple[int, int] | None, levels: Sequence[Level]) -> Alarm:
    """Make an alarm that has seen nothing: by votes, else by evidence."""
    if votes is None:
        return Alarm(AlarmRule(0, 1, LIMIT, clear=1, cool_down=0.0), Evidence(levels))
    least, of = votes
    return Alarm(AlarmRule(least, of, clear=1, cool_down=0.0))


def _votes(name: str, limit: float, own: np.ndarray) -> tuple[int, int] | None:
    """Votes of a rule; of `k of 10` the least k that an upper bound of the threshold's share keeps."""
    if name == "evidence":
        return None
    if name == "3 of 5":
        return 3, 5
    above = int(np.sum(own > limit))
    share = float(beta.ppf(0.95, above + 1, len(own) - above)) if above < len(own) else 1.0
    # The chance that at least k of ten independent clips exceed the threshold is the binomial's tail.
    return next(((k, 10) for k in range(1, 11) if binom.sf(k - 1, 10, share) <= 1 / LIMIT), None)


def _delay(alarm: Alarm, scores: np.ndarray, limit: float) -> float:
    for i, score in enumerate(scores, 1):
        if alarm.add(float(i), float(score), bool(score > limit)) is not None:
            return i
    return float("inf")


class _Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if LUCK.random() < 0.2 else 204)  # one in five is refused
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def week(data: Path, work: Path) -> None:
    """Watch a week of recordings while the watch is killed, and compare with an undisturbed one."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    root = data / "dev_data" / "BearingH"
    bank = Detector(machine="bearing").fit(
        sorted(map(str, (root / "train").glob("*_source_*.wav"))),
        sorted(map(str, (root / "train").glob("*_target_*.wav"))),
    ).save(work / "bearing.bank")  # fmt: skip
    clips = _week(root / "test")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    inbox = work / "in"
    inbox.mkdir()
    feeder = threading.Thread(target=_feed, args=(clips, inbox), daemon=True)
    hook = f"http://127.0.0.1:{server.server_port}/"
    asked = [sys.executable, "-m", "eval.monitor.run", "watch", str(bank), str(inbox), "--votes", "3/5",
             "--quiet", "--cool-down", "21600", "--settle", "0.3", "--poll", "0.2",
             "--state", str(work / "killed"), "--alarms", str(work / "alarms.jsonl"),
             "--webhook", hook]  # fmt: skip
    feeder.start()
    began, kills, state = time.monotonic(), 0, work / "killed" / "bearing" / "section_00"
    longest = 600.0  # s that one may live, twice what the first takes to its first judgement from then on
    while kills < KILLS:
        process, started = subprocess.Popen(asked, stderr=subprocess.DEVNULL), time.monotonic()
        until = started + LUCK.uniform(0.2, longest) if kills else started + longest
        while time.monotonic() < until and (kills or not list(state.rglob("*.parquet"))):
            time.sleep(0.02)
        longest = longest if kills else 2 * (time.monotonic() - started)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    feeder.join()
    judged = len(History(state / "history").read())
    took = time.monotonic() - began
    print(f"{kills} kills in {took:.0f} s, {judged} of {len(clips)} clips judged by then")
    for _ in range(30):
        subprocess.run([*asked, "--once"], check=False)
        if not _waiting(state):
            break
    calm = [part if part != str(work / "killed") else str(work / "calm") for part in asked[:-4]]
    subprocess.run([*calm, "--once"], check=False)
    killed, whole = (
        History(work / name / "bearing/section_00/history").read() for name in ("killed", "calm")
    )
    events = [(row["alarm"], row["event"]) for row in whole.to_pylist() if row["event"]]
    lines = [json.loads(line) for line in (work / "alarms.jsonl").read_text().splitlines()]
    same = f"{killed.equals(whole)} ({len(killed)} and {len(whole)} clips)"
    print(f"history equals an undisturbed watch's: {same}")
    print(f"events: {dict(Counter(kind for _, kind in events))}")
    for name, got in (("lines", lines), ("webhook", _Receiver.got)):
        told = Counter((row["alarm"], row["event"], row["number"]) for row in got)
        numbers = {row["number"] for row in killed.to_pylist() if row["event"]}
        print(
            f"{name}: {len(told)} of {len(numbers)} events delivered, "
            f"{sum(told.values()) - len(told)} times again"
        )
    (work / "week.html").write_text(history_page(killed.to_pylist()))
    print(work / "week.html")
    server.shutdown()


def _week(test: Path) -> list[tuple[str, Path]]:
    """Name recordings by hours: normal days, one of another set-up, then a fault that sets in."""
    rng = random.Random(7)  # noqa: S311
    of = {key: sorted(test.glob(f"*_{key}_*.wav")) for key in ("source_test_normal", "target_test_normal",
                                                               "source_test_anomaly")}  # fmt: skip
    found, begin = [], datetime(2026, 11, 2, tzinfo=UTC)
    for hour in range(HOURS):
        day = hour // 24
        faulty = day >= 5 and rng.random() < min(1.0, (hour - 120) / 12)
        kind = "source_test_anomaly" if faulty else "target_test_normal" if day == 3 else "source_test_normal"
        name = (begin + timedelta(hours=hour)).strftime("%Y-%m-%dT%H-%M-%S.wav")
        found.append((name, rng.choice(of[kind])))
    return found


def _feed(clips: list[tuple[str, Path]], inbox: Path) -> None:
    """Write each in pieces, as a recorder does."""
    for name, path in clips:
        data, began = path.read_bytes(), time.monotonic()
        with (inbox / name).open("wb") as file:
            for start in range(0, len(data), len(data) // 3):
                file.write(data[start : start + len(data) // 3])
                file.flush()
                time.sleep(0.05)
        time.sleep(max(0.0, SECONDS / HOURS - (time.monotonic() - began)))


def _waiting(state: Path) -> bool:
    last = [row["number"] for row in History(state / "history").read().to_pylist() if row["event"]]
    done = [json.loads(path.read_text())["delivered"] for path in state.glob("*.json")]
    return bool(last) and min(done) < last[-1]


def main() -> None:
    """Measure what is asked for."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("promises", "week"))
    parser.add_argument("paths", nargs="*", type=Path)
    args = parser.parse_args()
    if args.what == "promises":
        promises()
    else:
        week(*args.paths)


if __name__ == "__main__":
    main()
