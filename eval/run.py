"""Command line of the evaluation: a bank and test clips in, submission and result tables out."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from cache.errors import AsdError, guarded
from cache.recipe import Recipe
from cache.select import add_selection, choose, selection
from cache.store import Store
from cache.table import Section
from eval.report import SystemResult, format_table, write_results
from eval.scores import write_submission
from eval.scoring import score_table, truth_of, write_neighbours
from eval.sections import SectionResult, evaluate_section
from index.bank import Bank, find_bank
from index.scorer import DEFAULT, names


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m eval.run",
        description="Score test clips with a bank; with ground truth, compute the official score.",
        epilog="example: python -m eval.run --backbone logmel --scorer min-distance "
        "--ground-truth ground_truth --out results",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scorer", choices=names(), default=DEFAULT, help="(default: %(default)s)")
    parser.add_argument(
        "--bank", type=Path, metavar="DIR", help="a bank's folder (default: found by scorer)"
    )
    parser.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="ROOT",
        help="score the test clips of these data roots (default: those in the cache folder)",
    )  # fmt: skip
    parser.add_argument(
        "--ground-truth", type=Path, metavar="DIR",
        help="holds ground_truth_data, ground_truth_domain (default: labels in the file names)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="(default: ./%(default)s)"
    )
    add_selection(parser)
    return parser


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

    weights = Path(args.weights) if args.weights else None
    with TemporaryDirectory(prefix="asd-") as folder:
        store = Store(Path(folder))
        faults = extract_tests(args.data, recipe, store, weights)
        for fault in faults:
            sys.stderr.write(f"left out: {fault}\n")
        yield store, len(faults)


def _tested_sections(store: Store, bank: Bank, recipe: Recipe) -> list[Section]:
    tested = {stored.section for stored in store.tables(recipe) if stored.split == "test"}
    held = set(bank.sections())
    for section in sorted(tested - held):
        sys.stderr.write(f"note: {section} has test clips but is not in {bank.root}: not scored\n")
    for section in sorted(held - tested):
        sys.stderr.write(f"note: {section} is in the bank but has no test clips: not scored\n")
    if not tested & held:
        raise AsdError(
            f"no test clips of {recipe} for the bank {bank.root}, which holds "
            f"{', '.join(map(str, sorted(held)))}; extract them with `python -m extractors.run` or "
            "name their folder with --data"
        )
    return sorted(tested & held)


def _evaluate(store: Store, bank: Bank, recipe: Recipe, args: Namespace) -> SystemResult:
    known: dict[Section, SectionResult] = {}
    unknown: list[Section] = []
    scorer, transductive = args.scorer, False
    for section in tqdm(_tested_sections(store, bank, recipe), unit="section", disable=None):
        fitted = bank.read(section, recipe)
        table = store.read(recipe, section, "test")
        scorer, transductive = fitted.scorer_name, fitted.scorer.transductive
        scores, submission = score_table(fitted, table)
        write_submission(args.out, submission)
        write_neighbours(args.out, fitted, table, scores)
        truth = truth_of(table, submission, args.ground_truth)
        if truth is None:
            unknown.append(section)
        else:
            known[section] = evaluate_section(submission.scores, submission.decisions, truth)
    return SystemResult(
        title=f"{recipe.backbone}, {scorer}",
        sections=known,
        facts={},
        unknown=unknown,
        transductive=transductive,
    )


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
        0; 1 where clips were left out; 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(arguments)
    if args.ground_truth is not None and not args.ground_truth.is_dir():
        raise AsdError(f"--ground-truth {args.ground_truth} is not a folder")
    bank, recipe = _bank(args)
    facts = {
        "recipe": recipe.fingerprint,
        "embeddings": str(recipe),
        "bank": str(bank.root),
        "command": shlex.join(["python", "-m", "eval.run", *arguments]),
    }
    with _test_tables(args, recipe) as (store, left_out):
        result = replace(_evaluate(store, bank, recipe, args), facts=facts)
    _show(result, args.out, left_out)
    return 1 if left_out else 0


def _show(result: SystemResult, out: Path, left_out: int) -> None:
    scored = f"{len(result.sections) + len(result.unknown)} sections scored"
    if left_out:
        scored += f", {left_out} clips left out"
    if result.sections:
        print(format_table(result))
        write_results(out, result)
        print(f"\n{scored}: submission and results.{{csv,json,md}} in {out}")
    else:
        print(f"{scored} without ground truth: submission in {out}")


if __name__ == "__main__":
    sys.exit(main())
