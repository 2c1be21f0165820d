"""Clips to embeddings by models that stay loaded: what a recipe says, without a lasting store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.files.atomic import scratch_folder
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from extractors.audio.hearing import hearing_of
from extractors.clips.listing import Clip, Fault, Listing
from extractors.embedding.embedder import Forward
from extractors.embedding.models import recipe_forwards
from extractors.engines.local import Extraction


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
