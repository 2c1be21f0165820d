"""What a recording turned out to be when it was decoded, and what of that a user must know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from cache.base.errors import listing
from cache.base.text import counted

SILENT, CONSTANT = "silent", "constant"
_OTHER = 1.2  # ratio of bandwidths from which recordings are not of one kind
_LACKS = {
    SILENT: "silent, as of a dead microphone: record anew or take out",
    CONSTANT: "constant, every sample the same, as of an unplugged sensor: record anew or take out",
}
_NAMED = 3  # sections, and clips, that a line names


@dataclass(frozen=True)
class Facts:
    """Facts of a recording beside its name and its bytes.

    Attributes
    ----------
    sample_rate, channels
        Of the file, Hz.
    bandwidth
        Hz above which the file holds nothing, whatever its rate; half its rate where it is full.
    lack
        `SILENT` or `CONSTANT` where there is no sound in it; empty where there is.
    remark
        What of its header was put right; empty where nothing was.
    decoder
        Name and version, where the samples depend on them; empty where they do not.
    near, left
        Sum of the near channel's squared samples, and of what is left of it once the far channel is
        cancelled; ``None`` where nothing is cancelled.
    """

    sample_rate: int
    channels: int
    bandwidth: float
    lack: str = ""
    remark: str = ""
    decoder: str = ""
    near: float | None = None
    left: float | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


@dataclass(frozen=True)
class Usual:
    """What recordings of one kind have in common: a section's training clips, for instance.

    Attributes
    ----------
    sample_rate
        The commonest, Hz.
    bandwidth
        The median, Hz.
    clips, lacking
        How many recordings are known, and how many of them are silent or constant.
    """

    sample_rate: int
    bandwidth: float
    clips: int = 1
    lacking: int = 0


def usual(facts: Iterable[Facts | None]) -> Usual | None:
    """Find what recordings have in common; ``None`` where nothing is known of any."""
    known = [each for each in facts if each is not None]
    if not known:
        return None
    sound = [each for each in known if not each.lack]
    rate = Counter(each.sample_rate for each in sound or known).most_common(1)[0][0]
    bandwidth = float(median(each.bandwidth for each in sound or known))
    return Usual(rate, bandwidth, len(known), len(known) - len(sound))


@dataclass(frozen=True)
class Remark:
    """One thing to say of some clips of one place.

    Attributes
    ----------
    text
        What is the matter, the remedy with it.
    where
        Section and split.
    clips
        How many.
    example
        Id of one.
    """

    text: str
    where: str
    clips: int
    example: str


def remarks_of(where: str, facts: Mapping[str, Facts | None]) -> list[Remark]:
    """Say what clips have that a user must know: no sound, headers put right.

    Parameters
    ----------
    where
        Section and split.
    facts
        Clip id to its facts.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for clip_id, each in facts.items():
        if each is not None and each.lack:
            found[_LACKS[each.lack]].append(clip_id)
        if each is not None and each.remark:
            found[f"read to the end though {each.remark}"].append(clip_id)
    return [Remark(text, where, len(ids), min(ids)) for text, ids in found.items()]


def differences(
    where: str, facts: Mapping[str, Facts | None], trained: Usual | None, sample_rate: int | None
) -> list[Remark]:
    """Say which clips are of another kind than those they are held against.

    Parameters
    ----------
    where
        Section and split of the clips.
    facts
        Clip id to its facts.
    trained
        Of the training clips.
    sample_rate
        What the model hears, Hz: nothing above half of it counts. ``None`` for any.
    """
    if trained is None or trained.lacking == trained.clips:
        return []
    most = sample_rate / 2 if sample_rate else float("inf")
    expected, found = min(trained.bandwidth, most), defaultdict[str, list[str]](list)
    for clip_id, each in facts.items():
        if each is None or each.lack:
            continue
        reach = min(each.bandwidth, most)
        if max(reach, expected) > _OTHER * min(reach, expected):
            how = "narrower" if reach < expected else "wider"
            told = (
                f"{how} than the training clips: {each.sample_rate} Hz with sound up to "
                f"{_hertz(each.bandwidth)}, the training clips {trained.sample_rate} Hz with sound "
                f"up to {_hertz(trained.bandwidth)}; scores of these compare recorders, not "
                "machines: record both in the same way"
            )
            found[told].append(clip_id)
        elif each.sample_rate != trained.sample_rate:
            told = (
                f"recorded at {each.sample_rate} Hz, the training clips at {trained.sample_rate} "
                "Hz: see that the recorder is the same"
            )
            found[told].append(clip_id)
    return [Remark(text, where, len(ids), min(ids)) for text, ids in found.items()]


def told(remarks: Sequence[Remark]) -> list[str]:
    """Write remarks down, one line for all of a kind."""
    kinds: dict[str, list[Remark]] = defaultdict(list)
    for each in remarks:
        kinds[each.text].append(each)
    lines = []
    for text, of_kind in kinds.items():
        places = Counter[str]()
        for each in of_kind:
            places[each.where] += each.clips
        named = listing([f"{where} {count}" for where, count in places.items()], _NAMED)
        what = counted(places.total(), "clip is", "clips are")
        lines.append(f"{what} {text} ({named}; e.g. {of_kind[0].example})")
    return lines


def _hertz(frequency: float) -> str:
    return f"{round(frequency)} Hz"
