"""A detector: normal recordings in, a verdict on new ones out, all in one object that can be kept."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from cache.base.errors import AsdError
from cache.heard import Heard, split_id
from cache.recipe import concatenation
from cache.select import Selection
from cache.store import Store
from cache.table import DOMAINS, Section
from eval.scoring.findings import Results, clip_results
from eval.scoring.recordings import Recordings, Sounds, recordings_of, remember
from eval.scoring.sections import recorded_otherwise, score_blocks
from extractors import backbones
from extractors.backbones import split_name
from extractors.clips.clip import Listing
from extractors.request import ExtractRequest
from index.bank import Bank, locate
from index.build import build
from index.fitted import FittedSection
from index.request import BuildRequest
from index.scorer import DEFAULT

if TYPE_CHECKING:
    from extractors.extract import Inference

TABLES = "tables"  # in a bank's folder: the embeddings of the normal recordings
_MACHINE = "machine"  # what an unnamed one is called


class Detector:
    """Tells abnormal sounds of a machine from normal ones, knowing normal ones alone.

    Parameters
    ----------
    backbone
        One or several, as on the command line: ``logmel``, ``beats``, ``hf:MODEL``; of several, the scorer
        sees all values. The default needs no weights: `extractors.request.ExtractRequest`.
    scorer
        ``name`` or ``name:option=value``.
    weights
        Checkpoints: ``FILE``, or ``NAME=FILE`` of several backbones; the published ones by default.
    window, hop
        Cut longer recordings into pieces of so many seconds, one every so many.
    channel
        ``average``, ``near``, ``far`` or a number from 0.
    rate, column, remove_dc
        Of files of numbers (CSV, NPY, MAT ...): Hz where they do not tell it, which columns, and whether
        each channel's mean is subtracted, of sound too.
    threshold, percentile
        How the threshold is learnt, and the share of normal clips meant to lie below it, %.
    false_alarms, clip_interval
        Instead of a percentile: how often a normal clip may be called abnormal, ``1/100`` of the clips
        or ``1/month`` where one is heard every so many seconds. Refused by `fit` where the recordings
        cannot support it.
    group
        Which recordings were made together, and are left out together when the threshold is learnt:
        ``auto`` goes by their sound; ``day``, ``folder`` ... as of ``--group``.
    machine
        What to call it.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> normal = [rng.normal(0, 0.1, 16_000) for _ in range(30)]
    >>> detector = Detector("logmel", scorer="min-distance").fit(normal, rate=16_000)
    >>> hum = rng.normal(0, 0.1, 16_000) + np.sin(np.arange(16_000) / 9)
    >>> [clip.decision for clip in detector.score(hum, rate=16_000)]
    [1]
    """

    def __init__(  # noqa: PLR0913 (the options of a call, by name)
        self,
        backbone: str | Sequence[str] = (),
        scorer: str = DEFAULT,
        *,
        weights: str | Sequence[str] = (),
        window: float | None = None,
        hop: float | None = None,
        channel: str = "average",
        rate: int | None = None,
        column: str = "",
        remove_dc: bool = False,
        threshold: str = "gamma",
        percentile: float = 90.0,
        false_alarms: str | None = None,
        clip_interval: float = 60.0,
        group: str = "auto",
        machine: str = _MACHINE,
    ) -> None:
        names = (backbone,) if isinstance(backbone, str) else tuple(backbone)
        self._request = ExtractRequest(
            backbone=names or ExtractRequest().backbone,
            weights=(weights,) if isinstance(weights, str) else tuple(weights),
            heard=Heard(
                channel=channel, window=window, hop=hop, rate=rate, column=column, remove_dc=remove_dc
            ),
            device="cpu",
        )
        self._build = BuildRequest(
            scorer=scorer, threshold=threshold, percentile=percentile, false_alarms=false_alarms,
            clip_interval=clip_interval, group=group,
        )  # fmt: skip
        self._build.unfitted()  # a name or an option that there is not is refused here, not in `fit`
        for text in self._request.backbone:
            backbones.find(split_name(text)[0])
        self._section = Section(machine, 0)
        self._root = Path(mkdtemp(prefix="asd-detector-"))  # goes with this object
        weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        self._listing = Listing(())
        self._bank: Bank | None = None
        self._normal: dict[str, str] = {}
        self._inference: Inference | None = None
        self._recordings = Recordings(self._root / "arrays")

    def fit(self, normal: Sounds, target: Sounds | None = None, *, rate: float | None = None) -> Detector:
        """Learn what is normal.

        Parameters
        ----------
        normal
            A folder (searched at any depth), a file, a manifest (``.csv`` or ``.parquet`` with a column
            ``path``) or a data root, of which the training clips are taken with their domains, an array
            (T,) or (T, channels) with `rate`, a pair of array and rate, or a list of these.
        target
            The few normal recordings of other conditions (speed, load, noise), if there are any.
        rate
            Hz, of arrays and of files of numbers that do not tell their own.

        Returns
        -------
        Detector
            Itself.

        Raises
        ------
        AsdError
            If nothing can be read, or a recording cannot be used: all are named.
        """
        self._listing, self._recordings = Listing(()), Recordings(self._root / "arrays")
        return self._learn(normal, target, rate)

    def add(self, normal: Sounds, target: Sounds | None = None, *, rate: float | None = None) -> Detector:
        """Take more recordings for normal and learn the thresholds anew; see `fit`."""
        self._fitted()
        if not self._listing.clips:
            raise AsdError(
                "this bank came without the recordings it was built from, so that nothing can be "
                "added to it: build it anew from all of them"
            )
        return self._learn(normal, target, rate)

    def score(self, sounds: Sounds, *, rate: float | None = None, machine: str | None = None) -> Results:
        """Judge recordings; a clip's score does not depend on the others.

        Parameters
        ----------
        sounds, rate
            As of `fit`.
        machine
            Which of a bank's machines; needed where it holds several.

        Raises
        ------
        AsdError
            If nothing was learnt yet, there is nothing to read, or the machine is not in the bank.
        """
        section = self.section(machine)
        return self.judge(self._recordings.clips(sounds, section, "test", None, rate), section)

    def judge(self, listing: Listing, section: Section) -> Results:
        """Judge clips that are listed already; see `score`.

        Parameters
        ----------
        listing
            Clips of one section, which keep their ids.
        section
            Which, of the bank.
        """
        bank = self._fitted()
        inference = self._loaded(bank)
        cut = inference.cut(listing)
        found = inference.embed(cut.clips)
        faults = (*cut.faults, *found.faults)
        fitted = bank.read(section, inference.recipe)
        results, remarks = {}, dict[str, str]()
        if section in found.tables:
            scored = score_blocks(fitted, [found.tables[section]])
            results = clip_results(scored, {clip.clip_id: clip for clip in cut.clips}, self._sources())
            remarks = recorded_otherwise(fitted, scored.keys)
        order = dict.fromkeys(split_id(clip.clip_id)[0] for clip in cut.clips)
        clips = tuple(results[name] for name in order if name in results)
        said = dict.fromkeys(f"recordings are {text}" for text in remarks.values())
        return Results(clips, faults, (*cautions_of(fitted), *said), remarks)

    def cautions(self, section: Section) -> tuple[str, ...]:
        """Say what the threshold of a section promises, and on what conditions."""
        bank = self._fitted()
        return cautions_of(bank.read(section, bank.recipe()))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the bank to a folder, which must not exist; with it goes what `add` needs.

        Returns
        -------
        Path
            The folder, which ``--bank`` takes as well.
        """
        bank, folder = self._fitted(), Path(path)
        if folder.exists():
            raise AsdError(f"{folder} is there already; choose another name, or remove it first")
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(bank.root, partial, ignore=shutil.ignore_patterns(".lock", TABLES))
        if self._listing.clips:
            shutil.copytree(self._root / TABLES, partial / TABLES, ignore=shutil.ignore_patterns(".lock"))
            remember(partial, self._sources())
        partial.rename(folder)
        return folder

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        weights: str | Sequence[str] = (),
        normal: Sequence[Path] = (),
    ) -> Detector:
        """Read a bank that `save` or ``python -m index.run`` wrote.

        Parameters
        ----------
        path
            Its folder, the one that holds it, or one in it: see `index.bank.locate`.
        weights
            Checkpoints, where its backbones need other than the published ones.
        normal
            Data roots of the normal recordings, where the bank does not say where they lie.

        Raises
        ------
        AsdError
            If there is no bank.
        """
        detector = cls(weights=weights)
        detector._bank = locate(path if isinstance(path, Path) else Path(path))
        if normal:
            from extractors.clips.listing import list_clips  # noqa: PLC0415 (where layouts are read)

            clips = list_clips(normal).clips
            detector._normal = {clip.clip_id: str(clip.path) for clip in clips}
        return detector

    @property
    def inference(self) -> Inference:
        """The models that turn clips into the bank's embeddings; loaded when they are first asked for."""
        return self._loaded(self._fitted())

    def share(self, inference: Inference) -> None:
        """Take models that another detector has loaded, where they are of the same recipe."""
        if inference.recipe == self._fitted().recipe():
            self._inference = inference

    @property
    def bank(self) -> Bank:
        """The bank that judges."""
        return self._fitted()

    def section(self, machine: str | None = None) -> Section:
        """Find the section that a machine's name means; none is needed where there is one only."""
        bank = self._fitted()
        held = [s for s in bank.sections() if machine in (None, s.machine_type, str(s))]
        if len(held) == 1:
            return held[0]
        known = ", ".join(map(str, bank.sections()))
        if machine is None:
            raise AsdError(f"the bank holds {known}: say which with machine=")
        raise AsdError(f"no one machine {machine!r} in the bank, which holds {known}")

    def _fitted(self) -> Bank:
        if self._bank is None:
            raise AsdError("nothing was learnt yet: call fit() with normal recordings first")
        return self._bank

    def _loaded(self, bank: Bank) -> Inference:
        from extractors.extract import Inference  # noqa: PLC0415 (torch, where clips are heard)

        if self._inference is None:
            self._inference = Inference(bank.recipe(), self._request.weights)
        return self._inference

    def _learn(self, normal: Sounds, target: Sounds | None, rate: float | None) -> Detector:
        from extractors.embedding.models import load_forwards  # noqa: PLC0415 (as above)
        from extractors.engines.local import Extraction  # noqa: PLC0415
        from extractors.extract import Inference  # noqa: PLC0415

        domain = None if target is None else DOMAINS[0]
        section = self._section
        new = [self._recordings.clips(normal, section, "train", domain, rate)]
        if target is not None:
            new.append(self._recordings.clips(target, section, "train", DOMAINS[1], rate))
        clips = (*self._listing.clips, *(clip for listing in new for clip in listing.clips))
        if faults := [fault for listing in new for fault in listing.faults]:
            raise AsdError("\n".join(["recordings that cannot be used:", *map(str, faults)]))
        twice = [name for name, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
        if twice:
            raise AsdError(
                f"two recordings are called {twice[0]!r}: name folders that differ in their own names"
            )
        listing = Listing(clips)
        if self._inference is None:
            forwards = load_forwards(self._request)
            recipe = concatenation([output.recipe for each in forwards for output in each.outputs])
            self._inference = Inference(recipe, forwards=forwards)
        inference = self._inference
        cut = inference.cut(listing)
        store = Store(self._root / TABLES)
        reports = Extraction(inference.forwards, store).run(cut.clips)
        unusable = [*cut.faults, *(fault for report in reports for fault in report.faults)]
        if unusable:
            raise AsdError("\n".join(["recordings that cannot be used:", *map(str, dict.fromkeys(unusable))]))
        recipes = inference.recipe.parents or (inference.recipe,)
        tables = Selection(recipes=tuple(recipe.fingerprint for recipe in recipes))
        bank = self._root / "bank"
        build(replace(self._build, cache_dir=store.root, bank=bank, tables=tables))
        self._bank, self._listing = Bank(bank), listing
        return self

    def _sources(self) -> dict[str, str]:
        """Where normal recordings lie, by id: known of one's own, and as saved with a bank."""
        if self._listing.clips:
            return {clip.clip_id: str(clip.path.resolve()) for clip in self._listing.clips}
        return recordings_of(self._fitted().root) | self._normal


def cautions_of(fitted: FittedSection) -> tuple[str, ...]:
    """Say what a threshold promises, and what a reader of decisions must know."""
    return fitted.promise(), *fitted.cautions().values()
