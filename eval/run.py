"""Command line of the evaluation: scores in, or a bank and test clips; result tables out."""

from __future__ import annotations

import sys
from argparse import (
    ArgumentParser,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cache.atomic import scratch_folder
from cache.errors import AsdError, guarded
from cache.places import here, place
from cache.recipe import Recipe
from cache.select import add_selection, choose, selection
from cache.store import Store
from cache.table import Section
from cache.text import command_line
from eval.bank_scores import Tested, score_sections
from eval.evaluate import Wishes, evaluate_run, read_systems
from eval.experiment import Setting, run_experiment
from eval.experiment_file import parse, read_text, shipped
from eval.judge import Judging, read_run, years_told
from eval.mapping import METHODS
from eval.page.build import Audible
from eval.ranking import rank, run_folders
from eval.ranking_tables import format_ranking, write_ranking
from eval.rules import RULES, choose_rule
from eval.scores import Submission
from eval.streaming import StreamedRun
from eval.tables import SystemResult, format_table
from eval.truth import Truth
from extractors.offline import add_offline, apply_offline
from index.bank import Bank, find_bank
from index.scorer import DEFAULT, names

_EPILOG = """examples:
  python -m eval.run --backbone logmel --ground-truth ground_truth --out results
  python -m eval.run --submission ours theirs --ground-truth ground_truth --out results
  python -m eval.run logmel --data dev_data eval_data --ground-truth ground_truth --out results"""


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m eval.run",
        description="Score test clips with a bank, take submission folders of any system, or run "
        "a whole experiment; compute the task's official figures where the truth is known.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("experiment", nargs="?", metavar="EXPERIMENT",
        help=f"a TOML file, or one of {', '.join(shipped())}: run the chain on --data")  # fmt: skip
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change the experiment, e.g. backbones.beats.weights=BEATs_iter3.pt")  # fmt: skip
    add("--submission", nargs="+", type=here, default=[], metavar="DIR",
        help="folders of anomaly_score_*.csv and decision_result_*.csv; a folder of such folders "
        "is one system of several runs; several are ranked")  # fmt: skip
    add("--ground-truth", type=here, metavar="DIR",
        help="holds ground_truth_data, ground_truth_domain, ground_truth_attributes (default: "
        "labels in the file names)")  # fmt: skip
    add("--year", type=int, choices=tuple(RULES), help="whose rule scores (default: the files')")
    add("--part", action="store_true", help="accept submissions of a part of the ground truth")
    add("--audio", nargs="+", type=place, default=[], metavar="ROOT",
        help="data roots whose recordings the report plays (default: --data)")  # fmt: skip
    add("--listen", type=int, default=Audible.most, metavar="N",
        help="clips a section that the report plays at most, and as many false alarms and as many "
        "misses (default: %(default)s)")  # fmt: skip
    add("--report", action=BooleanOptionalAction, default=True,
        help="write report.html and, when scoring, the map in it (default: yes)")  # fmt: skip
    add("--note", action="append", default=[], metavar="NAME=TEXT",
        help="something to be said in results and report; may be given several times")  # fmt: skip
    add("--figures", action="store_true", help="draw figures as files, for a paper")
    add("--out", type=here, default=Path("results"), metavar="DIR", help="(default: ./%(default)s)")
    _add_bank(parser)
    add_selection(parser)
    add_offline(parser)
    return parser


def _add_bank(parser: ArgumentParser) -> None:
    bank = parser.add_argument_group("scoring with a bank")
    bank.add_argument("--scorer", choices=names(), default=DEFAULT, help="(default: %(default)s)")
    bank.add_argument("--bank", type=place, metavar="DIR",
                      help="a bank's folder (default: found by scorer)")  # fmt: skip
    bank.add_argument("--data", nargs="+", type=place, default=[], metavar="ROOT",
                      help="score the test clips of these data roots (default: those in the cache "
                      "folder)")  # fmt: skip
    bank.add_argument("--machine", nargs="+", default=[], metavar="NAME",
                      help="only these machine types (default: all)")  # fmt: skip
    bank.add_argument("--map", choices=tuple(METHODS), default="pca",
                      help="how the report lays out embeddings (default: %(default)s)")  # fmt: skip


def _check_installed(args: Namespace) -> None:
    """Refuse what would fail after the work is done."""
    wanted = {"--map umap": ("umap", args.map == "umap"), "--figures": ("matplotlib", args.figures)}
    extras = {"umap": "umap", "matplotlib": "figures"}
    for option, (module, asked) in wanted.items():
        if asked and find_spec(module) is None:
            raise AsdError(
                f"{option} needs {module}, which is not installed: pip install "
                f"'machine-asd[{extras[module]}]'"
            )


def _wishes(args: Namespace) -> Wishes:
    audible = Audible(tuple(args.audio or args.data), args.listen)
    notes = dict(note.partition("=")[::2] for note in args.note)
    return Wishes(args.out, args.report, audible, args.figures, notes)


def _bank(args: Namespace) -> tuple[Bank, Recipe]:
    store, wanted = Store(args.cache_dir), selection(args)
    if args.bank is None:
        recipe = choose(store, wanted)
        return find_bank(args.cache_dir, recipe, args.scorer), recipe
    bank = Bank(args.bank)
    recipe = bank.recipe()
    if (wanted.backbones or wanted.recipes) and choose(store, wanted) != recipe:
        raise AsdError(f"{args.bank} was built from {recipe}, not from the tables asked for")
    return bank, recipe


@contextmanager
def _test_tables(args: Namespace, recipe: Recipe) -> Iterator[tuple[Store, int]]:
    """Where the test tables lie, and how many clips were left out of them."""
    if not args.data:
        yield Store(args.cache_dir), 0
        return
    # Torch is loaded only where clips are to be extracted.
    from eval.extraction import extract_tests  # noqa: PLC0415

    with scratch_folder() as folder:
        store = Store(folder)
        faults = extract_tests(args.data, recipe, store, args.weights)
        for fault in faults:
            sys.stderr.write(f"left out: {fault}\n")
        yield store, len(faults)


def _judging(args: Namespace, folders: Sequence[Path], **known: object) -> Judging:
    rule = choose_rule(args.year, years_told(folders))
    return Judging(args.ground_truth, rule, args.part, **known)  # type: ignore[arg-type]


def _score(args: Namespace, command: str) -> int:
    """Score with a bank, then evaluate the folder just written."""
    bank, recipe = _bank(args)
    layout = args.map if args.report or args.figures else None
    with _test_tables(args, recipe) as (store, left_out):
        tested = Tested(store, bank, recipe, layout, tuple(args.machine))
        if layout is not None:
            result = _score_and_keep(tested, args, command)
        else:
            streamed = StreamedRun(_judging(args, []), _wishes(args))
            score_sections(tested, tested.sections(), args.out, command, streamed.take)
            result = streamed.finish(args.out, args.out.name)
    _show(result, args, left_out)
    return 1 if left_out else 0


def _score_and_keep(tested: Tested, args: Namespace, command: str) -> SystemResult:
    """Score with all clips of all sections in memory in the end, as a page and figures need."""
    labels: dict[Section, Mapping[str, Truth] | None] = {}

    def keep(submission: Submission, told: Mapping[str, Truth] | None) -> None:
        labels[submission.section] = told

    sections = tested.sections()
    score_sections(tested, sections, args.out, command, keep)
    run = read_run(args.out, args.out.name, _judging(args, [], labels=labels), only=sections)
    return evaluate_run(run, args.out, _wishes(args))


def _run(args: Namespace, command: str) -> int:
    """Run an experiment, whose last stage is this command line again."""
    given = {"--submission": args.submission, "--bank": args.bank, "--backbone": args.backbone,
             "--recipe": args.recipe, "--channel": args.channel, "--window": args.window,
             "--hop": args.hop}  # fmt: skip
    clash = [name for name, value in given.items() if value]
    if clash:
        raise AsdError(f"{clash[0]} means nothing to an experiment, which says so itself: --set")
    if not args.data:
        raise AsdError(f"experiment {args.experiment}: name the data roots with --data")
    text = read_text(args.experiment)
    experiment = parse(text, args.experiment, args.set)
    options = ["--listen", str(args.listen), "--map", args.map]
    options += ["--figures"] if args.figures else []
    options += [] if args.report else ["--no-report"]
    options += ["--year", str(args.year)] if args.year else []
    setting = Setting(args.data, args.ground_truth, args.cache_dir, args.out, options, command)
    return run_experiment(experiment, text, setting, main)


def _judge(args: Namespace) -> int:
    """Evaluate the folders named, and rank them where there are several."""
    for folder in args.submission:
        if not folder.is_dir():
            raise AsdError(f"--submission {folder} is not a folder")
    folders = [run for folder in args.submission for run in run_folders(folder)]
    systems, refused = read_systems(args.submission, _judging(args, folders))
    for fault in refused:
        sys.stderr.write(f"refused: {fault}\n")
    if not systems:
        return 2
    runs = [run for system in systems for run in system.runs]
    wishes = _wishes(args)
    if len(runs) == 1 and not refused:
        _show(evaluate_run(runs[0], args.out, wishes), args, 0)
        return 0
    for run in runs:
        evaluate_run(run, args.out / run.name, wishes)
    ranking = rank(systems, wishes.plan)
    print(format_ranking(ranking))
    write_ranking(args.out, ranking)
    counts = f"{len(systems)} systems, {len(runs)} runs evaluated, {len(refused)} systems refused"
    print(f"\n{counts}: ranking.{{csv,json,md}} and a folder a run in {args.out}")
    return 1 if refused else 0


def _show(result: SystemResult, args: Namespace, left_out: int) -> None:
    scored = f"{len(result.sections) + len(result.unknown)} sections scored"
    if left_out:
        scored += f", {left_out} clips left out"
    made = ["report.html"] if args.report else []
    if result.sections:
        print(format_table(result) + "\n")
        made.append("results.{csv,json,md}")
    else:
        scored += " without ground truth"
    print(f"{scored}: {', '.join([*made, 'submission'])} in {args.out}")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Score test clips and evaluate the scores where their truth is known.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out or submissions refused; 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    apply_offline(args)
    if args.ground_truth is not None and not args.ground_truth.is_dir():
        raise AsdError(f"--ground-truth {args.ground_truth} is not a folder")
    _check_installed(args)
    command = command_line("python -m eval.run", arguments)
    if args.experiment is not None:
        return _run(args, command)
    if args.set:
        raise AsdError(f"--set {args.set[0]} changes an experiment, and none is named")
    return _judge(args) if args.submission else _score(args, command)


if __name__ == "__main__":
    sys.exit(main())
