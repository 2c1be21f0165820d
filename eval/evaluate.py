"""From judged runs to files: result tables, pages, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cache.errors import AsdError
from cache.text import shown
from eval.described import read_description
from eval.intervals import Plan
from eval.judge import Judging, Run
from eval.page.build import Audible, write_page
from eval.ranking import System, read_system
from eval.tables import SystemResult, write_results
from eval.tally import uncertainty


@dataclass(frozen=True)
class Wishes:
    """What to make of runs.

    Attributes
    ----------
    out
        Where results go.
    report
        Whether to write a page.
    audible
        What may be heard in the page.
    figures
        Whether to draw figures as files.
    notes
        What else results and page say, name to text.
    plan
        How intervals are made.
    """

    out: Path
    report: bool = True
    audible: Audible = field(default_factory=Audible)
    figures: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)


def read_systems(folders: Sequence[Path], how: Judging) -> tuple[list[System], list[AsdError]]:
    """Read several systems; one that is refused does not keep the others from being read."""
    systems, refused = [], []
    for folder, name in zip(folders, called(folders), strict=True):
        try:
            systems.append(read_system(folder, name, how))
        except AsdError as error:
            refused.append(error)
    return systems, refused


def called(folders: Sequence[Path]) -> list[str]:
    """Names that tell folders apart: their last parts, as many as it takes.

    Raises
    ------
    AsdError
        If one folder is named twice.
    """
    paths = [folder.resolve() for folder in folders]
    twice = sorted({str(path) for path in paths if paths.count(path) > 1})
    if twice:
        raise AsdError(f"{twice[0]} is named twice: name every submission once")
    names = []
    for path in paths:
        others = [other for other in paths if other != path]
        count = 1
        while any(other.parts[-count:] == path.parts[-count:] for other in others):
            count += 1
        names.append("/".join(path.parts[-count:]))
    return names


def evaluate_run(run: Run, out: Path, wishes: Wishes) -> SystemResult:
    """Write everything about one run.

    Parameters
    ----------
    run
        A judged submission.
    out
        Its own folder.
    wishes
        What to make.

    Returns
    -------
    SystemResult
        What the tables hold.
    """
    result = SystemResult(
        title=run.name,
        sections=run.results,
        facts={},
        unknown=run.unknown,
        rule=run.rule,
        uncertainty=uncertainty(run.scores, run.rule, wishes.plan),
        part=run.part,
        proxy=run.is_proxy,
    )
    result = write_tables(run.directory, run.name, result, replace(wishes, out=out))
    if wishes.report:
        described = read_description(run.directory, run.name)
        write_page(out / "report.html", run, result, described, wishes.audible)
    if wishes.figures:
        # Matplotlib is loaded only where figures are asked for.
        from eval.figures import write_figures  # noqa: PLC0415

        write_figures(out / "figures", run, result)
    return result


def write_tables(directory: Path, name: str, result: SystemResult, wishes: Wishes) -> SystemResult:
    """Write result tables, where the truth of a section is known.

    Parameters
    ----------
    directory
        Of the submission, where what our own scoring says of the system lies.
    name
        The system's, where that says nothing.
    result
        Figures.
    wishes
        Where to write, and what else to say.

    Returns
    -------
    SystemResult
        What the tables hold: the figures with what is known of the system.
    """
    described = read_description(directory, name)
    result = replace(
        result,
        title=described.title,
        facts={**described.facts, **{name: shown(note) for name, note in wishes.notes.items()}},
        transductive=described.transductive,
        proxy=described.proxy or result.proxy,
    )
    if result.sections:
        write_results(wishes.out, result)
    return result
