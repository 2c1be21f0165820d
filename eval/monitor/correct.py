"""Corrections of a bank by hand: clips that are normal after all, clips that are not, the threshold.

Nothing here runs by itself: a bank that followed what it hears would learn the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cache.base.errors import AsdError, listing
from cache.base.options import REQUIRED, Options, documented, option, options_of
from cache.files.atomic import scratch_folder, write_atomic
from cache.files.places import place
from cache.heard import split_id
from cache.recipe import Recipe
from cache.select import Selection, cache_dir_option
from cache.store import Store
from cache.table import DOMAINS, Section
from eval.detector import TABLES, Detector, remember
from eval.results.marks import read_marks
from extractors.clips.clip import Clip, Listing
from extractors.clips.folders import audio_files
from index.bank import Bank, locate
from index.build import BuildRequest, build
from index.calibration import Calibration
from index.fitted import FittedSection, frequency
from index.threshold import fit_threshold, share_of
from index.versions import Versions

if TYPE_CHECKING:
    from extractors.extract import Inference


@documented
@dataclass(frozen=True, kw_only=True)
class Correction(Options):
    """A bank, one of its machines, and why it is changed."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)
    because: str = option(REQUIRED, "why, for the log", metavar="TEXT")
    machine: str | None = option(
        None, "which of the bank's machines (needed where it holds several)", metavar="NAME"
    )
    weights: tuple[str, ...] = option(
        (), "checkpoints, where other than the published ones are needed", metavar="[NAME=]FILE"
    )
    cache_dir: Path = cache_dir_option()


@documented
@dataclass(frozen=True, kw_only=True)
class Addition(Correction):
    """Recordings that are normal after all."""

    clips: tuple[Path, ...] = option(
        (), "recordings, or folders searched at any depth", flag="clips", metavar="CLIPS", read=place
    )
    marks: Path | None = option(
        None,
        "the page's marks.csv: of CLIPS, only what it marks as normal, and nothing it marks as abnormal",
        metavar="FILE",
        read=place,
    )
    domain: str | None = option(
        None, "of the recordings, where the bank tells domains (default: source)", choices=DOMAINS
    )


@documented
@dataclass(frozen=True, kw_only=True)
class Removal(Correction):
    """Training clips that are not normal."""

    clips: tuple[str, ...] = option(
        (),
        "ids of training clips, or their ends behind a slash; `*` stands for anything",
        flag="clips",
        metavar="IDS",
    )


@documented
@dataclass(frozen=True, kw_only=True)
class Recalibration(Correction):
    """Normal recordings that the threshold is learnt from, or another percentile of the same ones."""

    clips: tuple[Path, ...] = option(
        (), "recordings, or folders searched at any depth", flag="clips", metavar="CLIPS", read=place
    )
    percentile: float | None = option(
        None, "normal clips meant to lie below the threshold, % (default: the bank's)", metavar="P"
    )
    false_alarms: str | None = option(
        None, "instead, how often a normal clip may be flagged: 1/100, or 1/day ...", metavar="RATE"
    )
    clip_interval: float = option(60.0, "seconds from clip to clip, for --false-alarms", least=0.001)


@dataclass(frozen=True)
class CorrectionResult:
    """A correction that was made.

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


def add(request: Addition) -> CorrectionResult:
    """Take recordings for normal: their embeddings join the training clips, the section is fitted anew.

    Raises
    ------
    AsdError
        If one cannot be read, none is new, or the bank's training embeddings are not to be had.
    """
    detector, section, fitted = _opened(request)
    paths = _recordings(request.clips)
    if request.marks is not None:
        paths = _marked(request, section, paths)
    if not paths:
        raise AsdError(f"nothing to add to {detector.bank.root}: name recordings or folders of them")
    domains = {domain for domain, count in fitted.clips.items() if count and domain in DOMAINS}
    if request.domain and not domains:
        raise AsdError(f"--domain {request.domain}: the clips of this bank are all of one, unnamed domain")
    domain = (request.domain or DOMAINS[0]) if domains else None
    facts: dict[str, Any] = {"section": str(section)}
    versions = Versions(detector.bank.root)
    before = versions.current()
    with versions.change("add", request.because, facts) as copy:
        store = _own_tables(copy, section, fitted, detector.bank.root, request.cache_dir)
        held = {
            key.clip_id: key.content_sha256
            for parent in _parents(fitted.recipe)[:1]
            for key in store.keys(parent, section, "train").values()
        }
        clips = _new_clips(paths, section, domain, {split_id(clip_id)[0] for clip_id in held})
        added = _embed(detector.inference, clips, store, set(held.values()))
        if not added:
            raise AsdError(f"nothing new: the bank holds the same sound of all {len(clips)} recordings")
        remember(copy, {clip.clip_id: str(clip.path.resolve()) for clip in clips if clip.clip_id in added})
        now = _refit(copy, section, fitted, store)
        facts |= {"clips": sorted(added), "bank": Bank(copy).fingerprint(section)}
    notes = [*now.cautions().values()]
    if copies := len(clips) - len(added):
        notes.append(f"{copies} of {len(clips)} recordings were in the bank already")
    if fitted.calibration.grouping == GIVEN:
        notes.append(
            "the threshold is learnt from training clips again, no more from those given to calibrate"
        )
    limits = (fitted.threshold.value, now.threshold.value)
    return CorrectionResult(
        versions.root, section, versions.current(), before, len(added), limits, tuple(notes)
    )


def remove(request: Removal) -> CorrectionResult:
    """Take training clips out of a bank and fit their section anew.

    Raises
    ------
    AsdError
        If a name fits none, or none would be left.
    """
    detector, section, fitted = _opened(request)
    facts: dict[str, Any] = {"section": str(section)}
    versions = Versions(detector.bank.root)
    before = versions.current()
    with versions.change("remove", request.because, facts) as copy:
        store = _own_tables(copy, section, fitted, detector.bank.root, request.cache_dir)
        held = list(store.keys(_parents(fitted.recipe)[0], section, "train"))
        gone: set[str] = set()
        for name in request.clips:
            fits = {i for i in held if any(fnmatch(split_id(i)[0], p) for p in (name, f"*/{name}"))}
            if not fits:
                raise AsdError(
                    f"{name!r} fits no training clip of {section}; some of {len(held)}: {listing(held)}"
                )
            gone |= fits
        if not gone or len(gone) == len(held):
            raise AsdError(f"{len(gone)} of {len(held)} training clips would go: name some, not all")
        for parent in _parents(fitted.recipe):
            store.discard(parent, section, "train", gone)
        now = _refit(copy, section, fitted, store)
        facts |= {"clips": sorted(gone), "bank": Bank(copy).fingerprint(section)}
    limits = (fitted.threshold.value, now.threshold.value)
    notes = tuple(now.cautions().values())
    return CorrectionResult(versions.root, section, versions.current(), before, len(gone), limits, notes)


GIVEN = "given"  # grouping of clips that were given to calibrate


def calibrate(request: Recalibration) -> CorrectionResult:
    """Learn the threshold alone anew: from normal recordings that are given, or at another percentile.

    Raises
    ------
    AsdError
        If a recording cannot be read, or the clips cannot show the rate that is asked for.
    """
    detector, section, fitted = _opened(request)
    percentile = request.percentile or fitted.threshold.percentile
    if request.false_alarms is not None:
        percentile = 100 * (1 - share_of(request.false_alarms, request.clip_interval))
    known, paths = fitted.calibration, _recordings(request.clips)
    if paths:
        known = _given(detector, section, fitted, paths)
    elif request.percentile is None and request.false_alarms is None:
        raise AsdError("nothing to calibrate with: name normal recordings, or --percentile")
    scores = known.scores if known.scores.size else fitted.train_scores()
    groups = known.groups if known.scores.size else None
    threshold = fit_threshold(scores, fitted.threshold.method, percentile, groups)
    if not np.isfinite(threshold.value):
        raise AsdError(
            f"no threshold can be learnt from {known.count} recordings whose scores do not vary, or are too "
            "few for the percentile: give others, which the bank was not built from"
        )
    now = replace(fitted, calibration=known, threshold=threshold)
    rarest = 1 / (known.count + 1)
    if request.false_alarms is not None and now.promised < rarest * (1 - 1e-9):
        raise AsdError(
            f"--false-alarms {request.false_alarms} is {frequency(now.promised)} clips, but {known.count} "
            f"recordings show nothing rarer than {frequency(rarest)}: give more, or allow more alarms"
        )
    facts: dict[str, Any] = {"section": str(section), "clips": len(paths), "percentile": percentile}
    versions = Versions(detector.bank.root)
    before = versions.current()
    with versions.change("calibrate", request.because, facts) as copy:
        Bank(copy).write(now)
        facts["bank"] = Bank(copy).fingerprint(section)
    limits = (fitted.threshold.value, threshold.value)
    notes = (now.promise(), *now.cautions().values())
    return CorrectionResult(versions.root, section, versions.current(), before, len(paths), limits, notes)


def _given(detector: Detector, section: Section, fitted: FittedSection, paths: Sequence[Path]) -> Calibration:
    """Score normal recordings that the bank never heard."""
    clips = [Clip(f"given/{i:06d}", path, section, "test") for i, path in enumerate(paths)]
    cut = detector.inference.cut(Listing(tuple(clips)))
    found = detector.inference.embed(cut.clips)
    if faults := [*cut.faults, *found.faults]:
        raise AsdError("\n".join(["recordings that cannot be used:", *map(str, dict.fromkeys(faults))]))
    table = found.tables[section]
    _, groups = np.unique([split_id(clip_id)[0] for clip_id in table.clip_ids], return_inverse=True)
    told = f"the {len(clips)} recordings given to calibrate, each taken for one of its own"
    return Calibration(GIVEN, told, len(clips), fitted.scorer.score(table.embeddings), groups)


def _opened(request: Correction) -> tuple[Detector, Section, FittedSection]:
    if not request.because.strip():
        raise AsdError("--because is empty: say why, for whoever reads the log")
    Versions(locate(request.bank).root)  # refused where it lies in object storage
    detector = Detector.load(request.bank, weights=request.weights)
    section = detector.section(request.machine)
    return detector, section, detector.bank.read(section, detector.bank.recipe())


def _recordings(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise AsdError(f"{path} does not exist: name recordings or folders of them")
        files, faults, _ = audio_files(path) if path.is_dir() else ([path], [], [])
        if faults:
            raise AsdError("\n".join(["recordings that cannot be used:", *map(str, faults)]))
        found += files
    return list(dict.fromkeys(found))


def _marked(request: Addition, section: Section, paths: Sequence[Path]) -> list[Path]:
    """Find the recordings that are marked as normal: by the end of their paths, else by their names."""
    assert request.marks is not None
    marks, found = read_marks(request.marks, section), []
    for clip in [clip for clip, mark in marks.items() if mark == "normal"]:
        fits = [path for path in paths if f"/{path.as_posix()}".endswith(f"/{clip}")]
        fits = fits or [path for path in paths if path.name == Path(clip).name]
        if len(fits) != 1:
            raise AsdError(
                f"{request.marks} marks {clip!r} as normal: {len(fits)} recordings in "
                f"{listing(request.clips)} are it; name the folder that holds it"
            )
        found += fits
    if not found:
        raise AsdError(f"{request.marks} marks no clip of {section} as normal")
    return found


def _new_clips(paths: Sequence[Path], section: Section, domain: str | None, taken: set[str]) -> list[Clip]:
    """Name recordings apart from each other and from those in the bank, their folder's name kept."""
    clips, names = [], set(taken)
    for path in paths:
        stem = name = f"added/{path.absolute().parent.name}/{path.name}"
        number = 1
        while name in names:
            number += 1
            name = stem.replace("added/", f"added/{number}/", 1)
        names.add(name)
        clips.append(Clip(name, path, section, "train", domain, "normal"))
    return clips


def _embed(inference: Inference, clips: Sequence[Clip], store: Store, known: set[str]) -> set[str]:
    """Put the embeddings of clips into the training tables, those of known content apart; their ids."""
    from extractors.engines.local import Extraction  # noqa: PLC0415 (torch)

    cut = inference.cut(Listing(tuple(clips)))
    added: set[str] = set()
    with scratch_folder() as folder:
        scratch = Store(folder)
        reports = Extraction(inference.forwards, scratch).run(cut.clips)
        if faults := [*cut.faults, *(fault for report in reports for fault in report.faults)]:
            raise AsdError("\n".join(["recordings that cannot be used:", *map(str, dict.fromkeys(faults))]))
        for parent in _parents(inference.recipe):
            table = scratch.read(parent, clips[0].section, "train")
            rows = [i for i, key in enumerate(table.keys) if key.content_sha256 not in known]
            if rows:
                store.add(table.select(rows), parent)
            added |= {split_id(table.clip_ids[i])[0] for i in rows}
    return added


def _own_tables(copy: Path, section: Section, fitted: FittedSection, root: Path, cache_dir: Path) -> Store:
    """Make sure that a bank has the training embeddings it was fitted to; they may lie in a cache."""
    own = Store(copy / TABLES)
    for store in (own, Store(root.parents[2]) if len(root.parents) > 2 else own, Store(cache_dir)):
        if fitted.training and store.digest(fitted.recipe, section, "train") == fitted.training:
            for parent in _parents(fitted.recipe) if store is not own else ():
                target = own.path(parent, section, "train")
                write_atomic(target, store.path(parent, section, "train").read_bytes())
            return own
    raise AsdError(
        f"the training embeddings of {section} in {root} are not in it, nor in {cache_dir} as they were: "
        "name with --cache-dir the cache folder that it was built from, or build it anew"
    )


def _refit(copy: Path, section: Section, fitted: FittedSection, store: Store) -> FittedSection:
    """Fit a section to the training tables as they are now, in the way it was fitted."""
    grouping = fitted.calibration.grouping
    request = BuildRequest(
        scorer=fitted.scorer_name,
        scorer_options=options_of(fitted.scorer),
        threshold=fitted.threshold.method,
        percentile=fitted.threshold.percentile,
        group="auto" if grouping in ("", GIVEN) else grouping,
        bank=copy,
        cache_dir=store.root,
        tables=Selection(recipes=tuple(parent.fingerprint for parent in _parents(fitted.recipe))),
        synthetic=fitted.synthetic > 0,
        sections={section},
        rebuild=True,
    )
    build(request)
    return Bank(copy).read(section, fitted.recipe)


def _parents(recipe: Recipe) -> tuple[Recipe, ...]:
    return recipe.parents or (recipe,)
