"""Command line of the index: embedding tables in, a bank of fitted sections out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from cache.errors import AsdError, guarded, tell_some
from cache.options import option_names
from cache.places import place
from cache.recipe import Recipe
from cache.select import add_selection, choose, selection
from cache.store import Store
from cache.table import EmbeddingTable, Section
from cache.windows import split_id
from index.bank import Bank, bank_root
from index.fitted import FittedSection
from index.groups import without_copies
from index.held_out import held_out_scores
from index.options import add_options, from_arguments
from index.resume import Wanted, fitted_before
from index.scorer import DEFAULT, Scorer, find, names
from index.threshold import METHODS, fit_threshold


def _parser(argv: Sequence[str]) -> ArgumentParser:
    chooser = ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--scorer", choices=names(), default=DEFAULT)
    scorer = chooser.parse_known_args(argv)[0].scorer
    parser = ArgumentParser(
        prog="python -m index.run",
        description="Fit one scorer a section to the training clips and save them as a bank.",
        epilog="example: python -m index.run --backbone logmel --scorer min-distance",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--scorer", choices=names(), default=DEFAULT, help="(default: %(default)s)")
    parser.add_argument(
        "--threshold", choices=tuple(METHODS), default="gamma",
        help="how it is learnt from left-out training clips (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--percentile", type=float, default=90.0, metavar="P",
        help="normal clips meant to lie below the threshold, %% (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--bank", type=place, metavar="DIR", help="where to put it (default: in the cache folder)"
    )
    parser.add_argument(
        "--synthetic", action="store_true",
        help="let synthetic training clips into the bank (default: recordings alone)"
    )  # fmt: skip
    parser.add_argument(
        "--rebuild", action="store_true",
        help="fit every section anew (default: not those that are there, of the same clips)"
    )  # fmt: skip
    add_selection(parser)
    group = parser.add_argument_group(f"options of {scorer}")
    add_options(group, find(scorer))
    return parser


def _refuse(unknown: Sequence[str], scorer: str) -> None:
    """Say whose option it is that this scorer does not have."""
    if not unknown:
        return
    name = unknown[0].partition("=")[0]
    option = name.removeprefix("--").removeprefix("no-").replace("-", "_")
    owners = [other for other in names() if option in option_names(find(other))]
    reason = f"is an option of {', '.join(owners)}" if owners else "is unknown"
    own = ", ".join(option_names(find(scorer)))
    raise AsdError(f"{name} means nothing to {scorer}: it {reason}; {scorer} has {own}")


def _fit(section: Section, wanted: Wanted, args: Namespace) -> FittedSection:
    """Fit a section to its training clips, which are let go again."""

    def scorer() -> Scorer:
        return from_arguments(find(args.scorer), args)

    # Asked before the rows are read: should they change in between, the section is fitted again.
    digest = wanted.store.digest(wanted.recipe, section, "train")
    whole = wanted.store.read(wanted.recipe, section, "train")
    taken = whole if args.synthetic else _recordings(whole)
    table = without_copies(taken)
    fitted = scorer()
    fitted.fit(table)
    clips = Counter(key.domain or "unknown" for key in table.keys)
    made = sum(key.synthetic for key in table.keys)
    held_out = held_out_scores(scorer, table)
    scores = held_out if held_out.size else fitted.train_scores()
    threshold = fit_threshold(scores, args.threshold, args.percentile)
    return FittedSection(
        *(section, wanted.recipe, args.scorer, fitted, threshold, clips, made, held_out),
        left_out=len(whole) - len(taken),
        copies=len(taken) - len(table),
        training=digest or "",
        recordings=len({split_id(clip_id)[0] for clip_id in table.clip_ids}),
    )


def _recordings(table: EmbeddingTable) -> EmbeddingTable:
    """Return the table without its synthetic clips."""
    rows = [row for row, key in enumerate(table.keys) if not key.synthetic]
    if not rows:
        raise AsdError(
            f"{table.section} has only synthetic training clips; --synthetic fits to them"
        )
    return table if len(rows) == len(table) else table.select(rows)


def _say_synthetic(joined: int, left_out: int, asked: bool) -> None:
    if left_out:
        sys.stderr.write(
            f"note: {left_out} synthetic training clips left out of the bank; --synthetic takes "
            "them in\n"
        )
    if joined:
        sys.stderr.write(
            f"note: {joined} synthetic training clips are in the bank; a recording that is left "
            "out to learn the threshold still meets those made of it, so it comes out low\n"
        )
    if asked and not joined:
        sys.stderr.write("note: --synthetic changes nothing: no training clip is synthetic\n")


def _trained_sections(store: Store, recipe: Recipe) -> list[Section]:
    tables = store.tables(recipe)
    trained = [stored.section for stored in tables if stored.split == "train"]
    if not trained:
        raise AsdError(
            f"no training clips of {recipe} in {store.root}; put the normal recordings into "
            "<machine>/train and run the extraction again"
        )
    untrained = sorted({stored.section for stored in tables} - set(trained))
    tell_some(
        "note", [f"{s} has test clips but no training clips: not in the bank" for s in untrained]
    )
    return trained


def _unusual(fitted: FittedSection) -> dict[str, str]:
    """Say what a user may not expect of a section: kind to words."""
    clips, section = fitted.clips, fitted.section
    count = sum(clips.values())
    known = "source domain alone" if clips.get("source") else "normal clips, all of one domain"
    words = {
        "target": f"{section} has no target clips ({count} in all): scores are distances to the "
        f"{known}",
        "windows": f"{section} has the windows of one recording only: they resemble each other, "
        "and the threshold learnt from them is low; record more than one",
    }
    true = {
        "target": not clips.get("target"),
        "windows": fitted.recordings == 1 < count,
    }
    told = {kind: f"{section}: {text}" for kind, text in fitted.cautions().items()}
    return {kind: text for kind, text in words.items() if true[kind]} | told


@dataclass
class _Report:
    """What is said of all sections at the end: no more lines for a fleet than for a few."""

    kept: int = 0
    joined: int = 0
    left_out: int = 0
    unusual: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, fitted: FittedSection, kept: bool) -> None:
        """Take a section in."""
        self.kept += kept
        self.joined += fitted.synthetic
        self.left_out += fitted.left_out
        for kind, text in _unusual(fitted).items():
            self.unusual[kind].append(text)

    def say(self, synthetic_asked: bool) -> None:
        """Write the notes."""
        for texts in self.unusual.values():
            tell_some("note", texts)
        _say_synthetic(self.joined, self.left_out, synthetic_asked)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Build a bank.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else argv
    args, unknown = _parser(arguments).parse_known_args(arguments)
    _refuse(unknown, args.scorer)
    store = Store(args.cache_dir)
    recipe = choose(store, selection(args))
    unfitted = from_arguments(find(args.scorer), args)
    root = bank_root(args.cache_dir, recipe, args.scorer, unfitted, with_synthetic=args.synthetic)
    bank, report = Bank(args.bank or root), _Report()
    chosen = (args.scorer, unfitted, args.threshold, args.percentile, args.synthetic)
    wanted = Wanted(store, recipe, *chosen)
    sections = _trained_sections(store, recipe)
    for section in tqdm(sections, unit="section", disable=None):
        before = None if args.rebuild else fitted_before(bank, section, wanted)
        fitted = before or _fit(section, wanted, args)
        if before is None:
            bank.write(fitted)
        report.add(fitted, before is not None)
    report.say(args.synthetic)
    print(f"{len(sections)} sections fitted with {args.scorer} -> {bank.root} ({recipe})")
    if report.kept:
        print(f"{report.kept} of them were there already, of the same clips (--rebuild fits anew)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
