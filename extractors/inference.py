"""Clips to embeddings by models that stay loaded: what a recipe says, without a lasting store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from cache.base.errors import AsdError
from cache.files.atomic import scratch_folder
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from extractors import choices, pooling
from extractors.audio.hearing import Hearing, hearing_of
from extractors.backbone import RANDOM, Source
from extractors.clips.listing import Clip, Fault, Listing
from extractors.embedder import Forward
from extractors.extract import Extraction
from extractors.models import load_model
from extractors.output import DTYPES, Output
from extractors.weights.published import published


@dataclass(frozen=True)
class Embedded:
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

    def embed(self, clips: Sequence[Clip]) -> Embedded:
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
        return Embedded(found, tuple(faults))

    def _run(self, store: Store, clips: Sequence[Clip]) -> list[Fault]:
        reports = Extraction(self.forwards, store).run(clips)
        faults = (fault for report in reports for fault in report.faults)
        return list({str(fault): fault for fault in faults}.values())


def recipe_forwards(recipe: Recipe, weights: Sequence[str], device: str = "cpu") -> list[Forward]:
    """Load the models that a recipe was made with, each once.

    Parameters
    ----------
    recipe
        What a bank scores; a concatenation is made backbone by backbone.
    weights
        Checkpoints of the backbones that need one: ``FILE`` or ``NAME=FILE``. A published one is
        known by the recipe's hash and need not be given.
    device
        Where they compute.

    Raises
    ------
    AsdError
        If this installation cannot repeat the recipe, or weights are not to be had.
    """
    models: dict[tuple[str, str | None, Hearing], list[Recipe]] = {}
    for parent in recipe.parents or (recipe,):
        hearing = hearing_of(parent)
        models.setdefault((_named(parent), parent.weights, hearing), []).append(parent)
    # A plain FILE is clear where only one backbone has weights.
    names = list(dict.fromkeys(p.backbone for p, *_ in models.values() if p.weights))
    forwards = []
    for (text, sha256, _), recipes in models.items():
        given = ["random"] if sha256 == RANDOM else weights if sha256 else ()
        source = _as_recorded(choices.source(given, text, names), sha256)
        forwards.append(_forward(recipes, source, device))
    return forwards


def _as_recorded(source: Source, sha256: str | None) -> Source:
    """Ask for the very file that the recipe names, whatever is published under its name."""
    if sha256 is None or source.seed is not None:
        return source
    checkpoint = published(sha256)
    if source.weights is None and checkpoint is not None and checkpoint.urls:
        source = replace(source, weights=Path(checkpoint.name))
    return replace(source, accepted=(sha256,))


def _named(recipe: Recipe) -> str:
    """Name the backbone as on the command line: which model of the hub, which variant."""
    settings = dict(recipe.settings)
    model = f"{settings['model']}@{settings['revision']}" if "model" in settings else ""
    return f"{recipe.backbone}:{model or settings.get('variant', '')}"


def _forward(recipes: Sequence[Recipe], source: Source, device: str) -> Forward:
    """Load the model of recipes that differ in layer, pooling and bands only."""
    backbone, where = load_model(recipes[0].backbone, source, device)
    outputs = []
    for recipe in recipes:
        how = pooling.find(str(recipe.pooling), backbone.spec.tuned)
        dtype = str(dict(recipe.settings).get("dtype", DTYPES[0]))
        layer, bands = int(recipe.layer or 0), str(recipe.bands)
        output = Output(backbone.spec, layer, how, bands, dtype, hearing_of(recipe))
        _check_same(output.recipe, recipe)
        outputs.append(output)
    return Forward(backbone, outputs, where)


def _check_same(ours: Recipe, wanted: Recipe) -> None:
    if ours == wanted:
        return
    differing = [
        f"{item.name} {getattr(ours, item.name)!r} instead of {getattr(wanted, item.name)!r}"
        for item in fields(Recipe)
        if getattr(ours, item.name) != getattr(wanted, item.name)
    ]
    raise AsdError(
        f"this installation makes other embeddings than the bank's ({wanted}): "
        f"{'; '.join(differing)}; install the versions the bank was built with, give its "
        "--weights, or build the bank anew"
    )
