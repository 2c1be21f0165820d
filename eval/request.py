"""The command line of the evaluation, read into an `Evaluation` or an experiment's `Setting`."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from cache.errors import AsdError
from cache.places import here, place
from cache.select import add_selection, selection
from eval.evaluate import Evaluation
from eval.experiment_file import shipped
from eval.mapping import METHODS
from eval.page.build import Audible
from eval.rules import RULES
from extractors.offline import add_offline
from index.scorer import DEFAULT, names

_EPILOG = """examples:
  python -m eval.run --backbone logmel --ground-truth ground_truth --out results
  python -m eval.run --submission ours theirs --ground-truth ground_truth --out results
  python -m eval.run logmel --data dev_data eval_data --ground-truth ground_truth --out results"""


def parser() -> ArgumentParser:
    """Build the parser of `python -m eval.run`."""
    made = ArgumentParser(
        prog="python -m eval.run",
        description="Score test clips with a bank, take submission folders of any system, or run "
        "a whole experiment; compute the task's official figures where the truth is known.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("experiment", nargs="?", metavar="EXPERIMENT",
        help=f"a TOML file, or one of {', '.join(shipped())}: run the chain on --data")  # fmt: skip
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="change the experiment, e.g. backbones.beats.weights=BEATs_iter3.pt")  # fmt: skip
    limits = made.add_argument_group("threshold of an experiment, as of index.run")
    limits.add_argument("--percentile", type=float, metavar="P")
    limits.add_argument("--false-alarms", metavar="RATE", help="1/100 of the clips, or 1/week")
    limits.add_argument("--clip-interval", type=float, metavar="SECONDS")
    limits.add_argument(
        "--group", metavar="GROUPING", help="clips left out together: auto, day ..."
    )
    add("--submission", nargs="+", type=here, default=[], metavar="DIR",
        help="folders of anomaly_score_*.csv and decision_result_*.csv; a folder of such folders "
        "is one system of several runs; several are ranked")  # fmt: skip
    add("--ground-truth", type=here, metavar="DIR",
        help="holds ground_truth_data, ground_truth_domain, ground_truth_attributes (default: "
        "labels in the file names)")  # fmt: skip
    add("--year", type=int, choices=tuple(RULES), help="whose rule scores (default: the files')")
    add("--part", action="store_true", help="accept submissions of a part of the ground truth")
    add("--audio", nargs="+", type=place, default=[], metavar="ROOT",
        help="data roots: only what they hold is scored, and the report plays it (default: "
        "--data)")  # fmt: skip
    add("--listen", type=int, default=Audible.most, metavar="N",
        help="clips a section that the report plays at most, and as many false alarms and as many "
        "misses (default: %(default)s)")  # fmt: skip
    add("--report", action=BooleanOptionalAction, default=True,
        help="write report.html and, when scoring, the map in it (default: yes)")  # fmt: skip
    add("--note", action="append", default=[], metavar="NAME=TEXT",
        help="something to be said in results and report; may be given several times")  # fmt: skip
    add("--figures", action="store_true", help="draw figures as files, for a paper")
    add("--out", type=here, default=Path("results"), metavar="DIR",
        help="a folder of its own for what this run makes; of an earlier run's results nothing "
        "stays (default: ./%(default)s)")  # fmt: skip
    bank = made.add_argument_group("scoring with a bank")
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
    add_selection(made)
    add_offline(made)
    return made


def evaluation_of(args: Namespace, command: str) -> Evaluation:
    """Read what `parser` parsed.

    Raises
    ------
    AsdError
        If options do not go together.
    """
    given = {"--submission": args.submission, "--bank": args.bank, "--backbone": args.backbone,
             "--recipe": args.recipe, "--channel": args.channel, "--window": args.window,
             "--hop": args.hop, "--length": args.length}  # fmt: skip
    clash = [name for name, value in given.items() if value]
    if args.experiment is not None and clash:
        raise AsdError(f"{clash[0]} means nothing to an experiment, which says so itself: --set")
    if args.experiment is not None and not args.data:
        raise AsdError(f"experiment {args.experiment}: name the data roots with --data")
    if args.experiment is None and args.set:
        raise AsdError(f"--set {args.set[0]} changes an experiment, and none is named")
    for name in ("percentile", "false_alarms", "clip_interval", "group"):
        if (value := getattr(args, name)) is None:
            continue
        if args.experiment is None:
            raise AsdError(
                f"--{name.replace('_', '-')} {value} is of an experiment, and none is named: a "
                "bank has its threshold from `python -m index.run`"
            )
        args.set.append(f"scorer.{name}={value}")
    notes = tuple((name, text) for name, _, text in (note.partition("=") for note in args.note))
    return Evaluation(
        args.out, tuple(args.submission), args.ground_truth, args.year, args.part,
        tuple(args.audio), tuple(args.data), tuple(args.machine), args.scorer, args.bank,
        selection(args), tuple(args.weights), args.cache_dir, args.listen, args.report,
        args.figures, args.map, notes, command,
    )  # fmt: skip
