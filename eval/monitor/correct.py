"""Corrections of a bank by hand: clips that are normal after all, clips that are not, the threshold.

Nothing here runs by itself: a bank that followed what it hears would learn the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cache.base.errors import AsdError, listing
from cache.base.options import options_of
from cache.files.atomic import scratch_folder, write_atomic
from cache.heard import split_id
from cache.select import Selection
from cache.store import Store
from cache.table import DOMAINS, Section
from eval.detector import TABLES, Detector
from eval.monitor.check import recordings_in
from eval.monitor.request import Addition, Correction, Recalibration, Removal
from eval.results.truth import read_marks
from eval.scoring.recordings import remember
from extractors.clips.clip import Clip, Fault, Listing
from index.bank import Bank, locate
from index.build import build
from index.calibration import Calibration
from index.fitted import frequency
from index.request import BuildRequest
from index.threshold import fit_threshold, share_of
from index.versions import Versions

Work: TypeAlias = tuple[int, Sequence[str]]  # how many clips a correction is of, and what else is to be known


GIVEN = "given"  # grouping of clips that were given to calibrate


@dataclass(frozen=True)
class CorrectionResult:
    """Record of a correction.

    Attributes
    ----------
    root, section
        Of the bank.
    version, before
        Hashes of the bank now and before.
    clips
        How many were added, removed or calibrated with.
    thresholds
        Before and now.
    notes
        What else is to be known.
    """

    root: Path
    section: Section
    version: str
    before: str
    clips: int
    thresholds: tuple[float, float]
    notes: tuple[str, ...] = ()


class _Opened:
    """A bank, open at the section to correct."""

    def __init__(self, request: Correction) -> None:
        if not request.because.strip():
            raise AsdError("--because is empty: say why, for whoever reads the log")
        self.versions = Versions(locate(request.bank).root)  # refused where it lies in object storage
        self.request = request
        self.detector = Detector.load(request.bank, weights=request.weights)
        self.section = self.detector.section(request.machine)
        recipe = self.detector.bank.recipe()
        self.parents = recipe.parents or (recipe,)
        self.fitted = self.detector.bank.read(self.section, recipe)

    def change(self, action: str, facts: dict[str, Any], work: Callable[[Path], Work]) -> CorrectionResult:
        """Let `work` change a copy of the bank, which becomes the bank; `facts` go into the log."""
        facts["section"], before = str(self.section), self.versions.current()
        with self.versions.change(action, self.request.because, facts) as copy:
            clips, notes = work(copy)
            bank = Bank(copy)
            now, facts["bank"] = bank.read(self.section, self.fitted.recipe), bank.fingerprint(self.section)
        limits = (self.fitted.threshold.value, now.threshold.value)
        root, version, told = self.versions.root, self.versions.current(), (*now.cautions().values(), *notes)
        return CorrectionResult(root, self.section, version, before, clips, limits, told)

    def tables(self, copy: Path) -> Store:
        """Return the training embeddings of the bank, copied into it from a cache if need be."""
        own, root, store = Store(copy / TABLES), self.versions.root, self.stored(copy)
        if store is None:
            raise AsdError(
                f"the training embeddings of {self.section} in {root} are not in it, nor in "
                f"{self.request.cache_dir} as they were: name with --cache-dir the cache folder that it was "
                "built from, or build it anew"
            )
        for parent in self.parents if store.root != own.root else ():
            target = own.path(parent, self.section, "train")
            write_atomic(target, store.path(parent, self.section, "train").read_bytes())
        return own

    def stored(self, bank: Path) -> Store | None:
        """Find the training embeddings as the bank was fitted to them: in a copy of it, or in a cache."""
        fitted, root = self.fitted, self.versions.root
        caches = (root.parents[2] if len(root.parents) > 2 else None, self.request.cache_dir)
        for store in map(Store, filter(None, (bank / TABLES, *caches))):
            if fitted.training and store.digest(fitted.recipe, self.section, "train") == fitted.training:
                return store
        return None

    def refit(self, copy: Path, store: Store) -> None:
        """Fit the section to the training tables as they are now, in the way it was fitted."""
        fitted, grouping = self.fitted, self.fitted.calibration.grouping
        request = BuildRequest(
            scorer=fitted.scorer_name,
            scorer_options=options_of(fitted.scorer),
            threshold=fitted.threshold.method,
            percentile=fitted.threshold.percentile,
            group="auto" if grouping in ("", GIVEN) else grouping,
            bank=copy,
            cache_dir=store.root,
            tables=Selection(recipes=tuple(parent.fingerprint for parent in self.parents)),
            synthetic=fitted.synthetic > 0,
            sections={self.section},
            rebuild=True,
        )
        build(request)


def add(request: Addition) -> CorrectionResult:
    """Take recordings for normal: their embeddings join the training clips, the section is fitted anew.

    Raises
    ------
    AsdError
        If one cannot be read, none is new, or the bank's training embeddings are not to be had.
    """
    opened = _Opened(request)
    fitted, section = opened.fitted, opened.section
    paths, faults = recordings_in(request.clips)
    _refuse(faults)
    if request.marks is not None:
        paths = _marked(request.marks, request.clips, section, paths)
    if not paths:
        raise AsdError(f"nothing to add to {opened.versions.root}: name recordings or folders of them")
    domains = {domain for domain, count in fitted.clips.items() if count and domain in DOMAINS}
    if request.domain and not domains:
        raise AsdError(f"--domain {request.domain}: the clips of this bank are all of one, unnamed domain")
    domain = (request.domain or DOMAINS[0]) if domains else None
    facts: dict[str, Any] = {}

    def work(copy: Path) -> Work:
        store = opened.tables(copy)
        added = _embed(opened, paths, domain, store)
        if not added:
            raise AsdError(f"nothing new: the bank holds the same sound of all {len(paths)} recordings")
        remember(copy, added)
        opened.refit(copy, store)
        facts["clips"], notes = sorted(added), []
        if copies := len(paths) - len(added):
            notes.append(f"{copies} of {len(paths)} recordings were in the bank already")
        if fitted.calibration.grouping == GIVEN:
            notes.append(
                "the threshold is again learnt from training clips, not from those given to calibrate"
            )
        return len(added), notes

    return opened.change("add", facts, work)


def remove(request: Removal) -> CorrectionResult:
    """Take training clips out of a bank and fit their section anew.

    Raises
    ------
    AsdError
        If a name fits none, or none would be left.
    """
    opened, facts = _Opened(request), dict[str, Any]()
    section = opened.section

    def work(copy: Path) -> Work:
        store = opened.tables(copy)
        held = list(store.keys(opened.parents[0], section, "train"))
        gone: set[str] = set()
        for name in request.clips:
            fits = {i for i in held if any(fnmatch(split_id(i)[0], p) for p in (name, f"*/{name}"))}
            if not fits:
                raise AsdError(f"{name!r} fits no training clip of {section}, which has {listing(held)}")
            gone |= fits
        if not gone or len(gone) == len(held):
            raise AsdError(f"{len(gone)} of {len(held)} training clips would go: name some, not all")
        for parent in opened.parents:
            store.discard(parent, section, "train", gone)
        opened.refit(copy, store)
        facts["clips"] = sorted(gone)
        return len(gone), ()

    return opened.change("remove", facts, work)


def calibrate(request: Recalibration) -> CorrectionResult:
    """Learn the threshold alone anew: from normal recordings that are given, or at another percentile.

    Raises
    ------
    AsdError
        If a recording cannot be read, or the clips cannot show the rate that is asked for.
    """
    opened = _Opened(request)
    paths, faults = recordings_in(request.clips)
    _refuse(faults)
    fitted, percentile = opened.fitted, request.percentile or opened.fitted.threshold.percentile
    if request.false_alarms is not None:
        percentile = 100 * (1 - share_of(request.false_alarms, request.clip_interval))
    if not paths and request.percentile is None and request.false_alarms is None:
        raise AsdError("nothing to calibrate with: name normal recordings, or --percentile")
    known, notes = _given(opened, paths) if paths else (fitted.calibration, ())
    now = replace(fitted, calibration=known)
    threshold = fit_threshold(now.train_scores(), fitted.threshold.method, percentile, now.groups())
    if not np.isfinite(threshold.value):
        raise AsdError(
            f"no threshold can be learnt from {known.count} recordings whose scores do not vary, or are too "
            "few for the percentile: give others, which the bank was not built from"
        )
    now, used = replace(now, threshold=threshold), known.count if paths else 0
    rarest = 1 / (known.count + 1)
    if request.false_alarms is not None and now.promised < rarest * (1 - 1e-9):
        raise AsdError(
            f"--false-alarms {request.false_alarms} is {frequency(now.promised)} clips, but {known.count} "
            f"recordings show nothing rarer than {frequency(rarest)}: give more, or allow more alarms"
        )

    def work(copy: Path) -> Work:
        Bank(copy).write(now)
        return used, (now.promise(), *notes)

    return opened.change("calibrate", {"clips": used, "percentile": percentile}, work)


def _given(opened: _Opened, paths: Sequence[Path]) -> tuple[Calibration, tuple[str, ...]]:
    """Score normal recordings that the bank never heard, each sound once; notes say what was passed over.

    The bank's own clips are no distance from themselves: a threshold learnt from them is far too low.
    """
    clips = [Clip(f"given/{i:06d}", path, opened.section, "test") for i, path in enumerate(paths)]
    inference = opened.detector.inference
    cut = inference.cut(Listing(tuple(clips)))
    found = inference.embed(cut.clips)
    _refuse([*cut.faults, *found.faults])
    table, store = found.tables[opened.section], opened.stored(opened.versions.root)
    held = store.keys(opened.parents[0], opened.section, "train").values() if store else ()
    heard, names = {key.content_sha256 for key in held}, [split_id(clip_id)[0] for clip_id in table.clip_ids]
    first: dict[str, str] = {}
    for key, name in zip(table.keys, names, strict=True):
        if key.content_sha256 not in heard:
            first.setdefault(key.content_sha256, name)
    fresh = set(first.values())
    if not fresh:
        raise AsdError(
            f"all {len(clips)} recordings are among those the bank was built from, and say nothing of new "
            "ones: give normal recordings that it never heard"
        )
    rows = [i for i, name in enumerate(names) if name in fresh]
    _, groups = np.unique([names[i] for i in rows], return_inverse=True)
    told = f"the {len(fresh)} recordings given to calibrate, each taken for one of its own"
    scores = opened.fitted.scorer.score(table.embeddings[rows])
    over = len(clips) - len(fresh)
    passed = f"{over} of {len(clips)} recordings passed over: in the bank already, or given twice"
    notes = (passed,) if over else ()
    return Calibration(GIVEN, told, len(fresh), scores, groups), notes


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise AsdError("\n".join(["recordings that cannot be used:", *map(str, dict.fromkeys(faults))]))


def _marked(file: Path, named: Sequence[Path], section: Section, paths: Sequence[Path]) -> list[Path]:
    """Find the recordings marked as normal, by the end of their paths or else by their names."""
    marks, found = read_marks(file, section), []
    for clip in [clip for clip, mark in marks.items() if mark == "normal"]:
        fits = [path for path in paths if f"/{path.as_posix()}".endswith(f"/{clip}")]
        fits = fits or [path for path in paths if path.name == Path(clip).name]
        if len(fits) != 1:
            raise AsdError(
                f"{file} marks {clip!r} as normal: {len(fits)} recordings in "
                f"{listing(named)} are it; name the folder that holds it"
            )
        found += fits
    if not found:
        raise AsdError(f"{file} marks no clip of {section} as normal")
    return found


def _embed(opened: _Opened, paths: Sequence[Path], domain: str | None, store: Store) -> dict[str, str]:
    """Put the embeddings of recordings into the training tables, except those of known content.

    They are named apart from each other and from those in the bank, their folder's name kept. Gives the clip
    ids of those that were put in, each with its recording's path.
    """
    from extractors.engines.local import Extraction  # noqa: PLC0415 (torch)

    section, inference = opened.section, opened.detector.inference
    held = store.keys(opened.parents[0], section, "train")
    names, known = {split_id(clip_id)[0] for clip_id in held}, {key.content_sha256 for key in held.values()}
    clips = []
    for path in paths:
        stem = f"{path.absolute().parent.name}/{path.name}"
        numbered = (f"added/{number}/{stem}" for number in count(2))
        name = next(name for name in chain([f"added/{stem}"], numbered) if name not in names)
        names.add(name)
        clips.append(Clip(name, path, section, "train", domain, "normal"))
    cut, added = inference.cut(Listing(tuple(clips))), set[str]()
    with scratch_folder() as folder:
        scratch = Store(folder)
        reports = Extraction(inference.forwards, scratch).run(cut.clips)
        _refuse([*cut.faults, *(fault for report in reports for fault in report.faults)])
        for parent in opened.parents:
            table = scratch.read(parent, section, "train")
            rows = [i for i, key in enumerate(table.keys) if key.content_sha256 not in known]
            if rows:
                store.add(table.select(rows), parent)
            added |= {split_id(table.clip_ids[i])[0] for i in rows}
    return {clip.clip_id: str(clip.path.resolve()) for clip in clips if clip.clip_id in added}
