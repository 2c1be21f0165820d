"""What the commands of every day are asked for: check, watch, serve, history, and corrections of a bank."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.places import place
from cache.select import cache_dir_option
from cache.table import DOMAINS

STDIN, MICROPHONE = "-", "microphone"
VOTES = "3/5"
TOKEN = "ASD_SERVE_TOKEN"  # noqa: S105 (the variable's name)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@documented
@dataclass(frozen=True, kw_only=True)
class BankRequest(Options):
    """A bank, one of its machines, and its checkpoints."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)
    machine: str | None = option(
        None, "which of the bank's machines (needed where it holds several)", metavar="NAME"
    )
    weights: tuple[str, ...] = option(
        (), "checkpoints, where other than the published ones are needed", metavar="[NAME=]FILE"
    )


def recordings_option() -> Any:
    """Declare recordings, the same in every request."""
    about = "recordings, or folders searched at any depth"
    return option((), about, flag="clips", metavar="CLIPS", read=place)


@documented
@dataclass(frozen=True, kw_only=True)
class CheckRequest(BankRequest):
    """Recordings, and the bank that judges them."""

    clips: tuple[Path, ...] = recordings_option()
    normal: tuple[Path, ...] = option(
        (),
        "data roots of the normal recordings, to say what is different (default: where they lay when "
        "the bank was saved, or the root that the clips lie in)",
        metavar="ROOT",
        read=place,
    )
    words: bool = option(True, "say what is different, which reads the nearest normal recording of each clip")


@documented
@dataclass(frozen=True, kw_only=True)
class WatchOptions(BankRequest):
    """A bank, a source of recordings, and the alarms: when, and where they go."""

    source: str = option(
        REQUIRED,
        "where recordings arrive: a folder, an s3:// URL, `-` for 16-bit samples on standard input, or "
        "`microphone`",
        flag="source",
        metavar="SOURCE",
    )
    state: Path = option(
        Path("watch"),
        "where the history and the queues of alarms are kept, in a folder a machine",
        metavar="DIR",
    )
    once: bool = option(False, "judge what is there, then end: for cron")
    plan: bool = option(False, "say what the rule of alarms promises, and end")
    false_alarms: str | None = option(
        None,
        "alarm by evidence that adds up over clips, at most so often on normal ones: 1/1000 clips, or "
        "1/day, 1/week, 1/month ... at a clip every --clip-interval",
        metavar="RATE",
    )
    clip_interval: float | None = option(
        None, "seconds from one clip to the next, for --false-alarms a period", least=0.001
    )
    within: int = option(
        100,
        "clips that a fault, however loud, may take until an alarm by evidence; a rate that takes more is "
        "refused",
        least=1,
        metavar="CLIPS",
    )
    votes: str | None = option(
        None,
        f"alarm when K of the last N clips are abnormal (default: {VOTES}, or none with --false-alarms)",
        metavar="K/N",
    )
    clear: int = option(5, "an alarm is over after so many normal clips in a row", least=1, metavar="CLIPS")
    cool_down: float = option(
        3600.0, "seconds after an alarm in which no other one is told", least=0, metavar="S"
    )
    on_alarm: str | None = option(
        None, "a program that gets each alarm as JSON on its standard input", metavar="COMMAND"
    )
    webhook: str | None = option(
        None, "an address each alarm is posted to; token: ASD_WEBHOOK_TOKEN", metavar="URL"
    )
    mqtt: str | None = option(
        None,
        "mqtt[s]://HOST[:PORT]/TOPIC; ASD_MQTT_USER and ASD_MQTT_PASSWORD; Home Assistant finds it",
        metavar="URL",
    )
    alarms: Path | None = option(
        None, "a file that each alarm is appended to, a JSON object a line", metavar="FILE.jsonl"
    )
    metrics: Path | None = option(
        None, "a file that is kept up to date in Prometheus' text format", metavar="FILE.prom"
    )
    poll: float = option(2.0, "seconds between looks at a folder; watchfiles wakes earlier", least=0.05)
    settle: float = option(5.0, "seconds without a change after which a file is taken for whole", least=0)
    rate: int | None = option(
        None,
        "of samples on standard input, Hz; of a microphone (default: as of the bank's clips)",
        least=1,
    )
    channels: int = option(1, "of standard input or a microphone", least=1)
    seconds: float = option(10.0, "length of a clip of standard input or a microphone", least=0.1)
    device: str | None = option(
        None, "which microphone, by name or number (default: the system's)", metavar="NAME"
    )
    keep: int = option(1000, "recordings kept of standard input or a microphone", least=1, metavar="CLIPS")
    words: bool = option(True, "say what is different, which reads the nearest normal recording of each clip")
    normal: tuple[Path, ...] = option(
        (), "data roots of the normal recordings, for that", metavar="ROOT", read=place
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        usual = {
            name: getattr(WatchOptions, name) for name in ("rate", "channels", "seconds", "device", "keep")
        }
        given = [name for name, value in usual.items() if getattr(self, name) != value]
        if given and not self.streams:
            raise AsdError(
                f"--{given[0]} is of standard input (`-`) or a microphone; {self.source} is neither"
            )

    @property
    def streams(self) -> bool:
        """Whether the source sends samples, not files."""
        return self.source in (STDIN, MICROPHONE)


@documented
@dataclass(frozen=True, kw_only=True)
class ServeRequest(Options):
    """Banks to serve, the address, and the limits."""

    banks: tuple[Path, ...] = option(
        (), "banks, each known by its folder's name", flag="banks", metavar="BANK", read=place
    )
    host: str = option(
        "127.0.0.1", f"address to listen on; others than this machine's own need a token in {TOKEN}"
    )
    port: int = option(8765, "port to listen on; 0 for any free one", least=0, most=65535)
    megabytes: float = option(50.0, "largest request, MB", least=0.001, flag="--max-megabytes", metavar="MB")
    patience: float = option(
        60.0, "seconds after which a request is given up, waiting included", least=0.1, flag="--timeout",
        metavar="S",
    )  # fmt: skip
    queue: int = option(
        16, "recordings that wait or are judged; further ones are refused with status 429", least=1
    )
    weights: tuple[str, ...] = option(
        (), "checkpoints, where other than the published ones are needed", metavar="[NAME=]FILE"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.host not in _LOOPBACK and not os.environ.get(TOKEN):
            raise AsdError(
                f"--host {self.host} lets other machines in: set a secret in {TOKEN}, which clients send as "
                "`Authorization: Bearer ...`"
            )


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

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a judgement fits all filters but `last`."""
        return (
            (self.since is None or row["time"].timestamp() >= self.since)
            and (self.until is None or row["time"].timestamp() < self.until)
            and self.machine in (None, row["machine_type"])
            and (self.clip is None or fnmatch(row["clip"], self.clip))
            and (not self.abnormal or row["decision"] == 1)
            and (not self.unjudged or row["decision"] is None)
            and (not self.events or bool(row["event"]))
        )


@documented
@dataclass(frozen=True, kw_only=True)
class DriftRequest(Options):
    """Banks, their histories, and the rate of false reports."""

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


@documented
@dataclass(frozen=True, kw_only=True)
class Correction(BankRequest):
    """A bank, one of its machines, and the reason for changing it."""

    because: str = option(REQUIRED, "why, for the log", metavar="TEXT")
    cache_dir: Path = cache_dir_option()


@documented
@dataclass(frozen=True, kw_only=True)
class Addition(Correction):
    """Recordings to add to the normal ones."""

    clips: tuple[Path, ...] = recordings_option()
    marks: Path | None = option(
        None, "the page's marks.csv: of CLIPS, only what it marks as normal, nothing it marks as abnormal",
        metavar="FILE", read=place,
    )  # fmt: skip
    domain: str | None = option(
        None, "of the recordings, where the bank tells domains (default: source)", choices=DOMAINS
    )


@documented
@dataclass(frozen=True, kw_only=True)
class Removal(Correction):
    """Training clips to remove."""

    clips: tuple[str, ...] = option(
        (), "ids of training clips, or their ends behind a slash; `*` stands for anything",
        flag="clips", metavar="IDS",
    )  # fmt: skip


@documented
@dataclass(frozen=True, kw_only=True)
class Recalibration(Correction):
    """Normal recordings to learn the threshold from, or another percentile of the same ones."""

    clips: tuple[Path, ...] = recordings_option()
    percentile: float | None = option(
        None, "normal clips meant to lie below the threshold, % (default: the bank's)", metavar="P"
    )
    false_alarms: str | None = option(
        None, "instead, how often a normal clip may be flagged: 1/100, or 1/day ...", metavar="RATE"
    )
    clip_interval: float = option(60.0, "seconds from clip to clip, for --false-alarms", least=0.001)


@documented
@dataclass(frozen=True, kw_only=True)
class LogRequest(Options):
    """A bank."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)


@documented
@dataclass(frozen=True, kw_only=True)
class UndoRequest(LogRequest):
    """A bank and the version of it to restore."""

    to: str | None = option(None, "its hash (default: the one before)", metavar="HASH")
    because: str = option("", "why, for the log", metavar="TEXT")


@documented
@dataclass(frozen=True, kw_only=True)
class PruneRequest(LogRequest):
    """A bank and the number of versions to keep."""

    keep: int = option(1, "versions that stay, the present one apart", least=0, metavar="N")


@documented
@dataclass(frozen=True)
class ShowRequest(Options):
    """Banks to show."""

    banks: tuple[Path, ...] = option(REQUIRED, "a bank's folder", flag="BANK", read=place)
