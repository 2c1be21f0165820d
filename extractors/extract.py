"""Clips x backbone to embedding tables: one forward pass, resumable, nothing lost or dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from cache.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey
from cache.writer import TableWriter
from extractors.audio import RESAMPLER, content_sha256
from extractors.backbone import Backbone, BackboneSpec
from extractors.batches import Decoded, Refused, decode_ahead, equal_lengths
from extractors.clips import Clip, Fault
from extractors.pooling import Pooling


@dataclass(frozen=True)
class Output:
    """One table asked for: a layer of a backbone, pooled one way.

    Attributes
    ----------
    spec
        The backbone.
    layer
        One of ``spec.layers``.
    pooling, bands
        How frames become one vector.
    """

    spec: BackboneSpec
    layer: int
    pooling: Pooling
    bands: str

    @property
    def recipe(self) -> Recipe:
        """What names the table."""
        return Recipe(
            backbone=self.spec.name,
            layer=self.layer,
            pooling=self.pooling.name,
            bands=self.bands,
            sample_rate=self.spec.sample_rate,
            weights=self.spec.weights,
            settings=tuple(sorted((*self.spec.settings, ("resampler", RESAMPLER)))),
        )

    def blocks(self, width: int, bands: int) -> dict[str, tuple[int, int]]:
        """Name the columns: one block, or one a band where the bands are kept apart."""
        name = self.spec.name
        if self.bands == "merge" or bands == 1:
            return {name: (0, width)}
        each = width // bands
        return {f"{name}/band{i}": (i * each, (i + 1) * each) for i in range(bands)}


@dataclass(frozen=True)
class Settings:
    """How to run, none of which changes a value.

    Attributes
    ----------
    device
        Where the backbone is.
    batch_size
        Clips of equal length a forward pass.
    strict
        Stop at the first clip that cannot be used.
    """

    device: torch.device
    batch_size: int
    strict: bool = False


@dataclass
class Report:
    """What a run did.

    Attributes
    ----------
    new, changed, unchanged
        Clips extracted for the first time, again because the file is another, and not at all.
    removed
        Ids taken out of the tables because their clip is no longer in the data.
    faults
        Clips that could not be used, each with the reason.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Extraction:
    """One backbone, the tables wanted of it, and where they go.

    Attributes
    ----------
    backbone
        The loaded model.
    outputs
        Tables to make from one forward pass.
    store
        Where they go.
    settings
        Device, batch size, strictness.
    """

    backbone: Backbone
    outputs: Sequence[Output]
    store: Store
    settings: Settings

    def run(self, clips: Sequence[Clip]) -> Report:
        """Bring the store's tables up to date with the clips.

        A table mirrors its section and split: clips it lacks or that changed are extracted, rows
        of clips that are gone are removed. Sections without a clip in `clips` are left alone.

        Parameters
        ----------
        clips
            Each id once.

        Returns
        -------
        Report
            Counts, and every clip left out with the reason.

        Raises
        ------
        AsdError
            If the store cannot be written, or at the first unusable clip where strict.
        """
        report = Report()
        ordered = sorted(clips, key=lambda clip: (clip.section, clip.split, clip.clip_id))
        with (
            ThreadPoolExecutor(2, thread_name_prefix="decode") as pool,
            tqdm(total=len(clips), unit="clip", disable=None) as progress,
        ):
            for _, group in groupby(ordered, lambda clip: (clip.section, clip.split)):
                _TableUpdate(self, list(group), report, pool).run(progress)
        return report


@dataclass
class _TableUpdate:
    """The steps that bring one section's training or test tables up to date."""

    job: Extraction
    clips: Sequence[Clip]
    report: Report
    pool: Executor
    replaced: set[str] = field(default_factory=set)
    refused: list[Refused] = field(default_factory=list)

    def run(self, progress: tqdm) -> None:
        self._remove_rows_of_gone_clips()
        wanted = self._outdated()
        progress.update(len(self.clips) - len(wanted))
        writers = [
            TableWriter(self.job.store, output.recipe, self.clips[0].section, self.clips[0].split)
            for output in self.job.outputs
        ]
        try:
            for batch in equal_lengths(self._decoded(wanted), self.job.settings.batch_size):
                self._write(writers, batch)
                progress.update(len(batch))
        finally:
            for writer in writers:
                writer.save()
        progress.update(len(self.refused))
        self._discard({refused.clip.clip_id for refused in self.refused})
        self.report.faults += [Fault(r.clip.path, r.reason) for r in self.refused]

    def _remove_rows_of_gone_clips(self) -> None:
        held = {clip_id for rows in self._held() for clip_id in rows}
        gone = held - {clip.clip_id for clip in self.clips}
        self._discard(gone)
        self.report.removed += sorted(gone)

    def _outdated(self) -> list[Clip]:
        """Clips that lack a row in a table, or whose file or attributes changed since."""
        held = self._held()
        known = [clip for clip in self.clips if all(clip.clip_id in rows for rows in held)]
        hashes = self.pool.map(_sha256, known)
        current = {clip.clip_id: _key(clip, sha) for clip, sha in zip(known, hashes, strict=True)}
        fresh = {
            clip_id
            for clip_id, key in current.items()
            if all(rows[clip_id] == key for rows in held)
        }
        self.replaced = current.keys() - fresh
        self.report.unchanged += len(fresh)
        return [clip for clip in self.clips if clip.clip_id not in fresh]

    def _decoded(self, clips: Sequence[Clip]) -> Iterator[Decoded]:
        spec = self.job.backbone.spec
        ahead = 2 * self.job.settings.batch_size
        for item in decode_ahead(clips, spec.sample_rate, self.pool, ahead):
            if isinstance(item, Refused):
                self._refuse(item.clip, item.reason)
            elif len(item.recording.samples) < spec.min_samples:
                seconds = len(item.recording.samples) / spec.sample_rate
                least = spec.min_samples / spec.sample_rate
                self._refuse(
                    item.clip,
                    f"{seconds:.3f} s is too short; {spec.name} needs at least {least:.3f} s",
                )
            else:
                yield item

    def _write(self, writers: Sequence[TableWriter], batch: Sequence[Decoded]) -> None:
        vectors, blocks = self._vectors(batch)
        finite = np.all([np.isfinite(values).all(axis=1) for values in vectors], axis=0)
        for index in np.flatnonzero(~finite).tolist():
            self._refuse(batch[index].clip, "its embedding is not finite")
        good = [decoded for decoded, ok in zip(batch, finite, strict=True) if ok]
        keys = [_key(decoded.clip, decoded.recording.content_sha256) for decoded in good]
        for writer, values, named in zip(writers, vectors, blocks, strict=True):
            writer.add(keys, values[finite], named)
        changed = sum(key.clip_id in self.replaced for key in keys)
        self.report.changed += changed
        self.report.new += len(keys) - changed

    def _vectors(
        self, batch: Sequence[Decoded]
    ) -> tuple[list[NDArray[np.float32]], list[dict[str, tuple[int, int]]]]:
        """One forward pass: (B, D) float32 and the blocks of its columns, for each output."""
        samples = np.stack([decoded.recording.samples for decoded in batch])
        outputs = self.job.outputs
        layers = sorted({output.layer for output in outputs})
        with torch.inference_mode():
            waveforms = torch.from_numpy(samples).to(self.job.settings.device)
            features = self.job.backbone.features(waveforms, layers)
            of = dict(zip(layers, features, strict=True))
            pooled = [output.pooling(of[output.layer], output.bands) for output in outputs]
        blocks = [
            output.blocks(vectors.shape[1], of[output.layer].frames.shape[2])
            for output, vectors in zip(outputs, pooled, strict=True)
        ]
        return [vectors.float().cpu().numpy() for vectors in pooled], blocks

    def _refuse(self, clip: Clip, reason: str) -> None:
        if self.job.settings.strict:
            raise AsdError(f"{clip.path}: {reason}")
        self.refused.append(Refused(clip, reason))

    def _held(self) -> list[dict[str, ClipKey]]:
        section, split = self.clips[0].section, self.clips[0].split
        return [self.job.store.keys(output.recipe, section, split) for output in self.job.outputs]

    def _discard(self, clip_ids: Set[str]) -> None:
        section, split = self.clips[0].section, self.clips[0].split
        for output, held in zip(self.job.outputs, self._held(), strict=True):
            if not clip_ids.isdisjoint(held):
                self.job.store.discard(output.recipe, section, split, clip_ids)


def _sha256(clip: Clip) -> str:
    try:
        return content_sha256(clip.path)
    except AsdError:
        return ""  # reading it again for the model gives the reason


def _key(clip: Clip, sha256: str) -> ClipKey:
    return ClipKey(clip.clip_id, sha256, clip.domain, clip.condition, clip.attributes)
