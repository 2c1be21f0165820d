"""Scores to what every other system writes: submissions, and results where truth is known.

The only place of this package that knows the rest of `eval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.baselines.scoring import SectionScores
from eval.baselines.summary import OFFICIAL, Figures
from eval.metrics.sections import SectionResult, SectionTruth, evaluate_section
from eval.results.clip_names import result_names
from eval.results.folder import Results
from eval.results.submission import Submission, write_submission
from eval.results.tables import SystemResult, write_results
from eval.results.truth import Truth, find_truth
from extractors.clips.listing import Clip


def write_run(
    directory: Path,
    scored: Sequence[SectionScores],
    ground_truth: Path | None,
    facts: Mapping[str, str],
) -> Figures | None:
    """Write one run's submission, and its result tables where the truth is known.

    Parameters
    ----------
    directory
        Of this run alone.
    scored
        The scores of every section.
    ground_truth
        Folder in the evaluator's form; wins over labels in the clips' names.
    facts
        ``title``, and what the reader needs to repeat it.

    Returns
    -------
    Figures or None
        Figures of every section of known truth and, under ``""``, their harmonic means with the
        official score; ``None`` where nothing is known.

    Raises
    ------
    AsdError
        If clips and truth do not match, or a file cannot be written.
    """
    known: dict[str, SectionResult] = {}
    sections, unknown, results = {}, [], Results(directory)
    with results.run():
        for one in scored:
            names = result_names([clip.clip_id for clip in one.clips])
            submission = Submission(one.section, names, one.scores, one.decisions)
            write_submission(results, submission)
            truth = _truth(submission, one.clips, ground_truth)
            if truth is None:
                unknown.append(one.section)
            else:
                found = evaluate_section(submission.scores, submission.decisions, truth)
                sections[one.section] = known[str(one.section)] = found
        if not known:
            return None
        result = SystemResult(facts["title"], sections, facts, unknown)
        write_results(results, result)
    means = {**result.summary.harmonic, OFFICIAL: result.summary.official}
    return {**{name: found.figures for name, found in known.items()}, "": means}


def _truth(submission: Submission, clips: Sequence[Clip], ground_truth: Path | None) -> SectionTruth | None:
    if any(clip.condition is None for clip in clips):
        return find_truth(submission, ground_truth, None)
    names = result_names([clip.clip_id for clip in clips])
    labels = {
        name: Truth(clip.condition == "anomaly", clip.domain) for name, clip in zip(names, clips, strict=True)
    }
    return find_truth(submission, ground_truth, labels)
