"""The evaluation from end to end: score with a bank or take submissions, judge, rank, report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option, option_group
from cache.base.progress import Progress, unseen
from cache.files.atomic import scratch_folder
from cache.files.places import here, place
from cache.recipe import Recipe
from cache.select import Selection, cache_dir_option, choose
from cache.store import Store
from eval.experiments import shipped
from eval.judge import JudgeRequest, JudgeResult, judge, years_told
from eval.metrics.rules import RULES, choose_rule
from eval.page.build import PlaybackOptions
from eval.page.ranking_tables import write_ranking
from eval.page.verdict import MachineVerdict
from eval.ranking import Ranking, System, called, rank, read_system, run_folders
from eval.report import ReportRequest, ReportResult, report
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult
from eval.score import ScoreRequest, score
from extractors.clips.listing import list_clips
from extractors.fetching.offline import offline_option
from index.bank import Bank, find_bank
from index.scorer import DEFAULT, names

_EXTRAS = {"umap": "umap", "matplotlib": "figures"}  # module to extra of ours


@documented
@dataclass(frozen=True, kw_only=True)
class Limits(Options):
    """How an experiment's threshold is learnt, as of `index.run`; what is left out it says itself."""

    percentile: float | None = option(None, "normal clips meant to lie below it, %", metavar="P")
    false_alarms: str | None = option(None, "1/100 of the clips, or 1/week", metavar="RATE")
    clip_interval: float | None = option(None, "seconds from one clip to the next")
    group: str | None = option(None, "clips left out together: auto, day, folder ...", metavar="GROUPING")

    def changes(self) -> tuple[str, ...]:
        """Write them as changes of an experiment."""
        return tuple(f"scorer.{k}={v}" for k, v in vars(self).items() if v is not None)


@documented
@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Options):
    """What is evaluated, by what, and what is made of it.

    Beside its options: `command`, how this was called; `built`, whether the tables and the bank were
    just made of what `audio` holds, and `left_out`, what of it could not be used.
    """

    experiment: str | None = option(
        None, f"a TOML file, or one of {', '.join(shipped())}: run the chain on --data",
        flag="EXPERIMENT",
    )  # fmt: skip
    changes: tuple[str, ...] = option(
        (), "change the experiment, e.g. backbones.beats.weights=BEATs_iter3.pt", flag="--set",
        metavar="KEY=VALUE",
    )  # fmt: skip
    submission: tuple[Path, ...] = option(
        (), "folders of anomaly_score_*.csv and decision_result_*.csv; a folder of such folders is "
        "one system of several runs; several are ranked", read=here, metavar="DIR",
    )  # fmt: skip
    ground_truth: Path | None = option(
        None, "holds ground_truth_data, ground_truth_domain, ground_truth_attributes (default: "
        "labels in the file names)", read=here, metavar="DIR",
    )  # fmt: skip
    marks: Path | None = option(
        None, "the page's marks.csv as the truth: figures are of the clips that are marked, alone",
        read=here, metavar="FILE",
    )  # fmt: skip
    year: int | None = option(None, "whose rule scores (default: the files')", choices=tuple(RULES))
    part: bool = option(False, "accept submissions of a part of the ground truth")
    audio: tuple[Path, ...] = option(
        (), "data roots: only what they hold is scored, and the report plays it (default: --data)",
        read=place, metavar="ROOT",
    )  # fmt: skip
    listen: int = option(
        PlaybackOptions.most, "clips a section that the report plays at most, and as many false alarms and "
        "as many misses", least=0, metavar="N",
    )  # fmt: skip
    report: bool = option(True, "write report.html and, when scoring, the map in it")
    note: tuple[str, ...] = option((), "something to be said in results and report", metavar="NAME=TEXT")
    figures: bool = option(False, "draw figures as files, for a paper")
    out: Path = option(
        Path("results"), "a folder of its own for what this run makes; of an earlier run's results "
        "nothing stays", read=here, metavar="DIR",
    )  # fmt: skip
    scorer: str = option(DEFAULT, "{choices}: which bank, where none is named", choices=names, metavar="NAME")
    bank: Path | None = option(None, "a bank's folder (default: found by scorer)", read=place, metavar="DIR")
    data: tuple[Path, ...] = option(
        (), "score the test clips of these data roots (default: those in the cache folder)",
        read=place, metavar="ROOT",
    )  # fmt: skip
    machine: tuple[str, ...] = option((), "only these machine types (default: all)", metavar="NAME")
    map: str = option("pca", "how the report lays out embeddings", choices=("pca", "umap"))
    offline: bool = offline_option()
    cache_dir: Path = cache_dir_option()
    tables: Selection = option_group(Selection, "which tables (needed only where the cache holds several)")
    limits: Limits = option_group(Limits, "threshold of an experiment")
    command: str = ""
    built: bool = False
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        tables = self.tables
        given = {"--submission": self.submission, "--bank": None if self.built else self.bank,
                 "--backbone": tables.backbones, "--recipe": () if self.built else tables.recipes,
                 "--layer": tables.layer, "--pooling": tables.pooling, "--bands": tables.bands,
                 "--weights": tables.weights, "--weights-hash": tables.weights_hash}  # fmt: skip
        clash = [name for name, value in given.items() if value not in (None, ())]
        if self.experiment is None:
            if self.changes:
                raise AsdError(f"--set {self.changes[0]} changes an experiment, and none is named")
            if self.limits.changes():
                raise AsdError(
                    f"--set {self.limits.changes()[0]} is of an experiment, and none is named: a bank "
                    "has its threshold from `python -m index.run`"
                )
        elif clash:
            raise AsdError(f"{clash[0]} means nothing to an experiment, which says so itself: --set")
        elif not self.data:
            raise AsdError(f"experiment {self.experiment}: name the data roots with --data")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the command line changes of the experiment; how recordings are heard has options too."""
        heard = {key: getattr(self.tables, key) for key in ("channel", "length", "window", "hop")}
        told = (f"{key}={json.dumps(value)}" for key, value in heard.items() if value is not None)
        return (*self.changes, *told, *self.limits.changes())

    @property
    def layout(self) -> str | None:
        """How embeddings are laid out, if anything shows them."""
        return self.map if self.report or self.figures else None

    def judge_request(self, directories: Sequence[Path]) -> JudgeRequest:
        """By what folders are judged."""
        rule = choose_rule(self.year, years_told(directories))
        return JudgeRequest(Path(), "", self.ground_truth, rule, self.part, marks=self.marks)


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
        Clips that were scored as they were though their recordings have changed.
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
        run = judge(replace(wanted.judge_request([]), directory=results.root, part=True))
        made = [report(_reporting(wanted, run, results))]
    return replace(_evaluated(made), left_out=left_out, notes=scored.notes, outdated=scored.outdated)


def judge_all(wanted: EvaluateRequest, results: ResultsFolder) -> EvaluateResult:
    """Judge the folders named; several are ranked, and each has a folder of its own."""
    folders = [run for folder in wanted.submission for run in run_folders(folder)]
    request = wanted.judge_request(folders)
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
        return find_bank(wanted.cache_dir, recipe, wanted.scorer), recipe
    bank = Bank(wanted.bank)
    recipe = bank.recipe()
    if (tables.backbones or tables.recipes) and choose(store, tables) != recipe:
        raise AsdError(f"{wanted.bank} was built from {recipe}, not from the tables asked for")
    return bank, recipe


@contextmanager
def _test_tables(wanted: EvaluateRequest, recipe: Recipe) -> Iterator[tuple[Store, tuple[str, ...]]]:
    """Where the test tables lie, and what was left out of them."""
    if not wanted.data:
        yield Store(wanted.cache_dir), ()
        return
    # Torch is loaded only where clips are to be extracted.
    from eval.scoring.extraction import extract_tests  # noqa: PLC0415

    with scratch_folder() as folder:
        store = Store(folder)
        faults = extract_tests(wanted.data, recipe, store, wanted.tables.weights)
        yield store, tuple(map(str, faults))


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
