"""Embeddings of new test clips for a bank that was built elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch

from cache.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from extractors import choices, pooling
from extractors.backbone import Source
from extractors.checkpoints import published
from extractors.clips import Fault, list_clips
from extractors.extract import Extraction
from extractors.forward import Forward
from extractors.hearing import Hearing, hearing_of
from extractors.loading import RANDOM
from extractors.output import DTYPES, Output
from extractors.tuned import load_any


def extract_tests(
    roots: Sequence[Path], recipe: Recipe, store: Store, weights: Sequence[str]
) -> list[Fault]:
    """Extract the test clips of data roots as a recipe says.

    Parameters
    ----------
    roots
        Data roots; their training clips are not looked at.
    recipe
        What a bank scores; a concatenation is extracted backbone by backbone.
    store
        Where the tables go.
    weights
        Checkpoints of the backbones that need one: ``FILE`` or ``NAME=FILE``. A published one is
        known by the recipe's hash and need not be given.

    Returns
    -------
    list of Fault
        Clips left out, each with the reason.

    Raises
    ------
    AsdError
        If there is no test clip, or this installation cannot repeat the recipe.
    """
    parents = recipe.parents or (recipe,)
    listing = hearing_of(parents[0]).cut(list_clips(roots).only([], ["test"]))
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    models: dict[tuple[str, str | None, Hearing], list[Recipe]] = {}
    for parent in parents:
        hearing = hearing_of(parent)
        models.setdefault((_named(parent), parent.weights, hearing), []).append(parent)
    # A plain FILE is clear where only one backbone has weights.
    names = list(dict.fromkeys(p.backbone for p, *_ in models.values() if p.weights))
    forwards = []
    for (text, sha256, _), recipes in models.items():
        given = ["random"] if sha256 == RANDOM else weights if sha256 else ()
        source = _as_recorded(choices.source(given, text, names), sha256)
        forwards.append(_forward(recipes, source, torch.device("cpu")))
    reports = Extraction(forwards, store).run(listing.clips)
    left_out = (fault for report in reports for fault in report.faults)
    return [*listing.faults, *{fault.path: fault for fault in left_out}.values()]


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


def _forward(recipes: Sequence[Recipe], source: Source, device: torch.device) -> Forward:
    """Load the model of recipes that differ in layer, pooling and bands only."""
    backbone = load_any(recipes[0].backbone, source, device)
    outputs = []
    for recipe in recipes:
        how = pooling.find(str(recipe.pooling), backbone.spec.tuned)
        dtype = str(dict(recipe.settings).get("dtype", DTYPES[0]))
        layer, bands = int(recipe.layer or 0), str(recipe.bands)
        output = Output(backbone.spec, layer, how, bands, dtype, hearing_of(recipe))
        _check_same(output.recipe, recipe)
        outputs.append(output)
    return Forward(backbone, outputs, device)


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
