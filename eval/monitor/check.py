"""Judging recordings with a bank: one judgement for each, even if it cannot be read."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError, listing
from cache.heard import split_id
from cache.table import Section
from eval.detector import Detector
from eval.monitor.history import Judgement
from eval.monitor.request import CheckRequest
from eval.monitor.sources import Arrival, recorded_at
from extractors.clips.clip import AUDIO_SUFFIXES, Clip, Fault, Listing
from extractors.clips.folders import audio_files, check_name
from index.bank import Bank, locate

_BATCH = 32  # recordings between two lines of output at most


@dataclass(frozen=True)
class CheckResult:
    """Counts of the recordings judged.

    Attributes
    ----------
    normal, abnormal
        As they were called.
    unjudged
        Could not be read, or the bank has no threshold.
    cautions
        What a reader must know of the threshold.
    """

    normal: int
    abnormal: int
    unjudged: int
    cautions: tuple[str, ...]

    @property
    def code(self) -> int:
        """Exit code: 1 where something is abnormal, else 2 where something was not judged, else 0."""
        return 1 if self.abnormal else 2 if self.unjudged else 0


def names_bank(named: Sequence[Path]) -> bool:
    """Tell recordings and their bank from a data root that is surveyed.

    Parameters
    ----------
    named
        What is to be checked. These are the former where a recording is among them, or where the first that
        is there is a bank, or holds one and is not alone.
    """
    if any(path.suffix.lower() in AUDIO_SUFFIXES for path in named):
        return True
    first = next((path for path in named if path.exists()), None)
    try:
        return first is not None and (len(named) > 1 or bool(Bank(first).sections())) and bool(locate(first))
    except AsdError:
        return False


def check(request: CheckRequest, told: Callable[[Judgement], object]) -> CheckResult:
    """Judge recordings.

    Parameters
    ----------
    request
        Which, by which bank.
    told
        Called with each judgement as soon as it is made.

    Raises
    ------
    AsdError
        If there is no bank or no recording, or a recording's machine is not in the bank.
    """
    detector = Detector.load(request.bank, weights=request.weights, normal=request.normal)
    arrived, counts = _arrived(request, detector), [0, 0, 0]
    for section, arrivals in arrived.items():
        for start in range(0, len(arrivals), _BATCH):
            batch = arrivals[start : start + _BATCH]
            for judgement in judge_arrivals(detector, section, batch, words=request.words):
                counts[2 if judgement.decision is None else judgement.decision] += 1
                told(judgement)
    cautions = dict.fromkeys(text for section in arrived for text in detector.cautions(section))
    normal, abnormal, unjudged = counts
    return CheckResult(normal, abnormal, unjudged, tuple(cautions))


def recordings_in(paths: Sequence[Path]) -> tuple[list[Path], list[Fault]]:
    """List the recordings that paths name or contain, each once, and the files that cannot be used.

    Raises
    ------
    AsdError
        If a path does not exist, or a folder holds none.
    """
    found: list[Path] = []
    unusable: list[Fault] = []
    for path in paths:
        if not path.exists():
            raise AsdError(f"{path} does not exist: name recordings or folders of them")
        files, faults, _ = audio_files(path) if path.is_dir() else _named(path)
        if path.is_dir() and not files and not faults:
            raise AsdError(f"no recordings in {path}")
        found += files
        unusable += faults
    return list(dict.fromkeys(found)), list(dict.fromkeys(unusable))


def _named(path: Path) -> tuple[list[Path], list[Fault], list[Path]]:
    """Look at a file that was named: whatever its suffix, the decoder will see."""
    if not path.is_file():
        return [], [Fault(path, "neither a file nor a folder")], []
    try:
        check_name(path)
    except AsdError as error:
        return [], [Fault(path, str(error))], []
    return [path], [], []


def _arrived(request: CheckRequest, detector: Detector) -> dict[Section, list[Arrival]]:
    """List the recordings of each of the bank's sections; what cannot be read is judged as such."""
    if not request.clips:
        raise AsdError(f"name what is to be judged by the bank {request.bank}: recordings or folders")
    held = detector.bank.sections()
    if request.machine is not None or len(held) == 1:
        section = detector.section(request.machine)
        files, faults = recordings_in(request.clips)
        refused = [_arrival(fault.path, fault.reason) for fault in faults]
        return {section: [*map(_arrival, files), *refused]}
    # Of several machines, the folders that the recordings lie in say which.
    from extractors.clips.listing import list_clips  # noqa: PLC0415 (where layouts are read)

    if loose := [path for path in request.clips if not path.is_dir()]:
        raise AsdError(f"{loose[0]}: the bank holds {listing(held)}; say which with --machine")
    by_section: dict[Section, list[Arrival]] = {}
    listed = list_clips(request.clips)
    for clip in [clip for clip in listed.clips if clip.split == "test"] or listed.clips:
        by_section.setdefault(clip.section, []).append(_arrival(clip.path))
    if strange := sorted(set(by_section) - set(held)):
        raise AsdError(f"{listing(strange)} not in the bank, which holds {listing(held)}; --machine")
    for fault in listed.faults:
        own = next((one for one in held if one.machine_type in fault.path.parts), held[0])
        by_section.setdefault(own, []).append(_arrival(fault.path, fault.reason))
    return by_section


def _arrival(path: Path, fault: str = "") -> Arrival:
    stamp = recorded_at(path.name)
    if stamp is None:
        try:
            stamp = float(path.stat().st_mtime)
        except (OSError, AttributeError):
            stamp = time.time()
    return Arrival(Fault(path, fault).name, path, stamp, "", fault)


def judge_arrivals(
    detector: Detector, section: Section, arrivals: Sequence[Arrival], *, words: bool = True
) -> list[Judgement]:
    """Judge recordings, one judgement each in their order.

    Parameters
    ----------
    detector
        With its bank.
    section
        Which of the bank's.
    arrivals
        Each of another name.
    words
        Whether to say what is different.
    """
    bank = detector.bank.fingerprint(section)
    while True:
        readable = [one for one in arrivals if not one.fault]
        clips = Listing(tuple(Clip(one.name, one.path, section, "test") for one in readable))
        results = detector.judge(clips, section)
        now = detector.bank.fingerprint(section)
        if now == bank:  # else the bank was changed meanwhile
            break
        bank = now
    found = {clip.clip: clip for clip in results}
    reasons = {fault.path: fault.reason for fault in results.unusable}
    windows = Counter(split_id(window.clip_id)[0] for window in detector.inference.cut(clips).clips)
    judged = []
    for one in arrivals:
        clip = found.get(one.name)
        if clip is None:
            why = one.fault or reasons.get(one.path, "it was gone before it was read")
            facts: dict[str, Any] = {"content_sha256": "", "sentence": why}
        else:
            known = ("content_sha256", "score", "p_value", "decision")
            facts = {name: getattr(clip, name) for name in known}
            facts["threshold"] = clip.threshold if math.isfinite(clip.threshold) else None
            difference = clip.difference() if words else None
            if difference is not None:
                names = ("sentence", "kind", "low", "high", "decibels")
                facts |= {name: getattr(difference, name) for name in names}
            if remark := results.remarks.get(one.name):
                facts["sentence"] = "; ".join(filter(None, (facts.get("sentence"), remark)))
        judged.append(
            Judgement(
                one.time, one.name, machine_type=section.machine_type, section=section.number, bank=bank,
                windows=windows[one.name] or 1, **facts,
            )
        )  # fmt: skip
    return judged
