"""What was found of clips that were judged: scores, decisions, reasons, in words and as a frame."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.base.errors import AsdError
from cache.files.places import is_remote
from cache.heard import split_id
from cache.table import DOMAINS
from eval.scoring.difference import Difference, describe
from extractors.audio.decode import read_audio
from extractors.audio.files import opened
from extractors.clips.clip import Clip, Fault

if TYPE_CHECKING:
    import pandas as pd

    from eval.scoring.sections import SectionScores


@dataclass(frozen=True)
class Neighbour:
    """A normal clip that a judged one was nearest to.

    Attributes
    ----------
    domain
        ``source`` or ``target``.
    clip
        Its id in the bank.
    distance
        In the scorer's unit, before any normalisation.
    """

    domain: str
    clip: str
    distance: float


@dataclass(frozen=True)
class ClipResult:
    """What was found of one clip.

    Attributes
    ----------
    clip
        Its name: a path below the folder that was given, or ``array 0``.
    machine_type, section
        Whose normal clips it was held against.
    score, threshold
        Higher is more anomalous; the threshold is infinite where the bank's clips do not tell one.
    decision
        1 abnormal, 0 normal; ``None`` where the threshold means nothing.
    p_value
        Share of normal clips that score as high, in (0, 1].
    neighbours
        The nearest normal clip of each domain; the one that decided first.
    part
        The band, backbone or member scorer that decided; empty where there is one only.
    start, end
        s, of the window that decided; ``None`` where the clip was heard whole.
    content_sha256
        Of the bytes that were judged.
    """

    clip: str
    machine_type: str
    section: int
    score: float
    threshold: float
    decision: int | None
    p_value: float
    neighbours: tuple[Neighbour, ...]
    part: str
    start: float | None
    end: float | None
    content_sha256: str
    _recording: Clip | None = field(default=None, repr=False, compare=False)
    _sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def difference(self) -> Difference | None:
        """Compare with the nearest normal clip, recording with recording.

        Returns
        -------
        Difference or None
            ``None`` where one of the two cannot be read (any more).
        """
        if self._recording is None or not self.neighbours:
            return None
        name, span = split_id(self.neighbours[0].clip)
        source = self._sources.get(name)
        if source is None and not is_remote(self._recording.path):
            # Ids are paths below the data root, which may hold the recording too.
            folders = self._recording.path.absolute().parents
            source = next((str(folder / name) for folder in folders if (folder / name).is_file()), None)
        if source is None:
            return None
        try:
            own_told = self._recording.signal  # of both: they were read by one recipe
            with (
                opened(self._recording.path, own_told) as (file, _),
                opened(Path(source), own_told) as (other, _),
            ):
                rate = min(file.samplerate, other.samplerate)
            own = read_audio(self._recording.path, rate, self._recording.span, signal=own_told).samples
            return describe(own, read_audio(Path(source), rate, span, signal=own_told).samples, rate)
        except AsdError:
            return None

    def explain(self) -> str:
        """Say in a sentence what was found: verdict, reason, nearest normal clip, difference."""
        verdict = {1: "abnormal", 0: "normal", None: "not judged"}[self.decision]
        text = f"{self.clip}: {verdict}, score {self.score:.4g}"
        if np.isfinite(self.threshold):
            text += f" against a threshold of {self.threshold:.4g}"
        if self.start is not None:
            text += f", worst from {self.start:g} to {self.end:g} s"
        if self.neighbours:
            text += f"; nearest to {self.neighbours[0].clip}"
        found = self.difference()
        return f"{text}: {found.sentence}" if found else text


def clip_results(
    scored: SectionScores, recordings: Mapping[str, Clip], sources: Mapping[str, str]
) -> dict[str, ClipResult]:
    """Say what was found of each file of a section, by its id.

    Parameters
    ----------
    scored
        The section's scores.
    recordings
        Clip id, of a window too, to the clip.
    sources
        Id of a normal recording to where it lies.
    """
    columns = scored.files()
    judged = np.isfinite(scored.judged.threshold.value)
    results = {}
    for place, row in enumerate(scored.deciding.tolist()):
        key = scored.keys[row]
        name, span = split_id(key.clip_id)
        near = [
            Neighbour(
                domain, str(columns[f"{domain}_clip"][place]), float(columns[f"{domain}_distance"][place])
            )
            for domain in DOMAINS
            if columns[f"{domain}_clip"][place]
        ]
        results[name] = ClipResult(
            clip=name,
            machine_type=scored.section.machine_type,
            section=scored.section.number,
            score=float(columns["score"][place]),
            threshold=scored.limit,
            decision=int(scored.decisions[place]) if judged else None,
            p_value=float(columns["p_value"][place]),
            neighbours=tuple(sorted(near, key=lambda one: one.domain != columns["decided"][place])),
            part=str(columns["part"][place]),
            start=span[0] if span else None,
            end=span[1] if span else None,
            content_sha256=key.content_sha256,
            _recording=recordings[key.clip_id],
            _sources=sources,
        )
    return results


@dataclass(frozen=True)
class Results(Sequence[ClipResult]):
    """Clips that were judged, in the order in which they were given.

    Attributes
    ----------
    clips
        One a clip that could be read.
    unusable
        Clips that could not, each with the reason.
    cautions
        What the threshold promises, and what a reader of decisions must know of the bank's normal clips.
    remarks
        Name of a clip to what is unlike the normal clips in how it was recorded; most have none.
    """

    clips: tuple[ClipResult, ...]
    unusable: tuple[Fault, ...] = ()
    cautions: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> tuple[str, ...]:
        """Clips that could not be read, each with the reason, as text."""
        return tuple(map(str, self.unusable))

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: Any) -> Any:
        return self.clips[index]

    def __iter__(self) -> Iterator[ClipResult]:
        return iter(self.clips)

    def to_pandas(self) -> pd.DataFrame:
        """Make a frame, a row a clip; `neighbours` become columns for each domain."""
        import pandas as pd  # noqa: PLC0415 (half a second that a judgement does not need)

        rows = []
        for clip in self.clips:
            row = {name: value for name, value in asdict(clip).items() if name[0] != "_"}
            del row["neighbours"]
            for near in clip.neighbours:
                row |= {f"{near.domain}_clip": near.clip, f"{near.domain}_distance": near.distance}
            rows.append(row)
        return pd.DataFrame(rows)

    def plot(self, axes: Any = None) -> Any:
        """Draw scores in order with the threshold.

        Parameters
        ----------
        axes
            Of matplotlib; new ones by default.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.
        """
        try:
            from matplotlib import pyplot as plt  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise AsdError("plot needs matplotlib: pip install 'machine-asd[figures]'") from error
        axes = axes or plt.subplots()[1]
        colours = {1: "tab:red", 0: "tab:green", None: "tab:gray"}
        axes.scatter(range(len(self)), [c.score for c in self], c=[colours[c.decision] for c in self], s=16)
        for limit in {c.threshold for c in self if np.isfinite(c.threshold)}:
            axes.axhline(limit, color="black", linestyle="--", linewidth=1)
        axes.set_xlabel("clip")
        axes.set_ylabel("score")
        return axes

    def _repr_html_(self) -> str:
        """Show in a notebook: the most abnormal clips first."""
        cells = [
            (c.clip, f"{c.score:.4g}", {1: "abnormal", 0: "normal", None: "not judged"}[c.decision],
             f"{c.p_value:.3g}", c.neighbours[0].clip if c.neighbours else "")
            for c in sorted(self.clips, key=lambda c: -c.score)
        ]  # fmt: skip
        head = ("clip", "score", "sounds", "p", "nearest normal clip")
        rows = [
            "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row)
            for tag, some in (("th", [head]), ("td", cells))
            for row in some
        ]
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
