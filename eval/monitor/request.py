"""Options of the command that watches, made into a watch with its promise in figures."""

from __future__ import annotations

import math
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, documented, option
from cache.files.places import place
from eval.detector import Detector
from eval.monitor.alarm import AlarmRule
from eval.monitor.check import BankRequest
from eval.monitor.evidence import Evidence, levels_of
from eval.monitor.sinks import Command, JsonLines, Mqtt, Sink, Webhook
from eval.monitor.sources import FolderSource, PcmSource, RecordingSource, microphone
from eval.monitor.watch import WatchRequest
from extractors.audio.decode import seconds_of
from extractors.audio.hearing import hearing_of
from index.fitted import FittedSection, frequency
from index.threshold import PERIODS, share_of

STDIN, MICROPHONE = "-", "microphone"
_VOTES = "3/5"


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
        f"alarm when K of the last N clips are abnormal (default: {_VOTES}, or none with --false-alarms)",
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

    @property
    def streams(self) -> bool:
        """Whether the source sends samples, not files."""
        return self.source in (STDIN, MICROPHONE)

    def sinks(self) -> tuple[Sink, ...]:
        """List the receivers of alarms.

        Raises
        ------
        AsdError
            If an address is none.
        """
        if self.webhook is not None and not re.match(r"https?://[^/]", self.webhook):
            raise AsdError(f"--webhook {self.webhook}: expected http://HOST/... or https://HOST/...")
        if self.on_alarm is not None and not self.on_alarm.strip():
            raise AsdError("--on-alarm is empty: name a program")
        found: list[Sink | None] = [
            JsonLines(self.alarms) if self.alarms else None,
            Command(self.on_alarm) if self.on_alarm else None,
            Webhook(self.webhook) if self.webhook else None,
            Mqtt(self.mqtt) if self.mqtt else None,
        ]
        return tuple(sink for sink in found if sink is not None)

    def rule(self, fitted: FittedSection, windows: int = 1) -> AlarmRule:
        """Make the alarm rule for recordings of so many windows each.

        Raises
        ------
        AsdError
            If votes are none, or the bank cannot keep the rate, with the figures.
        """
        if self.false_alarms is None:
            match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", (self.votes or _VOTES).strip())
            if match is None or not 1 <= int(match[1]) <= int(match[2]):
                raise AsdError(f"--votes {self.votes}: expected K/N with 1 <= K <= N, as {_VOTES}")
            return AlarmRule(int(match[1]), int(match[2]), None, self.clear, self.cool_down)
        if self.votes is not None:
            raise AsdError(
                f"--votes {self.votes} would add alarms of its own to --false-alarms "
                f"{self.false_alarms}, which is a promise: leave one out"
            )
        limit = 1 / share_of(self.false_alarms, self.interval())
        delay = Evidence(levels_of(fitted)).clips_to(limit, windows)
        if delay > self.within:
            raise AsdError(
                f"--false-alarms {self.false_alarms} is one in {limit:,.0f} clips: of this bank's "
                f"{fitted.calibration.count or len(fitted.train_scores())} groups of normal clips, evidence "
                f"needs {delay} clips for it, all higher than any normal one, and --within {self.within} are "
                "allowed: record more normal clips, accept more false alarms, or a longer delay"
            )
        return AlarmRule(0, 1, limit, self.clear, self.cool_down)

    def interval(self) -> float:
        """Seconds from clip to clip.

        Raises
        ------
        AsdError
            If a rate of a period needs it and nothing says so.
        """
        if self.clip_interval is not None:
            return self.clip_interval
        if self.streams:
            return self.seconds
        if (self.false_alarms or "").partition("/")[2] in PERIODS:
            raise AsdError(
                f"--false-alarms {self.false_alarms} is of a period: say with --clip-interval how many "
                "seconds lie between clips"
            )
        return 1.0

    def promise(self, fitted: FittedSection, rule: AlarmRule, windows: int = 1) -> str:
        """State in one sentence the rate of false alarms and the delay that a rule promises."""
        groups = fitted.calibration.count or len(fitted.train_scores())
        if rule.limit is not None:
            delay = Evidence(levels_of(fitted)).clips_to(rule.limit, windows)
            each = f" of {windows} windows" if windows > 1 else ""
            # The least conformal p-value (Vovk et al. 2005), of the largest of several windows.
            rarest = 1 - (1 - 1 / (groups + 1)) ** windows
            return (
                f"alarm by evidence: at most one false alarm in {rule.limit:,.0f} normal clips on average "
                f"({self.false_alarms}), if new recordings vary as the {groups} groups did; a fault takes at "
                f"least {delay} clips{each} (one clip alone shows nothing rarer than 1 in "
                f"{1 / rarest:.0f})"
            )
        from scipy.stats import binom  # noqa: PLC0415 (half a second that most commands do not need)

        if math.isinf(fitted.threshold.value):
            return "alarm by votes: this bank has no threshold, so that there will be no alarm"
        share = float(binom.sf(rule.votes - 1, rule.window, fitted.promised))
        return (
            f"alarm by votes, {rule.votes} of {rule.window}: about {frequency(fitted.promised)} normal clips "
            f"is flagged, which is {rule.votes} of {rule.window} at {frequency(share)} clips if they are "
            "independent; --false-alarms keeps a rate"
        )

    def prepared(self) -> tuple[WatchRequest, str]:
        """Make the watch and the sentence about its promise.

        Raises
        ------
        AsdError
            If the bank, the source or an address is none, or the bank cannot keep the rate.
        """
        sinks = self.sinks()
        detector = Detector.load(self.bank, weights=self.weights, normal=self.normal)
        section = detector.section(self.machine)
        fitted = detector.bank.read(section, detector.bank.recipe())
        state = self.state / str(section)
        source: RecordingSource = FolderSource(place(self.source), self.settle)
        hearing, windows = hearing_of((fitted.recipe.parents or (fitted.recipe,))[0]), 1
        if self.streams:
            windows = len(hearing.spans(self.seconds))
        elif hearing.window is not None:  # the last recording there stands for those to come
            with suppress(AsdError, IndexError):
                windows = len(hearing.spans(seconds_of(source.arrived()[-1].path, hearing.signal)))
        rule = self.rule(fitted, windows)
        if self.streams:
            usual = None if fitted.usual is None else fitted.usual.sample_rate
            rate = self.rate or (usual if self.source == MICROPHONE else None)
            if rate is None:
                raise AsdError("samples on standard input: say their --rate in Hz, as ffmpeg's -ar")
            stdin = self.source == STDIN
            stream = sys.stdin.buffer if self.plan or stdin else microphone(rate, self.channels, self.device)
            source = PcmSource(stream, rate, self.seconds, state / "recordings", self.channels, self.keep)
        asked = WatchRequest(detector, source, state, section, rule, sinks, self.once, self.poll, self.words)
        return asked, self.promise(fitted, rule, windows)
