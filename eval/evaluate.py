"""The evaluation from end to end: score with a bank or take submissions, judge, rank, report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.progress import Progress, unseen
from cache.files.atomic import scratch_folder
from cache.recipe import Recipe
from cache.select import choose
from cache.store import Store
from eval.judge import JudgeRequest, JudgeResult, judge, years_told
from eval.metrics.rules import choose_rule
from eval.page.verdict import MachineVerdict
from eval.ranking.systems import Ranking, System, called, rank, read_system, run_folders
from eval.ranking.tables import write_ranking
from eval.report import ReportRequest, ReportResult, report
from eval.request import EvaluateRequest, PlaybackOptions
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult
from eval.score import ScoreRequest, score
from extractors.audio.hearing import hearing_of
from extractors.clips.listing import Fault, list_clips
from index.bank import Bank, find_bank
from index.scorer import DEFAULT

_LOG = logging.getLogger(__name__)
_EXTRAS = {"umap": "umap", "matplotlib": "figures"}  # module to extra of ours


@dataclass(frozen=True)
class EvaluateResult:
    """What an evaluation did.

    Attributes
    ----------
    results
        Tables, one a run.
    ranking
        Of several runs.
    refused
        Submissions that could not be judged, each with every fault.
    left_out
        Clips that could not be used, each with the reason.
    notes
        What deserves a look.
    silent
        Recordings that a report does not play, each with the reason.
    outdated
        Clips of the data that are other recordings now than the cache knows, or not in it.
    verdicts
        Of machines whose truth is unknown, where there is one run.
    """

    results: tuple[SystemResult, ...] = ()
    ranking: Ranking | None = None
    refused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    outdated: tuple[str, ...] = ()
    verdicts: tuple[MachineVerdict, ...] = ()


def evaluate(wanted: EvaluateRequest, told: Progress = unseen) -> EvaluateResult:
    """Judge submissions and rank them, or score test clips with a bank and judge the scores.

    Parameters
    ----------
    wanted
        What to evaluate.
    told
        How many sections are scored, of how many.

    Raises
    ------
    AsdError
        If something named is not there or does not fit, or nothing can be scored.
    """
    check(wanted)
    if wanted.submission:
        return judge_all(wanted, ResultsFolder(wanted.out))
    return score_all(wanted, ResultsFolder(wanted.out), told)


def check(wanted: EvaluateRequest) -> None:
    """Refuse what would fail after the work is done.

    Raises
    ------
    AsdError
        Naming what is missing, and how to get it.
    """
    truth = wanted.ground_truth
    if truth is not None and not truth.is_dir():
        raise AsdError(f"--ground-truth {truth} is not a folder")
    for folder in wanted.submission:
        if not folder.is_dir():
            raise AsdError(f"--submission {folder} is not a folder")
    needed = {"--map umap": ("umap", wanted.layout == "umap"),
              "--figures": ("matplotlib", wanted.figures)}  # fmt: skip
    for flag, (module, asked) in needed.items():
        if asked and find_spec(module) is None:
            raise AsdError(
                f"{flag} needs {module}, which is not installed: pip install 'machine-asd[{_EXTRAS[module]}]'"
            )


def score_all(wanted: EvaluateRequest, results: ResultsFolder, told: Progress = unseen) -> EvaluateResult:
    """Score with a bank into a results folder, then judge and report what lies there."""
    bank, recipe = _bank(wanted)
    clips = list_clips(wanted.audio).clips if wanted.audio and not wanted.data else None
    with results.run(), _test_tables(wanted, recipe) as (store, left_out):
        cache = Store(wanted.cache_dir)
        scoring = ScoreRequest(
            results, bank, recipe, store, cache, wanted.layout, wanted.machine, clips,
            wanted.command, wanted.built, (*wanted.left_out, *left_out),
        )  # fmt: skip
        scored = score(scoring, told)
        run = judge(replace(_judging(wanted, []), directory=results.root, part=True))
        made = [report(_reporting(wanted, run, results))]
    return replace(_evaluated(made), left_out=left_out, notes=scored.notes, outdated=scored.outdated)


def judge_all(wanted: EvaluateRequest, results: ResultsFolder) -> EvaluateResult:
    """Judge the folders named; several are ranked, and each has a folder of its own."""
    folders = [run for folder in wanted.submission for run in run_folders(folder)]
    request = _judging(wanted, folders)
    systems: list[System] = []
    refused = []
    for folder, name in zip(wanted.submission, called(wanted.submission), strict=True):
        try:
            systems.append(read_system(folder, replace(request, name=name)))
        except AsdError as error:
            refused.append(str(error))
    runs = [run for system in systems for run in system.runs]
    if not runs:
        return EvaluateResult(refused=tuple(refused))
    with results.run():
        if len(runs) == 1 and not refused:
            return _evaluated([report(_reporting(wanted, runs[0], results))])
        made = []
        for run in runs:
            part = ResultsFolder(results.root / run.name)
            made.append(report(_reporting(wanted, run, part)))
            if part.root.resolve() != run.directory.resolve():  # else it is another run's
                results.include(part)
        ranking = rank(systems, request.plan)
        write_ranking(results, ranking)
    return replace(_evaluated(made), ranking=ranking, refused=tuple(refused))


def _bank(wanted: EvaluateRequest) -> tuple[Bank, Recipe]:
    store, tables = Store(wanted.cache_dir), wanted.tables
    if wanted.bank is None:
        recipe = choose(store, tables)
        return find_bank(wanted.cache_dir, recipe, wanted.scorer or DEFAULT), recipe
    bank = Bank(wanted.bank)
    recipe = bank.recipe()
    if not tables.means(recipe):
        raise AsdError(
            f"{wanted.bank} was built from {recipe}, not from the tables asked for: name a bank of those, or "
            "leave the options out that say how clips are heard"
        )
    held = bank.made_of(bank.sections()[0])[1]
    if wanted.scorer not in (None, held):
        raise AsdError(f"{wanted.bank} is of {held}, not --scorer {wanted.scorer}: leave one of them out")
    return bank, recipe


@contextmanager
def _test_tables(wanted: EvaluateRequest, recipe: Recipe) -> Iterator[tuple[Store, tuple[str, ...]]]:
    """Where the test tables lie, and what was left out of them."""
    if not wanted.data:
        yield Store(wanted.cache_dir), ()
        return
    with scratch_folder() as folder:
        store = Store(folder)
        faults = extract_tests(wanted.data, recipe, store, wanted.tables.weights)
        yield store, tuple(map(str, faults))


def extract_tests(roots: Sequence[Path], recipe: Recipe, store: Store, weights: Sequence[str]) -> list[Fault]:
    """Extract the test clips of data roots as a recipe says.

    Parameters
    ----------
    roots
        Data roots; their training clips are not looked at.
    recipe
        What a bank scores; a concatenation is extracted backbone by backbone.
    store
        Where the tables go.
    weights
        Checkpoints of the backbones that need one: ``FILE`` or ``NAME=FILE``. A published one is
        known by the recipe's hash and need not be given.

    Returns
    -------
    list of Fault
        Clips left out, each with the reason.

    Raises
    ------
    AsdError
        If there is no test clip, or this installation cannot repeat the recipe.
    """
    # Torch is loaded only where clips are to be extracted.
    from extractors.embedding.models import recipe_forwards  # noqa: PLC0415
    from extractors.engines.local import Extraction  # noqa: PLC0415

    parents = recipe.parents or (recipe,)
    listing = hearing_of(parents[0]).cut(list_clips(roots).only([], ["test"]))
    for note in listing.notes:
        _LOG.info("%s", note)
    forwards = recipe_forwards(recipe, weights)
    reports = Extraction(forwards, store).run(listing.clips)
    left_out = (fault for report in reports for fault in report.faults)
    return [*listing.faults, *{fault.path: fault for fault in left_out}.values()]


def _judging(wanted: EvaluateRequest, directories: Sequence[Path]) -> JudgeRequest:
    rule = choose_rule(wanted.year, years_told(directories))
    return JudgeRequest(Path(), "", wanted.ground_truth, rule, wanted.part, marks=wanted.marks)


def _reporting(wanted: EvaluateRequest, run: JudgeResult, results: ResultsFolder) -> ReportRequest:
    audible = PlaybackOptions(wanted.audio or wanted.data, wanted.listen)
    notes = dict(note.partition("=")[::2] for note in wanted.note)
    return ReportRequest(run, results, wanted.report, audible, wanted.figures, notes)


def _evaluated(made: Sequence[ReportResult]) -> EvaluateResult:
    silent = dict.fromkeys(text for reported in made for text in reported.silent)
    verdicts = made[0].verdicts if len(made) == 1 else ()
    return EvaluateResult(
        tuple(reported.result for reported in made), silent=tuple(silent), verdicts=verdicts
    )
