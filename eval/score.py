"""The scoring stage: a bank and test tables in, a results folder with scores and reasons out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cache.base.errors import AsdError, listing, reasons
from cache.base.progress import Progress, unseen
from cache.facts import Remark, differences, remarks_of
from cache.facts import told as said_of
from cache.heard import Signal, split_id
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.clips import write_clips
from eval.results.description import SystemDescription, promise_of, write_description
from eval.results.folder import ResultsFolder
from eval.results.names import all_synthetic
from eval.results.submission import write_submission
from eval.scoring.maps import write_map
from eval.scoring.sections import SectionScores, score_table, surplus, write_reasons, write_windows
from extractors.audio.files import content_sha256
from extractors.clips.listing import Clip
from index.bank import Bank
from index.fitted import FittedSection

_READERS = 4  # threads that hash recordings: half wait for the disk


@dataclass(frozen=True)
class ScoreRequest:
    """What is scored, with what, and where the scores go.

    Attributes
    ----------
    results
        The folder.
    bank
        The fitted sections.
    recipe
        Of the tables, and of the bank.
    store
        Where the test tables lie.
    training
        Where the training tables lie, which scoring does not need; ``None`` where `store` is it.
    layout
        How embeddings are laid out on a map, see `eval.scoring.maps.METHODS`; ``None`` for no map.
    machines
        Machine types to score; empty for all.
    clips
        Recordings of the data roots at hand: only what they hold is scored, whatever else the
        tables hold. ``None`` where no data is at hand.
    command
        How to do it again.
    built
        Whether the tables and the bank were just made of what `clips` holds.
    left_out
        Clips that the extraction just before could not use, each with the reason.
    """

    results: ResultsFolder
    bank: Bank
    recipe: Recipe
    store: Store
    training: Store | None = None
    layout: str | None = "pca"
    machines: tuple[str, ...] = ()
    clips: Sequence[Clip] | None = None
    command: str = ""
    built: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring did.

    Attributes
    ----------
    sections
        Those scored, ascending.
    notes
        Sections and clips that were not scored, banks that are out of date.
    outdated
        Clips whose recordings are others now, scored as they were because none at hand is one that the
        cache knows.
    """

    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    outdated: tuple[str, ...] = ()


def score(request: ScoreRequest, told: Progress = unseen) -> ScoreResult:
    """Score every section and write what the scores, the reasons and the system are.

    Sections are in memory one at a time.

    Parameters
    ----------
    request
        What to score.
    told
        How many sections are done, of how many.

    Raises
    ------
    AsdError
        If there is nothing to score, or a table or the bank is damaged.
    """
    job = _Job(request, None if request.clips is None else _Held(request.clips))
    sections = job.sections()
    thresholds: dict[str, float | None] = {}
    cautions: dict[str, list[str]] = {}
    calibration: dict[str, dict[str, Any]] = {}
    proxies = []
    remarks: list[Remark] = []
    with request.results.run():
        for done, section in enumerate(sections):
            told(done, len(sections))
            fitted = request.bank.read(section, request.recipe)
            table = job.table(section)
            proxies.append(all_synthetic(section, [key.synthetic for key in table.keys]))
            limit = job.score(fitted, table)
            thresholds[str(section)] = limit if np.isfinite(limit) else None
            facts_of = {key.clip_id: key.facts for key in table.keys}
            where, rate = f"{section} test", request.recipe.heard_rate
            found = remarks_of(where, facts_of)
            found += differences(where, facts_of, fitted.usual, rate)
            remarks += found
            cautions[str(section)] = [*fitted.cautions().values(), *said_of(found)]
            calibration[str(section)] = {**fitted.facts(), "promise": fitted.promise()}
            if thresholds[str(section)] is None:
                job.notes += [f"{section}: {text}" for text in fitted.cautions().values()]
            if not request.built:
                job.note_outdated(fitted)
        told(len(sections), len(sections))
        facts = {
            "recipe": request.recipe.fingerprint,
            "embeddings": str(request.recipe),
            **_signal(request.recipe),
            "bank": str(request.bank.root),
            "command": request.command,
            "calibration": promise_of(calibration.values()),
        }
        title = f"{request.recipe.backbone}, {fitted.scorer_name}"
        transductive = fitted.scorer.transductive
        described = SystemDescription(
            title, transductive, facts, thresholds, any(proxies), cautions, calibration
        )
        write_description(request.results, described)
        request.results.seal()
    return ScoreResult(tuple(sections), (*job.notes, *said_of(remarks)), tuple(job.outdated))


def _signal(recipe: Recipe) -> dict[str, str]:
    """Say how files of numbers were read, for the page that plays them; nothing of plain sound."""
    told = Signal.of(dict((recipe.parents or (recipe,))[0].settings)).settings
    return {"signal": json.dumps(told)} if told else {}


class _Held:
    """Which recordings of which sections the data at hand holds."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._paths: dict[tuple[Section, str], dict[str, Path]] = {}
        for clip in clips:
            held = self._paths.setdefault((clip.section, clip.split), {})
            held[split_id(clip.clip_id)[0]] = clip.path

    def ids(self, section: Section, split: str) -> set[str]:
        """Ids of a section's recordings."""
        return set(self._paths.get((section, split), {}))

    def others(self, section: Section, hashes: Mapping[str, str]) -> list[str]:
        """Ids of test recordings whose bytes are not those of `hashes`, their SHA-256 by id."""
        paths = self._paths.get((section, "test"), {})
        known = sorted(paths.keys() & hashes.keys())
        with ThreadPoolExecutor(_READERS) as pool:
            now = pool.map(_sha256, (paths[name] for name in known))
            return [name for name, sha256 in zip(known, now, strict=True) if sha256 != hashes[name]]

    def sections(self) -> set[Section]:
        """Sections that have test clips."""
        return {section for section, split in self._paths if split == "test"}


@dataclass
class _Job:
    """One scoring under way, and what is to be said of it."""

    request: ScoreRequest
    held: _Held | None
    notes: list[str] = field(default_factory=list)
    changed: dict[Section, set[str]] = field(default_factory=dict)  # recordings that are others now
    outdated: list[str] = field(default_factory=list)  # of them, those that are scored as they were

    @property
    def training(self) -> Store:
        return self.request.training or self.request.store

    def sections(self) -> list[Section]:
        """Sections that have test clips and are in the bank; the others are noted."""
        request = self.request
        stored = request.store.tables(request.recipe)
        tested = self._wanted({table.section for table in stored if table.split == "test"})
        if self.held is not None:
            tested = self._at_hand(tested, self.held)
        fitted, root = self._wanted(set(request.bank.sections())), request.bank.root
        for sections, reason in (
            (tested - fitted, f"has test clips but is not in {root}: not scored"),
            (fitted - tested, "is in the bank but has no test clips: not scored"),
        ):
            self.notes += [f"{section} {reason}" for section in sorted(sections)]
        if not tested & fitted and request.left_out:
            count = len(request.left_out)
            title = f"nothing to score with the bank {root}: {count} clips could not be used"
            raise reasons(title, request.left_out)
        if not tested & fitted and self.notes and self.held is not None:
            raise reasons("nothing to score:", self.notes)
        if not tested & fitted:
            raise AsdError(
                f"no test clips of {request.recipe} for the bank {root}, which holds "
                f"{listing(sorted(fitted))}; extract them with `python -m extractors.run` or name "
                "their folder with --data"
            )
        return sorted(tested & fitted)

    def _wanted(self, sections: set[Section]) -> set[Section]:
        machines = self.request.machines
        return {s for s in sections if not machines or s.machine_type in machines}

    def _at_hand(self, tested: set[Section], held: _Held) -> set[Section]:
        """Keep sections that the data still has test clips of, and say what differs."""
        kept = set()
        for section in sorted(tested | self._wanted(held.sections())):
            keys = self._keys(section, "test")
            hashes = {_file_id(clip): key.content_sha256 for clip, key in keys.items()}
            stored, there = set(hashes), held.ids(section, "test")
            gone, lacking = sorted(stored - there), sorted(there - stored)
            if other := [] if self.request.built else held.others(section, hashes):
                self.changed[section] = set(other)
                self.notes.append(
                    f"{section}: {len(other)} test clips are other recordings now than those in the "
                    f"cache and not scored, {other[0]} for one; run the extraction again"
                )
            if stored & there - set(other):
                kept.add(section)
                if gone:
                    self.notes.append(
                        f"{section}: {len(gone)} test clips in the cache are no longer in the "
                        f"data and not scored, {gone[0]} for one"
                    )
            elif stored and not stored & there:
                self.notes.append(f"{section} is no longer in the data: not scored")
            if lacking:
                self.notes.append(
                    f"{section}: {len(lacking)} test clips of the data are not in the cache and "
                    f"not scored, {lacking[0]} for one; run the extraction again"
                )
            learnt = set(map(_file_id, self._keys(section, "train")))
            left = sorted(learnt - held.ids(section, "train"))
            if section in kept and held.ids(section, "train") and left and not self.request.built:
                self.notes.append(
                    f"{section}: {len(left)} training clips in the cache are no longer in the "
                    f"data, {left[0]} for one; run the extraction and the index again"
                )
        if not kept and self.changed:
            self.outdated = sorted(clip for clips in self.changed.values() for clip in clips)
            self.notes.append(
                f"{self.outdated[0]} has changed since it was extracted, and so has every other recording at "
                f"hand ({len(self.outdated)} in all): scores are of the recordings as they were, and none is "
                "played; run the extraction again"
            )
            kept = set(self.changed)
            self.changed.clear()
        return kept

    def _keys(self, section: Section, split: str) -> dict[str, ClipKey]:
        """Keys of a section's clips; of a concatenation those of its first part."""
        store = self.request.store if split == "test" else self.training
        recipe = self.request.recipe
        first = recipe.parents[0] if recipe.parents else recipe
        try:
            return store.keys(first, section, split) or store.keys(recipe, section, split)
        except AsdError:
            if split == "test":
                raise
            return {}  # a damaged table, which scoring does not need

    def table(self, section: Section) -> EmbeddingTable:
        """Read a section's test clips, those that the data at hand holds."""
        table = self.request.store.read(self.request.recipe, section, "test")
        if self.held is None:
            return table
        there = self.held.ids(section, "test") - self.changed.get(section, set())
        rows = [row for row, clip in enumerate(table.clip_ids) if _file_id(clip) in there]
        return table if len(rows) == len(table) else table.select(rows)

    def score(self, fitted: FittedSection, table: EmbeddingTable) -> float:
        """Write a section's files; give the threshold of a file."""
        request, results = self.request, self.request.results
        scored = score_table(fitted, table)
        write_submission(results, scored.submission)
        nearest = write_reasons(results, fitted, table, scored)
        write_windows(results, fitted, table, scored)
        known = self._keys(table.section, "train")
        held = {clip: known[clip] for clip in nearest & known.keys()}
        write_clips(results, table.section, table.keys, held)
        if request.layout is not None:
            write_map(results, self._train_table(table.section), table, request.layout)
        if any(key.condition is None for key in table.keys):
            self._note_surplus(fitted, scored)
        return float(scored.limit)

    def _note_surplus(self, fitted: FittedSection, scored: SectionScores) -> None:
        decisions = scored.submission.decisions
        flagged = 0 if decisions is None else int(decisions.sum())
        if more := surplus(flagged, len(scored.submission.files), fitted.promised):
            self.notes.append(f"{fitted.section}: {more}")

    def _train_table(self, section: Section) -> EmbeddingTable | None:
        recipe = self.request.recipe
        there = self.request.store.holds(recipe, section, "train")
        return self.request.store.read(recipe, section, "train") if there else None

    def note_outdated(self, fitted: FittedSection) -> None:
        """Say where a section was fitted to other training clips than the store has now."""
        try:
            digest = self.request.store.digest(self.request.recipe, fitted.section, "train")
        except AsdError:  # a damaged table, which scoring does not need
            return
        if fitted.training and digest not in (None, fitted.training):
            self.notes.append(
                f"{fitted.section} has other training clips now than its bank was built from; "
                "`python -m index.run` builds it anew, and leaves the others"
            )


def _file_id(clip_id: str) -> str:
    return split_id(clip_id)[0]


def _sha256(path: Path) -> str:
    try:
        return content_sha256(path)
    except AsdError:
        return ""  # what cannot be read is not what was heard
