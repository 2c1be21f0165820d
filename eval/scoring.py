"""Embedding tables and fitted sections to submissions, their truth and their reasons."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cache.atomic import write_atomic
from cache.table import EmbeddingTable, Section
from eval.clip_names import result_names
from eval.scores import Submission
from eval.truth import Truth
from index.bank import FittedSection
from index.threshold import p_values


def score_table(
    fitted: FittedSection, table: EmbeddingTable
) -> tuple[NDArray[np.float64], Submission]:
    """Score a section's test clips.

    Parameters
    ----------
    fitted
        The section's scorer and threshold.
    table
        (N, D) embeddings of its test clips; their conditions are not looked at.

    Returns
    -------
    scores, submission
        (N,) in the table's order; scores and decisions by `result_names`.
    """
    scores = fitted.scorer.score(table.embeddings)
    decisions = fitted.threshold.decide(scores)
    return scores, Submission(table.section, result_names(table.clip_ids), scores, decisions)


def labels_of(table: EmbeddingTable) -> dict[str, Truth] | None:
    """Read what a table's own columns tell of its test clips; ``None`` if not of all of them."""
    if any(key.condition is None for key in table.keys):
        return None
    return {
        name: Truth(key.condition == "anomaly", key.domain)
        for name, key in zip(result_names(table.clip_ids), table.keys, strict=True)
    }


def write_neighbours(
    directory: Path, fitted: FittedSection, table: EmbeddingTable, scores: NDArray[np.float64]
) -> Path:
    """Write which training clips each test clip was nearest to, as Parquet.

    Parameters
    ----------
    directory
        Where submissions are written; the file's name follows theirs.
    fitted, table, scores
        The section's scorer, its (N, D) test clips and their (N,) scores, in the table's order.

    Returns
    -------
    Path
        ``neighbours_<machine>_section_<nn>_test.parquet`` with a row a clip.
    """
    p = p_values(fitted.scorer.train_scores(), scores)
    reasons = vars(fitted.scorer.explain(table.embeddings))
    clips = {"clip_id": table.clip_ids, "name": result_names(table.clip_ids)}
    frame = pd.DataFrame({**clips, "score": scores, "p_value": p, **reasons})
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    path = reasons_path(directory, table.section)
    write_atomic(path, buffer.getvalue())
    return path


def reasons_path(directory: Path, section: Section) -> Path:
    """Where a section's reasons lie, whether they exist or not."""
    return (
        directory / f"neighbours_{section.machine_type}_section_{section.number:02d}_test.parquet"
    )
