"""Embedding tables and fitted sections to submissions, their truth and their reasons."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.heard import split_id
from cache.table import DOMAINS, EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, result_names
from eval.results.submission import Submission
from index.fitted import FittedSection, JudgedSection
from index.scorer import Neighbours, explained

Floats = NDArray[np.float64]

_CHANCE = 1e-3  # that chance alone flags so many is not worth a word


@dataclass(frozen=True, eq=False)
class SectionScores:
    """A section's scores: by row of its table, which may be a window, and by file.

    A file scores as its most anomalous window; how high that must be to be called anomalous grows
    with the number of windows, see `index.threshold.largest_limit`.

    Attributes
    ----------
    scores
        (N,) in the table's order.
    submission
        Scores and decisions of the F files, by `result_names`.
    deciding
        (F,) the row that gave each file's score, ascending.
    windows
        (F,) how many rows each file has, in the order of `deciding`.
    limit
        Threshold of a file of a usual (median) number of windows.
    reasons
        Why, by row of the table.
    """

    scores: Floats
    submission: Submission
    deciding: NDArray[np.intp]
    windows: NDArray[np.intp]
    limit: float
    reasons: Neighbours


def score_table(fitted: FittedSection, table: EmbeddingTable) -> SectionScores:
    """Score a section's test clips.

    Parameters
    ----------
    fitted
        The section's scorer and threshold.
    table
        (N, D) embeddings of its test clips; their conditions are not looked at.
    """
    return score_files(fitted, table, explained(fitted.scorer, table.embeddings))


def score_files(judged: JudgedSection, table: EmbeddingTable, reasons: Neighbours) -> SectionScores:
    """Score and judge a section's test files by the scores of their windows.

    Parameters
    ----------
    judged
        How the section's scores are judged.
    table
        (N, D) its test clips, windows of files or whole.
    reasons
        Scores of the N, and why.
    """
    scores = reasons.score
    names = result_names(table.clip_ids)
    deciding, windows = _deciding(names, scores)
    limits = {n: judged.limit(n) for n in {*windows.tolist(), int(np.median(windows))}}
    decisions = scores[deciding] > np.array([limits[n] for n in windows.tolist()])
    submission = Submission(
        table.section,
        tuple(names[row] for row in deciding),
        scores[deciding],
        decisions.astype(np.int64),
    )
    limit = limits[int(np.median(windows))]
    return SectionScores(scores, submission, deciding, windows, limit, reasons)


def write_reasons(
    results: ResultsFolder, judged: JudgedSection, table: EmbeddingTable, scored: SectionScores
) -> set[str]:
    """Write which training clips each test clip was nearest to, as Parquet.

    ``neighbours_<machine>_section_<nn>_test.parquet`` has a row a file: of several windows, the one
    that decided.

    Parameters
    ----------
    results
        The folder.
    judged, table, scored
        How the section is judged, its (N, D) test clips and their scores.

    Returns
    -------
    set[str]
        Ids of the training clips named.
    """
    rows, ids = scored.deciding, table.clip_ids
    names, reasons = result_names(ids), {n: v[rows] for n, v in vars(scored.reasons).items()}
    p = judged.p_values(reasons["score"], scored.windows)
    clips = {"clip_id": [ids[i] for i in rows], "name": [names[i] for i in rows]}
    buffer = io.BytesIO()
    pq.write_table(pa.table({**clips, "score": reasons["score"], "p_value": p} | reasons), buffer)
    results.write(reasons_path(results.root, table.section).name, buffer.getvalue())
    return {str(clip) for domain in DOMAINS for clip in reasons[f"{domain}_clip"] if clip}


def write_windows(
    results: ResultsFolder, judged: JudgedSection, table: EmbeddingTable, scored: SectionScores
) -> None:
    """Write the scores of every window, which show where in a file it sounds abnormal.

    ``windows_<machine>_section_<nn>_test.csv`` has a row a window: file, start and end in s, score,
    p-value of the window alone. Where no file has windows, nothing is written.

    Parameters
    ----------
    results, judged, table, scored
        As of `write_reasons`.
    """
    spans = [split_id(clip_id)[1] for clip_id in table.clip_ids]
    if all(span is None for span in spans):
        return
    names = result_names(table.clip_ids)
    p = judged.p_values(scored.scores).tolist()
    rows = sorted(
        (name, *span, score, likely)
        for name, span, score, likely in zip(names, spans, scored.scores.tolist(), p, strict=True)
        if span is not None
    )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("file", "start_s", "end_s", "score", "p_value"), *rows])
    results.write(file_name("windows", table.section), text.getvalue().encode())


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


def _deciding(names: tuple[str, ...], scores: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find each file's row of the highest score, the first of equal ones, and count its rows."""
    best: dict[str, int] = {}
    for row, name in enumerate(names):
        if name not in best or scores[row] > scores[best[name]]:
            best[name] = row
    deciding = np.array(sorted(best.values()), dtype=np.intp)
    counts = Counter(names)
    return deciding, np.array([counts[names[row]] for row in deciding], dtype=np.intp)
