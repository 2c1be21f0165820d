"""The scoring stage: a bank and test tables in, a results folder with scores and reasons out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cache.base.errors import AsdError, listing, reasons
from cache.base.progress import Progress, unseen
from cache.facts import told as told_of
from cache.heard import Signal, split_id
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.results.names import all_synthetic
from eval.scoring.sections import RunWriter, score_blocks
from extractors.audio.files import content_sha256
from extractors.clips.listing import Clip
from index.bank import Bank
from index.fitted import FittedSection

_READERS = 4  # threads that hash recordings: half wait for the disk
_ROWS = 1024  # test clips whose embeddings are in memory at once


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
        How embeddings are laid out on a map, ``pca`` or ``umap``; ``None`` for no map.
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
        Test clips of the data that are other recordings now than the cache knows, or that it does not
        hold: not scored, or, where all are others now, scored as they were.
    """

    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    outdated: tuple[str, ...] = ()


def score(request: ScoreRequest, told: Progress = unseen) -> ScoreResult:
    """Score every section and write what the scores, the reasons and the system are.

    One section is in memory at a time, and of its test clips the embeddings of a few.

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
    with request.results.run():
        for done, section in enumerate(sections):
            told(done, len(sections))
            job.score(section)
        told(len(sections), len(sections))
        job.seal()
    notes = (*job.notes, *job.writer.notes, *told_of(job.writer.remarks))
    return ScoreResult(tuple(sections), notes, tuple(job.outdated))


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

        def digest(path: Path) -> str:
            try:
                return content_sha256(path)
            except AsdError:
                return ""  # what cannot be read is not what was scored

        paths = self._paths.get((section, "test"), {})
        known = sorted(paths.keys() & hashes.keys())
        with ThreadPoolExecutor(_READERS) as pool:
            now = pool.map(digest, (paths[name] for name in known))
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
    outdated: list[str] = field(default_factory=list)  # of the data, that the cache does not know so
    scorer: str = ""  # its name; every section's is the same
    transductive: bool = False
    synthetic: bool = False  # whether test clips of a section are

    @cached_property
    def writer(self) -> RunWriter:
        """Writes the files."""
        request = self.request
        return RunWriter(request.results, request.recipe.heard_rate, request.layout)

    def sections(self) -> list[Section]:
        """Sections that have test clips and are in the bank; the others are noted."""
        request, root = self.request, self.request.bank.root
        stored = request.store.tables(request.recipe)
        every = {table.section for table in stored if table.split == "test"} | set(request.bank.sections())
        for name in request.machines:
            if all(section.machine_type != name for section in every):
                raise AsdError(f"--machine {name}: there are {listing(sorted(every))}")
        tested = self._wanted({table.section for table in stored if table.split == "test"})
        if self.held is not None:
            tested = self._at_hand(tested, self.held)
        fitted = self._wanted(set(request.bank.sections()))
        for sections, reason in (
            (tested - fitted, f"has test clips but is not in {root}: not scored"),
            (fitted - tested, "is in the bank but has no test clips: not scored"),
        ):
            self.notes += [f"{section} {reason}" for section in sorted(sections)]
        if tested & fitted:
            return sorted(tested & fitted)
        if request.left_out:
            count = len(request.left_out)
            title = f"nothing to score with the bank {root}: {count} clips could not be used"
            raise reasons(title, request.left_out)
        if self.notes and self.held is not None:
            raise reasons("nothing to score:", self.notes)
        raise AsdError(
            f"no test clips of {request.recipe} for the bank {root}, which holds "
            f"{listing(sorted(fitted))}; extract them with `python -m extractors.run` or name "
            "their folder with --data"
        )

    def _wanted(self, sections: set[Section]) -> set[Section]:
        machines = self.request.machines
        return {s for s in sections if not machines or s.machine_type in machines}

    def _at_hand(self, tested: set[Section], held: _Held) -> set[Section]:
        """Keep sections that the data still has test clips of, and say what differs."""
        kept = {section for section in sorted(tested | self._wanted(held.sections()))
                if self._is_at_hand(section, held)}  # fmt: skip
        if not kept and self.changed:
            others = sorted(clip for clips in self.changed.values() for clip in clips)
            self.notes.append(
                f"{others[0]} has changed since it was extracted, and so has every other recording at "
                f"hand ({len(others)} in all): scores are of the recordings as they were, and none is "
                "played; run the extraction again"
            )
            kept = set(self.changed)
            self.changed.clear()
        return kept

    def _is_at_hand(self, section: Section, held: _Held) -> bool:
        """Whether the data has test clips of a section that are as they were; note what differs."""
        built = self.request.built
        hashes = {split_id(c)[0]: key.content_sha256 for c, key in self._keys(section, "test").items()}
        stored, there, learnt = set(hashes), held.ids(section, "test"), held.ids(section, "train")
        if other := [] if built else held.others(section, hashes):
            self.changed[section] = set(other)
        kept = bool(stored & there - set(other))
        gone = stored - there if kept else ()
        missing = set() if built else there - stored  # those just left out are named already
        self.outdated += sorted({*other, *missing})
        if stored and not stored & there:
            self.notes.append(f"{section} is no longer in the data: not scored")
        left: set[str] = set()
        if kept and learnt and not built:
            left = {split_id(clip)[0] for clip in self._keys(section, "train")} - learnt
        again, anew = "; run the extraction again", "; run the extraction and the index again"
        for clips, what, remedy in (
            (other, "test clips are other recordings now than those in the cache and not scored", again),
            (gone, "test clips in the cache are no longer in the data and not scored", ""),
            (missing, "test clips of the data are not in the cache and not scored", again),
            (left, "training clips in the cache are no longer in the data", anew),
        ):
            if clips:
                self.notes.append(f"{section}: {len(clips)} {what}, {min(clips)} for one{remedy}")
        return kept

    def _keys(self, section: Section, split: str) -> dict[str, ClipKey]:
        """Keys of a section's clips; of a concatenation those of its first part."""
        request, recipe = self.request, self.request.recipe
        store = request.store if split == "test" else request.training or request.store
        first = recipe.parents[0] if recipe.parents else recipe
        try:
            return store.keys(first, section, split) or store.keys(recipe, section, split)
        except AsdError:
            if split == "test":
                raise
            return {}  # a damaged table, which scoring does not need

    def blocks(self, section: Section) -> Iterator[EmbeddingTable]:
        """Read a section's test clips, those that the data at hand holds, a few at a time."""
        request, there = self.request, None
        if self.held is not None:
            there = self.held.ids(section, "test") - self.changed.get(section, set())
        for table in request.store.read_blocks(request.recipe, section, "test", _ROWS):
            if there is None:
                yield table
            elif rows := [row for row, clip in enumerate(table.clip_ids) if split_id(clip)[0] in there]:
                yield table if len(rows) == len(table) else table.select(rows)

    def score(self, section: Section) -> None:
        """Score a section and write its files."""
        request = self.request
        fitted = request.bank.read(section, request.recipe)
        scored = score_blocks(fitted, self.blocks(section))
        self.synthetic |= all_synthetic(section, [key.synthetic for key in scored.keys])
        self.scorer, self.transductive = fitted.scorer_name, fitted.scorer.transductive

        def train() -> EmbeddingTable | None:
            there = request.store.holds(request.recipe, section, "train")
            return request.store.read(request.recipe, section, "train") if there else None

        self.writer.write(scored, self._keys(section, "train"), train, lambda: self.blocks(section))
        if not request.built:
            self._note_outdated(fitted)

    def _note_outdated(self, fitted: FittedSection) -> None:
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

    def seal(self) -> None:
        """Write what the system is, after its sections are scored."""
        request = self.request
        # How files of numbers were read, for the page that plays them.
        signal = Signal.of(dict((request.recipe.parents or (request.recipe,))[0].settings)).settings
        facts = {
            "recipe": request.recipe.fingerprint,
            "embeddings": str(request.recipe),
            **({"signal": json.dumps(signal)} if signal else {}),
            "bank": str(request.bank.root),
            "command": request.command,
        }
        title = f"{request.recipe.backbone}, {self.scorer}"
        self.writer.seal(title, facts, transductive=self.transductive, proxy=self.synthetic)
