"""The reporting stage: a judged run to result tables, a page and figures in a results folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cache.base.text import shown
from eval.judge import JudgeResult
from eval.page.build import write_page
from eval.page.data import label
from eval.page.verdict import MachineVerdict, verdict
from eval.request import PlaybackOptions
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult, write_results


@dataclass(frozen=True)
class ReportRequest:
    """What is reported, and how.

    Attributes
    ----------
    run
        A judged submission.
    results
        The folder where tables and page go.
    page
        Whether to write ``report.html``.
    audible
        What may be heard in the page.
    figures
        Whether to draw figures as files.
    notes
        What else tables and page say, name to text.
    """

    run: JudgeResult
    results: ResultsFolder
    page: bool = True
    audible: PlaybackOptions = field(default_factory=PlaybackOptions)
    figures: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportResult:
    """What a report holds.

    Attributes
    ----------
    result
        Its tables.
    silent
        Recordings that it does not play, each with the reason.
    verdicts
        Of machines whose truth is unknown; none without a page.
    """

    result: SystemResult
    silent: tuple[str, ...] = ()
    verdicts: tuple[MachineVerdict, ...] = ()


def report(request: ReportRequest) -> ReportResult:
    """Write everything about one run.

    Parameters
    ----------
    request
        What to write, and where.

    Returns
    -------
    ReportResult
        The figures with what is known of the system.
    """
    run, results = request.run, request.results
    described = run.described
    result = SystemResult(
        title=described.title or run.name,
        sections=run.results,
        facts={**described.facts, **{name: shown(note) for name, note in request.notes.items()}},
        unknown=run.unknown,
        transductive=described.transductive,
        rule=run.rule,
        uncertainty=run.uncertainty,
        part=run.part,
        proxy=described.proxy or run.is_proxy,
    )
    with results.run():
        if run.directory.resolve() == results.root.resolve():
            results.keep_scores()
        if result.sections:
            write_results(results, result)
        page = write_page(results, run, result, request.audible) if request.page else None
        if request.figures:
            # Matplotlib is loaded only where figures are asked for.
            from eval.page.figures import write_figures  # noqa: PLC0415

            write_figures(results, run, result)
    if page is None:
        return ReportResult(result)
    views, heard, known = page.views, page.heard, described.calibration
    verdicts = (
        verdict(section, label(section, views), views[section], heard.differences, known.get(str(section)))
        for section in sorted(run.unknown)
    )
    return ReportResult(result, tuple(heard.faults), tuple(verdicts))
