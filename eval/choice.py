"""Which embeddings and scorer to take, told from normal clips alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.progress import Progress, Steps, unseen
from cache.base.text import align_rows
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.metrics.official import auc
from eval.request import KINDS, ChoiceRequest
from eval.results.tables import percent
from index.calibration import folds_of
from index.groups import group_clips, originals
from index.scorer import parse_member

Floats = NDArray[np.float64]
_MOST = 64  # pseudo-outliers of a kind and fold
_DRAWS = 2000  # of the bootstrap
_ERROR = 0.05  # of calling any candidate worse that is not
_EQUAL = 0.2  # share of held-out clips of one and the same score that vetoes a candidate


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to score, and how well it tells pseudo-outliers from normal clips left out.

    Attributes
    ----------
    recipe, scorer
        The embeddings and the scorer's text.
    areas
        Kind of pseudo-outlier to pseudo-AUC, (U,) a unit: a section's fold; NaN where a unit has no
        outliers of the kind.
    veto
        Why it cannot be chosen; empty where it can.
    behind
        Whether it was shown to be behind the best.
    """

    recipe: Recipe
    scorer: str
    areas: Mapping[str, Floats] = field(default_factory=dict)
    veto: str = ""
    behind: bool = False

    @property
    def known(self) -> dict[str, Floats]:
        """Pseudo-AUC of the units that have outliers of a kind, by kind."""
        return {kind: values[~np.isnan(values)] for kind, values in self.areas.items()}

    @property
    def units(self) -> Floats:
        """Mean over the kinds of each unit, (U,)."""
        return np.asarray(np.nanmean(np.array(list(self.areas.values())), axis=0))

    @property
    def area(self) -> float:
        """Mean pseudo-AUC; every kind counts alike."""
        return float(np.mean([values.mean() for values in self.known.values()]))


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes
    ----------
    candidates
        Best first, those vetoed last.
    kinds
        Kinds of pseudo-outlier that there were.
    """

    candidates: tuple[Candidate, ...]
    kinds: tuple[str, ...]

    @property
    def level(self) -> tuple[Candidate, ...]:
        """Candidates not shown to be behind the best; one alone is the choice."""
        return tuple(one for one in self.candidates if not one.veto and not one.behind)

    @property
    def verdict(self) -> str:
        """What to take, in a sentence."""
        if not self.level:
            return "every candidate is vetoed: none can be recommended"
        if len(self.level) == 1:
            return f"choose {self.level[0].scorer} on {self.level[0].recipe}"
        return (
            f"no difference shown between the best {len(self.level)}: keep the default where it is among "
            "them, else the one that is cheapest to extract"
        )

    def table(self) -> list[str]:
        """Lay the candidates out, a line each below a header."""
        rows = [["embeddings", "scorer", *self.kinds, "pseudo-AUC, %", ""]]
        for one in self.candidates:
            cells = ["-"] * (len(self.kinds) + 1) + [f"vetoed: {one.veto}"]
            if not one.veto:
                each = [percent(float(values.mean())) for values in one.known.values()]
                cells = [*each, percent(one.area), "behind" if one.behind else ""]
            rows.append([str(one.recipe), one.scorer, *cells])
        return align_rows(rows, 2)


def choose(request: ChoiceRequest, told: Progress = unseen) -> Choice:
    """Rank embeddings and scorers by how they tell pseudo-outliers from normal clips left out.

    Groups of training clips are left out in folds; each candidate is fitted to the others, and its
    pseudo-AUC is that of the clips left out against outliers made without any abnormal recording:
    embeddings whose every value is that of another training clip (``resampled``), training clips of
    other machines (``machine``), the target's clips for a scorer that never heard the target
    (``domain``), and clips of attribute values that it never heard (``attribute``). Their union
    gives every kind the same weight.

    A candidate is behind the best where the interval of their difference over the folds (bootstrap,
    2000 draws, 5 % for all comparisons together by Bonferroni) leaves out zero. Scores that are not
    finite, hardly vary, or no better than chance veto a candidate, and so does a scorer that is
    transductive.

    It is a weak hint: see ``benchmarks/choose.md`` for its rank correlation with the truth.

    Raises
    ------
    AsdError
        If there are no tables, or they hold different training clips, or no pseudo-outlier can be
        made.
    """
    store = Store(request.cache_dir)
    recipes = _recipes(store, request.recipe)
    for text in request.scorer:
        parse_member(text)
    trials = {recipe: _Trial(store, recipe, request) for recipe in recipes}
    for recipe in recipes[1:]:
        trials[recipe].check_same(trials[recipes[0]])
    folds = trials[recipes[0]].folds()
    pairs = list(product(recipes, request.scorer))
    steps = Steps(len(pairs), told)
    found = []
    for recipe, text in pairs:
        found.append(_tried(trials[recipe], text, folds))
        steps.update(1)
    usable = sorted((one for one in found if not one.veto), key=lambda one: -one.area)
    vetoed = [one for one in found if one.veto]
    compared = _compared(usable, request.seed)
    kinds = tuple(kind for kind in KINDS if usable and kind in usable[0].areas)
    return Choice((*compared, *vetoed), kinds)


def _recipes(store: Store, wanted: Sequence[str]) -> list[Recipe]:
    known = [recipe for recipe in store.recipes() if not recipe.parents or wanted]
    chosen = [r for r in known if not wanted or r.fingerprint.startswith(tuple(wanted))]
    if missing := [w for w in wanted if not any(r.fingerprint.startswith(w) for r in known)]:
        raise AsdError(f"--recipe {missing[0]}: no such table in {store.root}")
    if not chosen:
        raise AsdError(f"no embedding tables in {store.root}: run `python -m extractors.run` first")
    return chosen


class _Trial:
    """The training clips of one recipe: what is left out, and the outliers of a fold."""

    def __init__(self, store: Store, recipe: Recipe, request: ChoiceRequest) -> None:
        self.recipe, self.request = recipe, request
        self.tables: dict[Section, EmbeddingTable] = {}
        sections = {t.section for t in store.tables(recipe) if t.split == "train"}
        for section in sorted(sections):
            self.tables[section] = store.read(recipe, section, "train")
        self.tested = [s for s in self.tables if not request.machine or s.machine_type in request.machine]
        if not self.tested:
            raise AsdError(f"no training clips of {recipe} in {store.root} for these machines")

    def folds(self) -> dict[Section, tuple[tuple[str, ...], NDArray[np.intp]]]:
        """Clip ids of each section, without copies, and the fold of each."""
        found = {}
        for section in self.tested:
            table = self.tables[section]
            table = table.select(np.unique(originals(table)).tolist())
            groups = group_clips(table, self.request.group).numbers
            if len(np.unique(groups)) < 2:
                groups = np.arange(len(table))
            target = np.array([key.domain == "target" for key in table.keys])
            if len(table) > 2:
                found[section] = (tuple(table.clip_ids), folds_of(groups, target))
        if not found:
            raise AsdError("no section has three training clips to leave some out of")
        return found

    def rows(self, section: Section, clip_ids: Sequence[str]) -> EmbeddingTable:
        """Return the clips named, in that order."""
        places = {clip_id: row for row, clip_id in enumerate(self.tables[section].clip_ids)}
        return self.tables[section].select([places[clip_id] for clip_id in clip_ids])

    def check_same(self, other: _Trial) -> None:
        """Refuse a recipe of other training clips."""
        for section in sorted({*self.tables, *other.tables}):
            own, theirs = (
                set(trial.tables[section].clip_ids) if section in trial.tables else set()
                for trial in (self, other)
            )
            if own != theirs:
                raise AsdError(
                    f"{section}: {self.recipe} has {len(own)} training clips, {other.recipe} has "
                    f"{len(theirs)}, {len(own ^ theirs)} of them in one only; extract all tables "
                    "from the same data, or name those to compare with --recipe"
                )

    def cases(
        self, table: EmbeddingTable, held: NDArray[np.bool_], fold: int
    ) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.float32]]]:
        """Kind, rows to fit to, and outliers (n, D) of one fold."""
        rng = np.random.default_rng([self.request.seed, table.section.number, fold])
        target = np.array([key.domain == "target" for key in table.keys])
        values = table.embeddings
        picks = rng.integers(len(values), size=(min(_MOST, len(values)), values.shape[1]))
        yield "resampled", ~held, np.take_along_axis(values, picks, axis=0)
        others = [t.embeddings for s, t in self.tables.items() if s != table.section]
        if others:
            every = np.concatenate(others)
            yield "machine", ~held, every[rng.permutation(len(every))[:_MOST]]
        if target.any() and (~target & ~held).sum() > 1 and (held & ~target).any():
            yield "domain", ~held & ~target, values[target][:_MOST]
        conditions = [repr(sorted((key.attributes or {}).items())) for key in table.keys]
        usual = sorted({c for c, far in zip(conditions, target, strict=True) if not far})
        if len(usual) > 1:
            odd = np.array([c == usual[fold % len(usual)] for c in conditions])
            if (~held & ~odd).sum() > 1 and (held & ~odd).any():
                yield "attribute", ~held & ~odd, values[odd][:_MOST]


def _tried(
    trial: _Trial, text: str, folds: Mapping[Section, tuple[tuple[str, ...], NDArray[np.intp]]]
) -> Candidate:
    """Fit and score one candidate in all folds."""
    if parse_member(text).transductive:
        return Candidate(trial.recipe, text, veto="transductive: scores depend on each other")
    areas: dict[str, list[float]] = {}
    units = 0
    for section, (clip_ids, numbers) in folds.items():
        table = trial.rows(section, clip_ids)
        for fold in np.unique(numbers).tolist():
            for kind, fitted, outliers in trial.cases(table, numbers == fold, fold):
                if trial.request.outliers not in ("diverse", kind):
                    continue
                normal = (numbers == fold) & _as_heard(table, kind, fitted)
                if not normal.any():
                    continue
                scorer = parse_member(text)
                scorer.fit(table.select(np.flatnonzero(fitted)))
                low, high = scorer.score(table.embeddings[normal]), scorer.score(outliers)
                if veto := _degenerate(np.concatenate([low, high]), low):
                    return Candidate(trial.recipe, text, veto=veto)
                own = areas.setdefault(kind, [])
                own += [np.nan] * (units - len(own)) + [auc(low, high)]
            units += 1
    if not areas:
        raise AsdError(
            f"--outliers {trial.request.outliers}: there are none; other kinds are "
            f"{', '.join(kind for kind in KINDS if kind != trial.request.outliers)}"
        )
    full = {kind: np.array(v + [np.nan] * (units - len(v))) for kind, v in areas.items()}
    made = Candidate(trial.recipe, text, full)
    if made.area <= 0.5:
        return Candidate(trial.recipe, text, full, veto=f"pseudo-AUC {made.area:.2f}: chance")
    return made


def _as_heard(table: EmbeddingTable, kind: str, fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows that are normal to a scorer fitted to some: of a domain and attributes it has heard."""
    if kind not in ("domain", "attribute"):
        return np.ones(len(table), dtype=bool)

    def trait(row: int) -> str:
        key = table.keys[row]
        return str(key.domain) if kind == "domain" else repr(sorted((key.attributes or {}).items()))

    heard = {trait(int(row)) for row in np.flatnonzero(fitted)}
    return np.array([trait(row) in heard for row in range(len(table))])


def _degenerate(scores: Floats, normal: Floats) -> str:
    if not np.isfinite(scores).all():
        return "scores that are not finite"
    if np.ptp(scores) <= 1e-9 * np.abs(scores).max(initial=0.0):
        return "scores that do not vary"
    most = int(np.unique(normal, return_counts=True)[1].max()) if len(normal) else 0
    if len(normal) >= 5 and most > max(1.0, _EQUAL * len(normal)):
        return f"{most} of {len(normal)} normal clips of one and the same score"
    return ""


def _compared(usable: Sequence[Candidate], seed: int) -> list[Candidate]:
    """Say of each candidate, best first, whether it is shown to be behind the first."""
    if not usable:
        return []
    best, rng = usable[0].units, np.random.default_rng(seed)
    draws = rng.integers(len(best), size=(_DRAWS, len(best)))
    compared = [usable[0]]
    for one in usable[1:]:
        difference = np.nanmean((one.units - best)[draws], axis=1)
        upper = float(np.quantile(difference, 1 - _ERROR / (len(usable) - 1)))
        behind = len(best) > 1 and upper < 0
        compared.append(Candidate(one.recipe, one.scorer, one.areas, behind=behind))
    return compared
