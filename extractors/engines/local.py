"""The engine of one process: a backbone's tables brought up to date, one decoding for all backbones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from cache.base.errors import AsdError
from cache.base.processors import cores
from cache.base.progress import Progress, Steps, unseen
from cache.facts import Facts, Remark, differences, remarks_of
from cache.facts import usual as usual_of
from cache.heard import LONGEST
from cache.recipe import Recipe
from cache.store import Store
from cache.table import ClipKey, Section
from cache.writer import TableWriter
from extractors.audio.batches import DecodedClip, Decoder, Recordings, Refusal, equal_lengths
from extractors.audio.files import content_sha256, hash_once, marked
from extractors.audio.inspection import DECODER
from extractors.clips.listing import Clip, Fault
from extractors.embedding.embedder import Forward, Samples, Vectors
from extractors.embedding.throughput import Plan, as_measured, remembered, use, usual
from extractors.request import ExtractRequest

_SHARED = 2**30  # bytes of waveforms kept for the next backbone: 1600 clips of 10 s at 16 kHz
_WORTH_MEASURING = 200  # clips to embed; fewer take less time than the measurement


@dataclass
class Report:
    """What a run did for one backbone.

    Attributes
    ----------
    new, changed, unchanged
        Clips extracted for the first time, again because the file is another, and not at all.
    removed
        Ids taken out of the tables because their clip is no longer in the data.
    faults
        Clips that could not be used, each with the reason.
    remarks
        What the others turned out to be that a user must know.
    energy
        Machine type to the energy of the near channel before and after the far one was cancelled
        (``--channel cancel``), summed over all its clips, those of earlier runs too.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    energy: dict[str, tuple[float, float]] = field(default_factory=dict)

    def heard(self, machine_type: str, energy: Sequence[float]) -> None:
        """Add energy before and after cancelling, of a clip or of other clips of a machine."""
        before, after = self.energy.get(machine_type, (0.0, 0.0))
        self.energy[machine_type] = before + energy[0], after + energy[1]

    def add(self, other: Report) -> None:
        """Add what was done for the same backbone elsewhere."""
        for name in ("new", "changed", "unchanged", "removed", "faults", "remarks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for machine_type, energy in other.energy.items():
            self.heard(machine_type, energy)


@dataclass(frozen=True)
class Extraction:
    """Backbones, the tables wanted of each, and where they go.

    Attributes
    ----------
    forwards
        One a backbone.
    store
        Where the tables go.
    batch_size
        Clips a forward pass; ``None`` measures what is fastest where there is enough to do.
    strict
        Stop at the first clip that cannot be used.
    longest
        Seconds that a clip may last; longer ones are left out.
    """

    forwards: Sequence[Forward]
    store: Store
    batch_size: int | None = None
    strict: bool = False
    longest: float = LONGEST

    def run(self, clips: Sequence[Clip], told: Progress = unseen) -> list[Report]:
        """Bring the store's tables up to date with the clips.

        A table mirrors its section and split: clips it lacks or that changed are extracted, rows
        of clips that are gone are removed. Sections without a clip in `clips` are left alone. The
        backbones take turns section by section, so that one decoding of a section serves all.

        Parameters
        ----------
        clips
            Each id once.
        told
            How many clips are done, each counted once a backbone.

        Returns
        -------
        list of Report
            One a backbone: counts, and every clip left out with the reason.

        Raises
        ------
        AsdError
            If the store cannot be written, or at the first unusable clip where strict.
        """
        ordered = sorted(clips, key=lambda clip: (clip.section, clip.split, clip.clip_id))
        recordings = Recordings(_SHARED if len(self.forwards) > 1 else 0, self.longest)
        reports = [Report() for _ in self.forwards]
        with ExitStack() as stack:
            recipes = [output.recipe for each in self.forwards for output in each.outputs]
            stack.enter_context(self.store.writing(recipes))
            readers = stack.enter_context(ThreadPoolExecutor(cores(), "decode"))
            plans = [self._plan(forward, ordered, recordings) for forward in self.forwards]
            for forward, plan in zip(self.forwards, plans, strict=True):
                use(forward, plan)
            pools = [stack.enter_context(plan.pool()) for plan in plans]
            progress = Steps(len(clips) * len(self.forwards), told)
            remarks = _Remarks({clip.section for clip in clips if clip.split == "train"})
            for _, group in groupby(ordered, lambda clip: (clip.section, clip.split)):
                section = list(group)
                jobs = zip(self.forwards, plans, pools, reports, strict=True)
                for forward, plan, pool, report in jobs:
                    ahead = 2 * plan.batch * plan.workers
                    job = _ModelJob(forward, plan, pool, Decoder(recordings, readers, ahead))
                    update = _TableUpdate(self, job, section, report)
                    update.run(progress)
                    report.remarks += remarks.of(update)
                recordings.forget()
        return reports

    def _plan(self, forward: Forward, clips: Sequence[Clip], recordings: Recordings) -> Plan:
        spec = forward.backbone.spec
        plan = as_measured(usual(spec, forward.device), self.store.root, forward)
        if self.batch_size is not None:
            return replace(plan, batch=self.batch_size)
        # Only the tables of the clips' sections are read.
        places = dict.fromkeys((clip.section, clip.split) for clip in clips)
        held = [
            {clip_id for place in places for clip_id in self.store.keys(output.recipe, *place)}
            for output in forward.outputs
        ]
        lacking = [clip for clip in clips if not all(clip.clip_id in rows for rows in held)]
        if len(lacking) < _WORTH_MEASURING:
            return plan
        path, span = lacking[0].path, lacking[0].span
        try:
            found = recordings.read(path, spec.sample_rate, span, forward.hearing.channel)
            sample: Samples = forward.hearing.fit(found.samples, spec.sample_rate)
        except AsdError:
            return plan  # it is named when its turn comes
        return plan if sample.shape[-1] < spec.min_samples else remembered(self.store.root, forward, sample)


def extraction(request: ExtractRequest, forwards: Sequence[Forward]) -> Extraction:
    """Make the extraction that a request asks for, of backbones loaded for it."""
    store = Store(request.cache_dir)
    return Extraction(forwards, store, request.batch_size, request.strict, request.longest)


@dataclass(frozen=True)
class _ModelJob:
    """A model at work: how, by whom, and who decodes for it."""

    forward: Forward
    plan: Plan
    pool: Executor
    decoder: Decoder

    def embedded(self, batches: Iterator[list[DecodedClip]]) -> Iterator[tuple[list[DecodedClip], Vectors]]:
        """Forward passes in order; one more than there are workers is under way."""
        queue: deque[tuple[list[DecodedClip], Future[Vectors]]] = deque()
        try:
            for batch in batches:
                samples = np.stack([decoded.recording.samples for decoded in batch])
                queue.append((batch, self.pool.submit(self.forward, samples)))
                if len(queue) > self.plan.workers:
                    first, future = queue.popleft()
                    yield first, future.result()
            while queue:
                first, future = queue.popleft()
                yield first, future.result()
        finally:
            for _, future in queue:
                future.cancel()


@dataclass
class _TableUpdate:
    """The steps that bring one section's training or test tables up to date."""

    extraction: Extraction
    job: _ModelJob
    clips: Sequence[Clip]
    report: Report
    replaced: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    facts: dict[str, Facts | None] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """Of its first table."""
        return self.job.forward.outputs[0].recipe

    def run(self, progress: Steps) -> None:
        gone = {clip_id for rows in self._held() for clip_id in rows} - {clip.clip_id for clip in self.clips}
        self._discard(gone)
        self.report.removed += sorted(gone)
        wanted = self._outdated()
        progress.update(len(self.clips) - len(wanted))
        section, split = self.clips[0].section, self.clips[0].split
        store, outputs = self.extraction.store, self.job.forward.outputs
        writers = [TableWriter(store, output.recipe, section, split) for output in outputs]
        try:
            batches = equal_lengths(self._decoded(wanted), self.job.plan.batch)
            for batch, vectors in self.job.embedded(batches):
                self._write(writers, batch, vectors)
                progress.update(len(batch))
        finally:
            for writer in writers:
                writer.save()
        progress.update(len(self.refused))
        self._discard(self.refused)
        for facts in self.facts.values():
            if facts is not None and facts.near is not None and facts.left is not None:
                self.report.heard(section.machine_type, (facts.near, facts.left))

    def _outdated(self) -> list[Clip]:
        """Clips that lack a row in a table, or whose file or attributes changed since."""
        held = self._held()
        known = [clip for clip in self.clips if all(clip.clip_id in rows for rows in held)]
        hashes = self.job.decoder.pool.map(_sha256, known)
        current = {clip.clip_id: _key(clip, sha) for clip, sha in zip(known, hashes, strict=True)}
        fresh = {
            clip_id
            for clip_id, key in current.items()
            if all(rows[clip_id] == key for rows in held)
            # Nor would any recording be decoded to other samples today.
            and all(f is None or f.decoder in ("", DECODER) for f in (rows[clip_id].facts for rows in held))
        }
        self.facts |= {clip_id: held[0][clip_id].facts for clip_id in fresh}
        self.replaced = current.keys() - fresh
        self.report.unchanged += len(fresh)
        return [clip for clip in self.clips if clip.clip_id not in fresh]

    def _decoded(self, clips: Sequence[Clip]) -> Iterator[DecodedClip]:
        spec = self.job.forward.backbone.spec
        for item in self.job.decoder.decoded(clips, spec.sample_rate, self.job.forward.hearing.channel):
            if isinstance(item, Refusal):
                self._refuse(item.clip, item.reason)
                continue
            recording = item.recording
            samples = self.job.forward.hearing.fit(recording.samples, spec.sample_rate)
            if samples.shape[-1] >= spec.min_samples:
                yield DecodedClip(item.clip, replace(recording, samples=samples))
                continue
            seconds, least = (count / spec.sample_rate for count in (samples.shape[-1], spec.min_samples))
            self._refuse(item.clip, f"{seconds:.3f} s is too short; {spec.name} needs at least {least:.3f} s")

    def _write(self, writers: Sequence[TableWriter], batch: Sequence[DecodedClip], vectors: Vectors) -> None:
        finite = np.all([np.isfinite(values).all(axis=1) for values in vectors.values], axis=0)
        for index in np.flatnonzero(~finite).tolist():
            self._refuse(batch[index].clip, "its embedding is not finite")
        good = [decoded for decoded, ok in zip(batch, finite, strict=True) if ok]
        keys = [_key(each.clip, each.recording.content_sha256, each.recording.facts) for each in good]
        self.facts |= {key.clip_id: key.facts for key in keys}
        each = zip(writers, self.job.forward.outputs, vectors.values, vectors.bands, strict=True)
        for writer, output, values, bands in each:
            writer.add(keys, values[finite], output.blocks(values.shape[1], bands))
        changed = sum(key.clip_id in self.replaced for key in keys)
        self.report.changed += changed
        self.report.new += len(keys) - changed

    def _refuse(self, clip: Clip, reason: str) -> None:
        if self.extraction.strict:
            raise AsdError(f"{clip.path}: {reason}")
        self.refused.add(clip.clip_id)
        where = "" if clip.span is None else f"{clip.span[0]:g} to {clip.span[1]:g} s: "
        self.report.faults.append(Fault(clip.path, where + reason))

    def _held(self) -> list[dict[str, ClipKey]]:
        store, place = self.extraction.store, (self.clips[0].section, self.clips[0].split)
        return [store.keys(output.recipe, *place) for output in self.job.forward.outputs]

    def _discard(self, clip_ids: Set[str]) -> None:
        place = self.clips[0].section, self.clips[0].split
        for output, held in zip(self.job.forward.outputs, self._held(), strict=True):
            if not clip_ids.isdisjoint(held):
                self.extraction.store.discard(output.recipe, *place, clip_ids)


@dataclass
class _Remarks:
    """What is to be said of the clips of tables that come test before training.

    Attributes
    ----------
    trained
        Sections whose training clips are among those of this run.
    """

    trained: Set[Section]
    _tests: dict[tuple[str, Section], dict[str, Facts | None]] = field(default_factory=dict)

    def of(self, update: _TableUpdate) -> list[Remark]:
        section, split = update.clips[0].section, update.clips[0].split
        recipe, rate = update.recipe, update.recipe.heard_rate
        heard, key = update.facts, (update.recipe.fingerprint, section)
        found = remarks_of(f"{section} {split}", heard)
        if split == "test" and section in self.trained:
            self._tests[key] = heard
            return found
        if split == "test":
            kept = update.extraction.store.keys(recipe, section, "train").values()
            trained = usual_of(each.facts for each in kept)
        else:
            trained = usual_of(heard.values())
            tests = self._tests.pop(key, {})
            found += differences(f"{section} test", tests, trained, rate)
        return [*found, *differences(f"{section} {split}", heard, trained, rate)]


def _sha256(clip: Clip) -> str:
    try:
        sha256 = content_sha256(clip.path) if clip.span is None else hash_once(clip.path)
        return marked(sha256, clip.signal)
    except AsdError:
        return ""  # reading it again for the model gives the reason


def _key(clip: Clip, sha256: str, facts: Facts | None = None) -> ClipKey:
    return ClipKey(clip.clip_id, sha256, clip.domain, clip.condition, clip.attributes, facts)
