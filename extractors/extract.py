"""The extraction: clips x backbones to tables, one decoding, resumable, nothing lost."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cache.base.errors import AsdError
from cache.base.progress import Progress, unseen
from cache.facts import told as said_of
from cache.recipe import Recipe
from cache.store import Store
from extractors.audio.decode import read_audio
from extractors.audio.hearing import hearings, resolved
from extractors.clips.listing import Clip, Listing, list_clips
from extractors.embedding.embedder import Forward, least_cosine
from extractors.embedding.formats import in_integers, settled
from extractors.embedding.models import load_forwards
from extractors.engines.local import Report, extraction
from extractors.fetching.offline import apply_offline
from extractors.request import AUTO, DTYPES, GRAPHS, INT8, RAY, ExtractRequest

_MOST_CANCELLED = 0.9  # share of the energy above which the machine itself goes
_COMPARED = 4  # clips on which a smaller number format is held against float32
_FAITHFUL = 0.999  # cosine below which it is warned of
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extracted:
    """What an extraction did.

    Attributes
    ----------
    listing
        The clips asked for, what of the data could not be used, and how it was read.
    recipes
        Of the tables, backbone by backbone.
    reports
        One a backbone.
    lost
        Tables that no worker of a cluster finished, and why.
    """

    listing: Listing
    recipes: tuple[tuple[Recipe, ...], ...]
    reports: tuple[Report, ...]
    lost: tuple[str, ...] = ()

    @property
    def faults(self) -> list[str]:
        """Everything left out, with the reason, once each."""
        found = [*self.listing.faults, *(f for report in self.reports for f in report.faults)]
        return list(dict.fromkeys(map(str, found)))

    @property
    def remarks(self) -> list[str]:
        """What the recordings turned out to be that a user must know, a line a kind."""
        return _said(self.reports)

    @property
    def removed(self) -> list[str]:
        """Ids of clips that are no longer in the data and were taken out of the tables."""
        return sorted({clip_id for report in self.reports for clip_id in report.removed})


def extract(request: ExtractRequest, told: Progress = unseen) -> Extracted:
    """Bring embedding tables up to date with data roots; only what is missing is made.

    Parameters
    ----------
    request
        Which data, which tables, where.
    told
        How many clips are done, each counted once a backbone.

    Raises
    ------
    AsdError
        If the data, an option or weights are not to be had, the store cannot be written, or at the
        first unusable clip where strict.
    """
    apply_offline(request)
    if not request.data:
        raise AsdError("--data is needed: the data roots")
    request, listing = _listed(request)
    # Of a cluster's work this process only makes the recipes.
    forwards = load_forwards(replace(request, device="cpu") if request.engine == RAY else request)
    if request.engine in GRAPHS:
        if request.dtype != DTYPES[0]:
            store, asked = Store(request.cache_dir), request.dtype == INT8
            forwards = [in_integers(each, listing.clips, store, asked=asked) for each in forwards]
    elif request.dtype == AUTO:
        forwards = [settled(each, listing.clips, Store(request.cache_dir)) for each in forwards]
    elif request.dtype != DTYPES[0]:
        for forward in forwards:
            _tell_deviation(forward, listing.clips)
    recipes = tuple(tuple(output.recipe for output in each.outputs) for each in forwards)
    done = _run(request, forwards, listing, told)
    extracted = replace(done, recipes=recipes)
    _tell_cancelled(done.reports[0])  # every backbone hears the same
    return extracted


def _listed(request: ExtractRequest) -> tuple[ExtractRequest, Listing]:
    """List the clips asked for, and settle which channels ``all`` are."""
    listing = list_clips(request.data, request.supplemental)
    found = {clip.attributes.get("supplemental") for clip in listing.clips}
    if lacking := sorted(set(request.supplemental) - found):
        raise AsdError(f"--supplemental {lacking[0]}: no such clips in any <machine>/supplemental/")
    if request.strict and listing.faults:
        raise AsdError(str(listing.faults[0]))
    listing = listing.only(request.machine, request.split)
    request = replace(request, heard=resolved(request.heard, listing.clips))
    return request, hearings(request.heard)[0].cut(listing)


def _run(request: ExtractRequest, forwards: Sequence[Forward], listing: Listing, told: Progress) -> Extracted:
    if request.engine == RAY:
        try:  # an optional extra, of hundreds of megabytes
            from extractors.engines import ray_  # noqa: PLC0415
        except ImportError as error:
            raise AsdError(f"--engine ray: {error}; pip install 'machine-asd[ray]'") from error
        outcome = ray_.extract(request, forwards, listing.clips, told)
        return Extracted(listing, (), tuple(outcome.reports), tuple(map(str, outcome.lost)))
    reports = extraction(request, forwards).run(listing.clips, told)
    return Extracted(listing, (), tuple(reports))


def _tell_deviation(forward: Forward, clips: Sequence[Clip]) -> None:
    """Say how far the vectors in a smaller number format are from those in float32."""
    spec, cosines = forward.backbone.spec, []
    for clip in clips[:_COMPARED]:
        try:
            channel = forward.hearing.channel
            heard = read_audio(clip.path, spec.sample_rate, clip.span, channel, clip.signal).samples
            samples = forward.hearing.fit(heard, spec.sample_rate)
        except AsdError:
            continue  # it is named when its turn comes
        if samples.shape[-1] >= spec.min_samples:
            cosines.append(least_cosine(forward, samples[None]))
    if cosines:
        level = logging.INFO if min(cosines) >= _FAITHFUL else logging.WARNING
        text = "%s in %s: cosine to float32 at least %.6f on %d clips"
        _LOG.log(level, text, spec.name, forward.outputs[0].dtype, min(cosines), len(cosines))


def _tell_cancelled(report: Report) -> None:
    """Say of each machine which share of its energy ``--channel cancel`` took."""
    for machine_type, (before, after) in sorted(report.energy.items()):
        share = 1 - after / before if before else 0.0
        text = f"{machine_type}: {100 * share:.1f} % of the near channel's energy cancelled"
        if share > _MOST_CANCELLED:
            _LOG.warning("%s; the far channel hears the machine too: try --channel near", text)
        else:
            _LOG.info("%s", text)


def _said(reports: Sequence[Report]) -> list[str]:
    """Write down what clips turned out to be: a line a kind, however many backbones heard them."""
    return said_of(list(dict.fromkeys(r for report in reports for r in report.remarks)))
