"""Watching a machine: recordings are judged as they arrive, each once, and alarms are sent."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.files.locks import locked
from cache.files.places import place
from cache.table import Section
from eval.detector import Detector
from eval.monitor.alarm import Alarm, AlarmRule, promise_of, rule_of
from eval.monitor.check import judge_arrivals
from eval.monitor.evidence import Evidence, Level, levels_of
from eval.monitor.history import History, Judgement, clip_key
from eval.monitor.request import MICROPHONE, STDIN, WatchOptions
from eval.monitor.sinks import Command, Delivery, JsonLines, Message, Mqtt, Sink, Webhook
from eval.monitor.sources import Arrival, FolderSource, PcmSource, RecordingSource, microphone
from extractors.audio.decode import seconds_of
from extractors.audio.hearing import hearing_of

log = logging.getLogger(__name__)
_BATCH = 16  # recordings judged before they are written down
_LAST_POST = 15.0  # s that messages are given when a watch ends


@dataclass(frozen=True)
class WatchRequest:
    """A watch: bank, source of recordings, alarm rule and receivers.

    Attributes
    ----------
    detector
        With its bank.
    source
        Where recordings arrive.
    state
        Folder of the history and of the sinks' queues; one for each machine that is watched.
    section
        Which of the bank's.
    rule
        When an alarm is raised.
    sinks
        Where alarms are told.
    once
        End when everything that is there was judged.
    poll
        Seconds from look to look.
    words
        Whether each judgement says what is different, which reads the nearest normal recording.
    """

    detector: Detector
    source: RecordingSource
    state: Path
    section: Section
    rule: AlarmRule = field(default_factory=AlarmRule)
    sinks: Sequence[Sink] = ()
    once: bool = False
    poll: float = 2.0
    words: bool = True

    @property
    def history(self) -> History:
        """History of the judgements."""
        return History(self.state / "history")


def prepared(asked: WatchOptions) -> tuple[WatchRequest, str]:
    """Make the watch and the sentence about its promise.

    Raises
    ------
    AsdError
        If the bank, the source or an address is none, or the bank cannot keep the rate.
    """
    sinks = sinks_of(asked)
    detector = Detector.load(asked.bank, weights=asked.weights, normal=asked.normal)
    section = detector.section(asked.machine)
    fitted = detector.bank.read(section, detector.bank.recipe())
    state = asked.state / str(section)
    source: RecordingSource = FolderSource(place(asked.source), asked.settle)
    hearing, windows = hearing_of((fitted.recipe.parents or (fitted.recipe,))[0]), 1
    if asked.streams:
        windows = len(hearing.spans(asked.seconds))
    elif hearing.window is not None:  # the last recording there stands for those to come
        with suppress(AsdError, IndexError):
            windows = len(hearing.spans(seconds_of(source.arrived()[-1].path, hearing.signal)))
    rule = rule_of(asked, fitted, windows)
    if asked.streams:
        usual = None if fitted.usual is None else fitted.usual.sample_rate
        rate = asked.rate or (usual if asked.source == MICROPHONE else None)
        if rate is None:
            raise AsdError("samples on standard input: say their --rate in Hz, as ffmpeg's -ar")
        stdin = asked.source == STDIN
        stream = sys.stdin.buffer if asked.plan or stdin else microphone(rate, asked.channels, asked.device)
        source = PcmSource(stream, rate, asked.seconds, state / "recordings", asked.channels, asked.keep)
    made = WatchRequest(detector, source, state, section, rule, sinks, asked.once, asked.poll, asked.words)
    return made, promise_of(asked, fitted, rule, windows)


def sinks_of(asked: WatchOptions) -> tuple[Sink, ...]:
    """List the receivers of alarms.

    Raises
    ------
    AsdError
        If an address is none.
    """
    if asked.webhook is not None and not re.match(r"https?://[^/]", asked.webhook):
        raise AsdError(f"--webhook {asked.webhook}: expected http://HOST/... or https://HOST/...")
    if asked.on_alarm is not None and not asked.on_alarm.strip():
        raise AsdError("--on-alarm is empty: name a program")
    found: list[Sink | None] = [
        JsonLines(asked.alarms) if asked.alarms else None,
        Command(asked.on_alarm) if asked.on_alarm else None,
        Webhook(asked.webhook) if asked.webhook else None,
        Mqtt(asked.mqtt) if asked.mqtt else None,
    ]
    return tuple(sink for sink in found if sink is not None)


@dataclass
class WatchResult:
    """Counts of a watch.

    Attributes
    ----------
    judged, abnormal, unreadable
        Clips.
    raised
        Alarms that were raised.
    waiting
        Messages that a sink has not taken yet; they are told when watching goes on.
    """

    judged: int = 0
    abnormal: int = 0
    unreadable: int = 0
    raised: int = 0
    waiting: int = 0


def watch(
    request: WatchRequest,
    told: Callable[[Judgement], object] = lambda _: None,
    stop: threading.Event | None = None,
) -> WatchResult:
    """Judge recordings as they arrive until the source ends, `stop` is set or, once, all are judged.

    Every recording is judged once: what was judged is known by name and content from the history, to which a
    batch's judgements, the alarm's state and its events are added in one step. Another watcher on the same
    state waits for that step, so that two share the work.

    Parameters
    ----------
    request
        What, by which bank.
    told
        Called with each judgement when it is kept.
    stop
        Ends the watch after the batch in hand.

    Returns
    -------
    WatchResult
        Counts of this call.

    Raises
    ------
    AsdError
        If the source or the state cannot be read, or the rule asks for evidence that the bank cannot give.
    """
    watcher, stop = _Watcher(request, told), stop or threading.Event()
    deliveries = [Delivery(sink, request.state) for sink in request.sinks]
    for delivery in deliveries:
        delivery.begin(watcher.last)  # of a sink that is new here, from now on
    post = _Post(watcher.history, deliveries)
    with post:
        while not stop.is_set():
            new = watcher.new(request.source.arrived())
            for start in range(0, len(new), _BATCH):
                watcher.judge(new[start : start + _BATCH])
                if stop.is_set():
                    break
            if request.source.ends or (request.once and not new):
                break
            if not new:
                request.source.wait(stop, request.poll)
    watcher.done.waiting = post.waiting
    return watcher.done


class _Watcher:
    """State of a watch: the clips judged so far, the bank and the alarm."""

    def __init__(self, request: WatchRequest, told: Callable[[Judgement], object]) -> None:
        self.request, self.told, self.done = request, told, WatchResult()
        self.history = request.history
        self._bank, self._levels = "", list[Level]()
        self._know_bank()
        self._known: dict[int, float] = {}
        self._versions: dict[int, int] = {}
        self.last = -1
        self._alarm()  # a rule that this bank cannot serve is refused before anything is judged
        self._catch_up()

    def _know_bank(self) -> None:
        """Take the levels of evidence from the bank as it is now: it may have been changed by hand."""
        request, bank = self.request, self.request.detector.bank
        now = bank.fingerprint(request.section)
        if now != self._bank:
            self._bank = now
            if request.rule.limit is not None:
                self._levels = levels_of(bank.read(request.section, bank.recipe()))

    def new(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """Return the arrivals not judged yet, by name, time and size."""
        found = []
        for arrival in arrivals:
            key, version = clip_key(arrival.name), clip_key(arrival.version)
            if key in self._versions:
                judged = self._versions[key] == version
            else:  # by an earlier run, which left no more than its time
                judged = abs(self._known.get(key, -1.0) - arrival.time) < 1e-3
            if judged:
                self._versions[key] = version
            else:
                found.append(arrival)
        return found

    def judge(self, arrivals: Sequence[Arrival]) -> None:
        """Judge a batch and write it down; pass over what another watcher has judged meanwhile."""
        with locked(self.request.state):
            self._catch_up()
            arrived = {arrival.name: arrival for arrival in self.new(arrivals)}
            request = self.request
            judgements = (
                judge_arrivals(request.detector, request.section, list(arrived.values()), words=request.words)
                if arrived
                else []
            )
            self._know_bank()
            judgements = [j for j in judgements if clip_key(j.clip, j.content_sha256) not in self._known]
            alarm = self._alarm()
            kept = []
            for judgement in judgements:
                changes: dict[str, Any] = {}
                if judgement.score is not None:
                    abnormal, windows = judgement.decision == 1, judgement.windows
                    event = alarm.add(judgement.time, judgement.score, abnormal, windows)
                    changes["evidence"] = alarm.evidence
                    if event is not None:
                        changes |= {"event": event.kind, "alarm": event.number, "reason": event.reason}
                kept.append(replace(judgement, **changes))
            if kept:
                self.history.append(kept, {"alarm": alarm.state(), "bank": self._bank})
        for name, arrival in arrived.items():
            self._versions[clip_key(name)] = clip_key(arrival.version)
        for judgement in kept:
            self.done.judged += judgement.score is not None
            self.done.unreadable += judgement.score is None
            self.done.abnormal += judgement.decision == 1
            self.done.raised += judgement.event == "raised"
            self.told(judgement)

    def _catch_up(self) -> None:
        more, self.last = self.history.judged(self.last)
        self._known |= more

    def _alarm(self) -> Alarm:
        """Restore the alarm from the history; with another bank its evidence starts again."""
        alarm = Alarm(self.request.rule, Evidence(self._levels) if self._levels else None)
        state = self.history.state()
        if "alarm" in state:
            held = dict(state["alarm"])
            if state.get("bank", self._bank) != self._bank:
                held["evidence"] = None
            alarm.restore(held)
        return alarm


class _Post:
    """One thread for each sink, so that none holds up a judgement or another sink."""

    def __init__(self, history: History, deliveries: Sequence[Delivery]) -> None:
        self._history, self._deliveries = history, deliveries
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(one,), daemon=True, name=one.sink.name)
            for one in deliveries
        ]
        self.waiting = 0

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        until = time.monotonic() + _LAST_POST
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.waiting = sum(len(self._pending(one)) for one in self._deliveries)

    def _run(self, delivery: Delivery) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(0.5)
            try:
                delivery.run(self._pending(delivery))
            except (AsdError, OSError) as error:  # of the history or the disk: tried again
                log.warning("%s: %s", delivery.sink.name, error)

    def _pending(self, delivery: Delivery) -> list[tuple[int, Message]]:
        table = self._history.read(after=delivery.delivered)
        return [(row["number"], message(row)) for row in table.to_pylist() if row["event"]]


def message(row: dict[str, object]) -> Message:
    """Make the message about an event from its row of the history."""
    told = {"machine": row["machine_type"], "time": row["time"].isoformat()}  # type: ignore[attr-defined]
    names = (
        "number", "section", "event", "alarm", "reason", "clip", "score", "threshold", "p_value", "sentence",
        "bank",
    )  # fmt: skip
    return told | {name: row[name] for name in names}
