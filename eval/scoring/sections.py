"""Embedding tables and fitted sections to submissions, their truth and their reasons."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.facts import Remark, differences, remarks_of, told
from cache.heard import split_id
from cache.table import DOMAINS, ClipKey, EmbeddingTable, Section, append_rows
from eval.results.clips import write_clips
from eval.results.description import SystemDescription, promise_of, write_description
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, result_names
from eval.results.submission import Submission, write_submission
from eval.scoring.maps import Blocks, write_map
from index.fitted import FittedSection, JudgedSection
from index.scorer import Neighbours, explained

_CHANCE = 1e-3  # that chance alone flags so many is not worth a word


@dataclass(frozen=True, eq=False)
class SectionScores:
    """A section's scores: by row of its table, which may be a window, and by file.

    A file scores as its most anomalous window; how high that must be to be called anomalous grows
    with the number of windows, see `index.threshold.largest_limit`.

    Attributes
    ----------
    judged
        How the section is judged.
    keys
        Of its N test clips, windows of files or whole.
    reasons
        Scores of the N, and why.
    """

    judged: JudgedSection
    keys: tuple[ClipKey, ...]
    reasons: Neighbours

    @property
    def section(self) -> Section:
        """Whose clips these are."""
        return self.judged.section

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What results call the file of each row."""
        return result_names([key.clip_id for key in self.keys])

    @cached_property
    def deciding(self) -> NDArray[np.intp]:
        """(F,) the row that gave each file's score, the first of equal ones; ascending."""
        best: dict[str, int] = {}
        scores = self.reasons.score.tolist()
        for row, name in enumerate(self.names):
            if name not in best or scores[row] > scores[best[name]]:
                best[name] = row
        return np.array(sorted(best.values()), dtype=np.intp)

    @cached_property
    def windows(self) -> NDArray[np.intp]:
        """(F,) how many rows each file has, in the order of `deciding`."""
        counts = Counter(self.names)
        return np.array([counts[self.names[row]] for row in self.deciding], dtype=np.intp)

    @cached_property
    def limit(self) -> float:
        """Threshold of a file of a usual (median) number of windows."""
        return self.judged.limit(int(np.median(self.windows)))

    @cached_property
    def decisions(self) -> NDArray[np.int64]:
        """(F,) 1 where a file's score is above its threshold, in the order of `deciding`."""
        limits = {count: self.judged.limit(count) for count in set(self.windows.tolist())}
        above = self.reasons.score[self.deciding] > np.array([limits[n] for n in self.windows.tolist()])
        return above.astype(np.int64)

    @cached_property
    def submission(self) -> Submission:
        """Scores and decisions of the F files, sorted by name."""
        names = tuple(self.names[row] for row in self.deciding)
        return Submission(self.section, names, self.reasons.score[self.deciding], self.decisions)

    def files(self) -> dict[str, Any]:
        """Columns of F rows, in the order of `deciding`: id and name, score, p-value and reasons."""
        rows = self.deciding
        reasons = {name: values[rows] for name, values in vars(self.reasons).items()}
        p = self.judged.p_values(reasons["score"], self.windows)
        clips = {
            "clip_id": [self.keys[row].clip_id for row in rows],
            "name": [self.names[row] for row in rows],
        }
        return {**clips, "score": reasons["score"], "p_value": p} | reasons


def score_blocks(fitted: FittedSection, blocks: Iterable[EmbeddingTable]) -> SectionScores:
    """Score a section's test clips, whose embeddings need not be in memory all at once.

    Parameters
    ----------
    fitted
        The section's scorer and threshold.
    blocks
        Consecutive rows of its test table, at least one; conditions are not looked at. A scorer that
        goes by all test clips gets them joined.
    """
    keys: list[ClipKey] = []
    found: list[Neighbours] = []
    for block in [append_rows(list(blocks))] if fitted.scorer.transductive else blocks:
        keys += block.keys
        found.append(explained(fitted.scorer, block.embeddings))
    reasons = {
        item.name: np.concatenate([getattr(one, item.name) for one in found]) for item in fields(Neighbours)
    }
    return SectionScores(fitted, tuple(keys), Neighbours(**reasons))


def write_reasons(results: ResultsFolder, scored: SectionScores) -> set[str]:
    """Write which training clips each test clip was nearest to, as Parquet.

    ``neighbours_<machine>_section_<nn>_test.parquet`` has a row a file: of several windows, the one
    that decided.

    Returns
    -------
    set[str]
        Ids of the training clips named.
    """
    columns = scored.files()
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    results.write(reasons_path(results.root, scored.section).name, buffer.getvalue())
    return {str(clip) for domain in DOMAINS for clip in columns[f"{domain}_clip"] if clip}


def write_windows(results: ResultsFolder, scored: SectionScores) -> None:
    """Write the scores of every window, which show where in a file it sounds abnormal.

    ``windows_<machine>_section_<nn>_test.csv`` has a row a window: file, start and end in s, score,
    p-value of the window alone. Where no file has windows, nothing is written.
    """
    spans = [split_id(key.clip_id)[1] for key in scored.keys]
    if all(span is None for span in spans):
        return
    p = scored.judged.p_values(scored.reasons.score).tolist()
    rows = sorted(
        (name, *span, score, likely)
        for name, span, score, likely in zip(
            scored.names, spans, scored.reasons.score.tolist(), p, strict=True
        )
        if span is not None
    )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("file", "start_s", "end_s", "score", "p_value"), *rows])
    results.write(file_name("windows", scored.section), text.getvalue().encode())


def recorded_otherwise(fitted: FittedSection, keys: Sequence[ClipKey]) -> dict[str, str]:
    """Say of recordings what is unlike the training clips in how they were recorded; of most nothing."""
    found = dict[str, str]()
    for key in keys:  # of windows the first that is remarkable
        name, one = split_id(key.clip_id)[0], {key.clip_id: key.facts}
        said = remarks_of("", one) or differences("", one, fitted.usual, fitted.recipe.heard_rate)
        for remark in said[:1]:
            found.setdefault(name, remark.text)
    return found


@dataclass
class RunWriter:
    """Writes the files of a run section by section, and gathers what describes it.

    Attributes
    ----------
    results
        Where to.
    rate
        Highest rate that the system hears, Hz; ``None`` where none is known.
    layout
        How embeddings are laid out on a map, ``pca`` or ``umap``; ``None`` for no map.
    first
        Whether no stage before has told what is to be known of the training clips.
    label
        Stands behind a section's name where it is said that many clips are flagged.
    notes, remarks
        What deserves a look.
    thresholds, cautions, calibration
        By section, as text, as of `SystemDescription`.
    """

    results: ResultsFolder
    rate: int | None
    layout: str | None
    first: bool = False
    label: str = ""
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    thresholds: dict[str, float | None] = field(default_factory=dict)
    cautions: dict[str, list[str]] = field(default_factory=dict)
    calibration: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(
        self,
        scored: SectionScores,
        known: Mapping[str, ClipKey],
        train: Callable[[], EmbeddingTable | None],
        blocks: Blocks,
    ) -> None:
        """Write a section's files, and record what is to be said of it.

        Parameters
        ----------
        scored
            Its scores.
        known
            Its training clips by id, as far as they are at hand.
        train, blocks
            Give its training table, if there is one, and its test table in parts: for the map.
        """
        write_submission(self.results, scored.submission)
        nearest = write_reasons(self.results, scored)
        write_windows(self.results, scored)
        held = {clip: known[clip] for clip in nearest & known.keys()}
        write_clips(self.results, scored.section, scored.keys, held)
        if self.layout is not None:
            write_map(self.results, train(), blocks, self.layout)
        self._describe(scored, known)

    def _describe(self, scored: SectionScores, known: Mapping[str, ClipKey]) -> None:
        judged, name = scored.judged, str(scored.section)
        heard = {key.clip_id: key.facts for key in scored.keys}
        learnt = {clip: key.facts for clip, key in known.items()} if self.first else {}
        found = [*remarks_of(f"{name} train", learnt), *remarks_of(f"{name} test", heard)]
        found += differences(f"{name} test", heard, judged.usual, self.rate)
        self.remarks += found
        cautions = list(judged.cautions().values())
        self.thresholds[name] = scored.limit if np.isfinite(scored.limit) else None
        self.cautions[name] = [*cautions, *told(found)]
        self.calibration[name] = {**judged.facts(), "promise": judged.promise()}
        if self.first:
            self.notes += [f"{name}: {text}" for text in cautions]
        if any(key.condition is None for key in scored.keys):
            more = surplus(int(scored.decisions.sum()), len(scored.decisions), judged.promised)
            self.notes += [f"{name}{self.label}: {more}"] if more else []
        if self.thresholds[name] is None and not self.first:
            self.notes += [f"{name}: {text}" for text in cautions]

    def seal(self, title: str, facts: Mapping[str, str], **marks: bool) -> None:
        """Write what describes the system, and seal the folder.

        Parameters
        ----------
        title, facts, **marks
            As of `SystemDescription`; how often normal clips are flagged is added.
        """
        facts = {**facts, "calibration": promise_of(self.calibration.values())}
        described = SystemDescription(
            title, facts=facts, thresholds=self.thresholds, cautions=self.cautions,
            calibration=self.calibration, **marks,
        )  # fmt: skip
        write_description(self.results, described)
        self.results.seal()


def surplus(flagged: int, count: int, promised: float) -> str:
    """Say that far more clips are flagged than normal ones would be; nothing where they are not.

    Far more is three times the promised share, and more than chance gives once in a thousand times
    (binomial).

    Parameters
    ----------
    flagged, count
        Clips called anomalous, of how many.
    promised
        Share of normal clips that are meant to be.
    """
    if flagged <= 3 * promised * count:
        return ""
    from scipy import stats  # noqa: PLC0415 -- heavy, and seldom needed

    if stats.binom.sf(flagged - 1, count, promised) > _CHANCE:
        return ""
    return (
        f"{flagged} of {count} clips are flagged where {promised * count:.0f} would be if all were "
        "normal: the machine or the recording set-up is not as it was for the training clips"
    )


def reasons_path(directory: Path, section: Section) -> Path:
    """Where a section's reasons lie, whether they exist or not."""
    return directory / file_name("neighbours", section, "parquet")
