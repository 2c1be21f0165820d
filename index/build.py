"""Bank building: embedding tables to one fitted scorer a section."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.progress import Progress, Steps, unseen
from cache.facts import usual
from cache.heard import split_id
from cache.recipe import Recipe
from cache.select import choose
from cache.store import Store
from cache.table import Section
from extractors.embedding.ranges import bring
from extractors.weights.published import with_hashes
from index.bank import Bank, bank_root
from index.calibration import calibrate
from index.fitted import FittedSection
from index.groups import check_grouping, group_clips, without_copies
from index.request import BuildRequest
from index.resume import FitRequest, fitted_before
from index.threshold import fit_threshold
from index.versions import was_changed


@dataclass(frozen=True)
class BuildResult:
    """A bank that is up to date.

    Attributes
    ----------
    root
        Its folder.
    recipe
        Of the embeddings that it scores.
    sections
        Its sections of this call.
    kept
        How many of them were there already, fitted to the same clips.
    notes
        What a user may not expect, a group a reason.
    """

    root: Path
    recipe: Recipe
    sections: tuple[Section, ...]
    kept: int
    notes: tuple[tuple[str, ...], ...]


def build(request: BuildRequest, told: Progress = unseen) -> BuildResult:
    """Fit one scorer a section to the training clips; what is there already is not fitted again.

    Parameters
    ----------
    request
        Which tables, which scorer, where.
    told
        How many sections are done.

    Raises
    ------
    AsdError
        If the tables are not there or leave open which are meant, a section has no training clip
        to fit to, or the scorer refuses its options.
    """
    check_grouping(request.group)
    store = Store(request.cache_dir)
    recipe = choose(store, with_hashes(request.tables))
    bring(recipe, store.root)
    scorer = request.unfitted()
    root = request.bank or bank_root(
        request.cache_dir, recipe, request.scorer_name, scorer, with_synthetic=request.synthetic
    )
    if not request.rebuild and (changed := was_changed(root)):
        raise AsdError(
            f"{changed}, which building it again would lose: build into another folder (--bank), or "
            "--rebuild, after which `asd bank undo` brings it back"
        )
    wanted = FitRequest(
        store, recipe, request.scorer_name, scorer, request.threshold, request.asked_percentile(),
        request.synthetic, request.group, request.clips,
    )  # fmt: skip
    bank, report = Bank(root), _Report(request.synthetic)
    sections = _trained_sections(store, recipe, request.sections, report)
    others = set(bank.sections()) - set(sections) if request.bank else set()
    if not request.alone:
        _check_others(bank, others, (recipe.fingerprint, request.scorer_name))
    steps = Steps(len(sections), told)
    for section in sections:
        before = None if request.rebuild else fitted_before(bank, section, wanted)
        fitted = before or _fit(section, wanted, request)
        if request.false_alarms is not None:
            fitted.check_supported(request.false_alarms)
        if before is None:
            bank.write(fitted)
        report.add(fitted, before is not None)
        steps.update(1)
    for section in others if request.alone else ():
        bank.discard(section)
    return BuildResult(root, recipe, tuple(sections), report.kept, report.notes())


def _check_others(bank: Bank, others: Collection[Section], made_of: tuple[str, str]) -> None:
    """Refuse to build into a bank whose other sections, which would stay, are made of something else."""
    for section in sorted(others):
        try:
            found = bank.made_of(section)
        except AsdError:
            continue  # a damaged one, which whoever reads it is told
        if found != made_of:
            (fingerprint, scorer), (own, name) = found, made_of
            raise AsdError(
                f"{bank.root} holds {section} of {scorer} on embeddings {fingerprint}, which would stay "
                f"beside {name} on {own}: build into another folder (--bank), or remove that one first"
            )


def _fit(section: Section, wanted: FitRequest, request: BuildRequest) -> FittedSection:
    """Fit a section to its training clips, which are let go again."""
    # Asked before the rows are read: should they change in between, the section is fitted again.
    digest = wanted.digest(section)
    whole = wanted.taken(wanted.store.read(wanted.recipe, section, "train"))
    taken = wanted.without_synthetic(whole)
    table = without_copies(taken)
    fitted = request.unfitted()
    fitted.fit(table)
    fitted.train_scores()  # learnt now, so that no training vectors are held while folds are fitted
    groups = group_clips(table, wanted.grouping)
    known = calibrate(request.unfitted, table, groups, wanted.grouping)
    scores, of = (known.scores, known.groups) if known.scores.size else (fitted.train_scores(), None)
    threshold = fit_threshold(scores, wanted.method, wanted.percentile, of)
    return FittedSection(
        section=section,
        recipe=wanted.recipe,
        scorer_name=wanted.scorer_name,
        scorer=fitted,
        threshold=threshold,
        clips=Counter(key.domain or "unknown" for key in table.keys),
        synthetic=sum(key.synthetic for key in table.keys),
        left_out=len(whole) - len(taken),
        copies=len(taken) - len(table),
        training=digest or "",
        calibration=known,
        recordings=len({split_id(clip_id)[0] for clip_id in table.clip_ids}),
        usual=usual(key.facts for key in taken.keys),
    )


def _trained_sections(
    store: Store, recipe: Recipe, only: Collection[Section] | None, report: _Report
) -> list[Section]:
    tables = [stored for stored in store.tables(recipe) if only is None or stored.section in only]
    trained = [stored.section for stored in tables if stored.split == "train"]
    if not trained:
        raise AsdError(
            f"no training clips of {recipe} in {store.root}; put the normal recordings into "
            "<machine>/train and run the extraction again"
        )
    for section in sorted({stored.section for stored in tables} - set(trained)):
        text = f"{section} has test clips but no training clips: not in the bank"
        report.unusual["untrained"].append(text)
    return trained


@dataclass
class _Report:
    """What is said of all sections at the end: no more lines for a fleet than for a few."""

    synthetic_asked: bool
    kept: int = 0
    joined: int = 0
    left_out: int = 0
    unusual: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, fitted: FittedSection, kept: bool) -> None:
        """Take a section in."""
        self.kept += kept
        self.joined += fitted.synthetic
        self.left_out += fitted.left_out
        clips, section = fitted.clips, fitted.section
        count = sum(clips.values())
        if not clips.get("target"):
            source = clips.get("source")
            known = "source domain alone" if source else "normal clips, all of one domain"
            self.unusual["target"].append(
                f"{section} has no target clips ({count} in all): scores are distances to the {known}"
            )
        if fitted.recordings == 1 < count:
            self.unusual["windows"].append(
                f"{section} has the windows of one recording only: they resemble each other, and "
                "the threshold learnt from them is low; record more than one"
            )
        for kind, text in fitted.cautions().items():
            self.unusual[kind].append(f"{section}: {text}")

    def notes(self) -> tuple[tuple[str, ...], ...]:
        """Group what is to be said by its reason."""
        synthetic = []
        if self.left_out:
            synthetic.append(
                f"{self.left_out} synthetic training clips left out of the bank; --synthetic takes them in"
            )
        if self.joined:
            synthetic.append(
                f"{self.joined} synthetic training clips are in the bank; a recording that is left "
                "out to learn the threshold still meets those made of it, so it comes out low"
            )
        if self.synthetic_asked and not self.joined:
            synthetic.append("--synthetic changes nothing: no training clip is synthetic")
        return tuple(tuple(texts) for texts in [*self.unusual.values(), synthetic] if texts)
