"""The extraction: clips x backbones to tables of a store, resumable, nothing lost; or to memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cache.base.errors import AsdError
from cache.base.progress import Progress, unseen
from cache.facts import told as said_of
from cache.files.atomic import scratch_folder
from cache.heard import SIGNAL_SUFFIXES
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from extractors.audio.decode import read_audio
from extractors.audio.hearing import hearing_of, hearings, resolved
from extractors.clips.listing import Clip, Fault, Listing, list_clips
from extractors.embedding.embedder import Forward, least_cosine
from extractors.embedding.formats import in_integers, settled
from extractors.embedding.models import load_forwards, recipe_forwards
from extractors.engines.local import Extraction, Report, extraction
from extractors.engines.tables import Outcome
from extractors.fetching.offline import apply_offline
from extractors.request import AUTO, DTYPES, GRAPHS, INT8, RAY, ExtractRequest

_MOST_CANCELLED = 0.9  # share of the energy above which the machine itself goes
_COMPARED = 4  # clips on which a smaller number format is held against float32
_FAITHFUL = 0.999  # cosine below which it is warned of
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractResult:
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
        # However many backbones heard them.
        return said_of(list(dict.fromkeys(r for report in self.reports for r in report.remarks)))

    @property
    def removed(self) -> list[str]:
        """Ids of clips that are no longer in the data and were taken out of the tables."""
        return sorted({clip_id for report in self.reports for clip_id in report.removed})


def extract(request: ExtractRequest, told: Progress = unseen) -> ExtractResult:
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
    if request.engine == RAY:
        try:  # an optional extra, of hundreds of megabytes
            from extractors.engines import ray_  # noqa: PLC0415
        except ImportError as error:
            raise AsdError(f"--engine ray: {error}; pip install 'machine-asd[ray]'") from error
        outcome = ray_.extract(request, forwards, listing.clips, told)
    else:
        outcome = Outcome(extraction(request, forwards).run(listing.clips, told))
    _tell_cancelled(outcome.reports[0])  # every backbone hears the same
    recipes = tuple(tuple(output.recipe for output in each.outputs) for each in forwards)
    return ExtractResult(listing, recipes, tuple(outcome.reports), tuple(map(str, outcome.lost)))


def _listed(request: ExtractRequest) -> tuple[ExtractRequest, Listing]:
    """List the clips asked for, and settle which channels ``all`` are."""
    listing = list_clips(request.data, request.supplemental)
    found = {clip.attributes.get("supplemental") for clip in listing.clips}
    if lacking := sorted(set(request.supplemental) - found):
        raise AsdError(f"--supplemental {lacking[0]}: no such clips in any <machine>/supplemental/")
    if request.strict and listing.faults:
        raise AsdError(str(listing.faults[0]))
    listing = listing.only(request.machine, request.split)
    told = {"--rate": request.heard.rate, "--column": request.heard.column}
    if listing.clips and not any(clip.path.suffix.lower() in SIGNAL_SUFFIXES for clip in listing.clips):
        for flag, value in told.items():
            if value:
                raise AsdError(
                    f"{flag} {value} is of files of numbers, and there are only sound files, which tell it "
                    "themselves: leave it out"
                )
    request = replace(request, heard=resolved(request.heard, listing.clips))
    return request, hearings(request.heard)[0].cut(listing)


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


@dataclass(frozen=True)
class Embeddings:
    """Clips in memory.

    Attributes
    ----------
    tables
        Section to its (N, D) clips.
    faults
        Clips that could not be used, each with the reason.
    """

    tables: dict[Section, EmbeddingTable]
    faults: tuple[Fault, ...]


class Inference:
    """The models of a recipe, loaded once.

    Parameters
    ----------
    recipe
        What a bank scores; a concatenation has several models.
    weights
        See `recipe_forwards`.
    forwards
        The models, where they are loaded already.

    Raises
    ------
    AsdError
        If this installation cannot repeat the recipe, or weights are not to be had.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Sequence[str] = (),
        forwards: Sequence[Forward] | None = None,
    ) -> None:
        self.recipe = recipe
        self.forwards = forwards or recipe_forwards(recipe, weights)

    def cut(self, listing: Listing) -> Listing:
        """Cut long recordings into the windows that the recipe has, see `Hearing.cut`."""
        return hearing_of((self.recipe.parents or (self.recipe,))[0]).cut(listing)

    def embed(self, clips: Sequence[Clip]) -> Embeddings:
        """Embed clips of one split, windows being clips of their own (`Hearing.cut`).

        Their vectors are those that an extraction makes: it is one, into a folder that is removed.

        Raises
        ------
        AsdError
            If the temporary folder cannot be written.
        """
        with scratch_folder() as folder:
            store = Store(folder)
            faults = self._run(store, clips)
            failed = {fault.path for fault in faults}
            good = [clip for clip in clips if clip.path not in failed]
            if failed and good:  # what one backbone cannot use is taken from the others too
                self._run(store, good)
            sections = {clip.section for clip in good}
            found = {
                table.section: store.read(self.recipe, table.section, table.split)
                for table in store.tables(self.recipe)
                if table.section in sections
            }
        return Embeddings(found, tuple(faults))

    def _run(self, store: Store, clips: Sequence[Clip]) -> list[Fault]:
        reports = Extraction(self.forwards, store).run(clips)
        faults = (fault for report in reports for fault in report.faults)
        return list({str(fault): fault for fault in faults}.values())
