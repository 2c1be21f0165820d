"""The evaluation from end to end: score with a bank or take submissions, judge, rank, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from cache.atomic import scratch_folder
from cache.console import Progress, unseen
from cache.errors import AsdError
from cache.recipe import Recipe
from cache.select import DEFAULT_CACHE_DIR, Selection, choose
from cache.store import Store
from eval.judge import Judging, Run, judge, years_told
from eval.page.build import Audible
from eval.ranking import Ranking, System, called, rank, read_system, run_folders
from eval.ranking_tables import write_ranking
from eval.report import Reported, Reporting, report
from eval.results.folder import Results
from eval.rules import choose_rule
from eval.score import Scoring, score
from eval.tables import SystemResult
from extractors.clips import list_clips
from index.bank import Bank, find_bank
from index.scorer import DEFAULT

_EXTRAS = {"umap": "umap", "matplotlib": "figures"}  # module to extra of ours


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, by what, and what is made of it.

    Attributes
    ----------
    out
        Where results go.
    submission
        Folders of submission files; none, and a bank scores.
    ground_truth
        Folder in the evaluator's form, where there is one.
    year
        Whose rule scores; ``None`` leaves it to the files.
    part
        Whether submissions of a part of the ground truth are accepted.
    audio
        Data roots whose recordings the report plays, and what they hold is what is scored.
    data
        Data roots whose test clips are extracted and scored; none, and those in the cache are.
    machine
        Machine types to score; empty for all.
    scorer, bank
        Which bank: its folder, or found by its scorer.
    tables
        Which tables, where the cache holds several.
    cache_dir
        Where tables and banks lie.
    listen
        Clips a section that the report plays at most.
    report, figures
        Whether to write the page, and to draw figures as files.
    map
        How the page lays out embeddings.
    notes
        What else results and page say, name to text.
    command
        How this was called.
    built
        Whether the bank was just built of what `audio` holds.
    """

    out: Path
    submission: tuple[Path, ...] = ()
    ground_truth: Path | None = None
    year: int | None = None
    part: bool = False
    audio: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    machine: tuple[str, ...] = ()
    scorer: str = DEFAULT
    bank: Path | None = None
    tables: Selection = field(default_factory=Selection)
    weights: tuple[str, ...] = ()
    cache_dir: Path = DEFAULT_CACHE_DIR
    listen: int = Audible.most
    report: bool = True
    figures: bool = False
    map: str = "pca"
    notes: tuple[tuple[str, str], ...] = ()
    command: str = ""
    built: bool = False

    @property
    def layout(self) -> str | None:
        """How embeddings are laid out, if anything shows them."""
        return self.map if self.report or self.figures else None

    def judging(self, directories: Sequence[Path]) -> Judging:
        """By what folders are judged."""
        rule = choose_rule(self.year, years_told(directories))
        return Judging(Path(), "", self.ground_truth, rule, self.part)


@dataclass(frozen=True)
class Evaluated:
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
    incomplete
        Whether a stage before left something out, and said so.
    """

    results: tuple[SystemResult, ...] = ()
    ranking: Ranking | None = None
    refused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    incomplete: bool = False


def evaluate(wanted: Evaluation, told: Progress = unseen) -> Evaluated:
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
        return judge_all(wanted, Results(wanted.out))
    return score_all(wanted, Results(wanted.out), told)


def check(wanted: Evaluation) -> None:
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
    for option, (module, asked) in needed.items():
        if asked and find_spec(module) is None:
            raise AsdError(
                f"{option} needs {module}, which is not installed: pip install "
                f"'machine-asd[{_EXTRAS[module]}]'"
            )


def score_all(wanted: Evaluation, results: Results, told: Progress = unseen) -> Evaluated:
    """Score with a bank into a results folder, then judge and report what lies there."""
    bank, recipe = _bank(wanted)
    clips = list_clips(wanted.audio).clips if wanted.audio and not wanted.data else None
    with results.run(), _test_tables(wanted, recipe) as (store, left_out):
        cache = Store(wanted.cache_dir)
        scoring = Scoring(
            results, bank, recipe, store, cache, wanted.layout, wanted.machine, clips,
            wanted.command, wanted.built,
        )  # fmt: skip
        scored = score(scoring, told)
        run = judge(replace(wanted.judging([]), directory=results.root, part=True))
        made = [report(_reporting(wanted, run, results))]
    return replace(_evaluated(made), left_out=left_out, notes=scored.notes)


def judge_all(wanted: Evaluation, results: Results) -> Evaluated:
    """Judge the folders named; several are ranked, and each has a folder of its own."""
    folders = [run for folder in wanted.submission for run in run_folders(folder)]
    judging = wanted.judging(folders)
    systems: list[System] = []
    refused = []
    for folder, name in zip(wanted.submission, called(wanted.submission), strict=True):
        try:
            systems.append(read_system(folder, replace(judging, name=name)))
        except AsdError as error:
            refused.append(str(error))
    runs = [run for system in systems for run in system.runs]
    if not runs:
        return Evaluated(refused=tuple(refused))
    with results.run():
        if len(runs) == 1 and not refused:
            return _evaluated([report(_reporting(wanted, runs[0], results))])
        made = []
        for run in runs:
            part = Results(results.root / run.name)
            made.append(report(_reporting(wanted, run, part)))
            if part.root.resolve() != run.directory.resolve():  # else it is another run's
                results.include(part)
        ranking = rank(systems, judging.plan)
        write_ranking(results, ranking)
    return replace(_evaluated(made), ranking=ranking, refused=tuple(refused))


def _bank(wanted: Evaluation) -> tuple[Bank, Recipe]:
    store, tables = Store(wanted.cache_dir), wanted.tables
    if wanted.bank is None:
        recipe = choose(store, tables)
        return find_bank(wanted.cache_dir, recipe, wanted.scorer), recipe
    bank = Bank(wanted.bank)
    recipe = bank.recipe()
    if (tables.backbones or tables.recipes) and choose(store, tables) != recipe:
        raise AsdError(f"{wanted.bank} was built from {recipe}, not from the tables asked for")
    return bank, recipe


@contextmanager
def _test_tables(wanted: Evaluation, recipe: Recipe) -> Iterator[tuple[Store, tuple[str, ...]]]:
    """Where the test tables lie, and what was left out of them."""
    if not wanted.data:
        yield Store(wanted.cache_dir), ()
        return
    # Torch is loaded only where clips are to be extracted.
    from eval.extraction import extract_tests  # noqa: PLC0415

    with scratch_folder() as folder:
        store = Store(folder)
        faults = extract_tests(wanted.data, recipe, store, wanted.weights)
        yield store, tuple(map(str, faults))


def _reporting(wanted: Evaluation, run: Run, results: Results) -> Reporting:
    audible = Audible(wanted.audio or wanted.data, wanted.listen)
    return Reporting(run, results, wanted.report, audible, wanted.figures, dict(wanted.notes))


def _evaluated(made: Sequence[Reported]) -> Evaluated:
    silent = dict.fromkeys(text for reported in made for text in reported.silent)
    return Evaluated(tuple(reported.result for reported in made), silent=tuple(silent))
