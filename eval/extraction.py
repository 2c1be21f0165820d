"""Embeddings of new test clips for a bank that was built elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from cache.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from extractors import pooling, registry
from extractors.backbone import Source
from extractors.clips import Fault, list_clips
from extractors.extract import Extraction
from extractors.forward import Forward
from extractors.output import DTYPES, Output


def extract_tests(
    roots: Sequence[Path], recipe: Recipe, store: Store, weights: Path | None
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
        Checkpoint of the backbone that needs one.

    Returns
    -------
    list of Fault
        Clips left out, each with the reason.

    Raises
    ------
    AsdError
        If there is no test clip, or this installation cannot repeat the recipe.
    """
    listing = list_clips(roots).only([], ["test"])
    faults = list(listing.faults)
    device = torch.device("cpu")
    for parent in recipe.parents or (recipe,):
        needed = weights if parent.weights else None
        backbone = registry.find(parent.backbone).load(Source(weights=needed), device)
        how = pooling.find(str(parent.pooling), backbone.spec.tuned)
        dtype = str(dict(parent.settings).get("dtype", DTYPES[0]))
        output = Output(backbone.spec, int(parent.layer or 0), how, str(parent.bands), dtype)
        _check_same(output.recipe, parent)
        forward = Forward(backbone, [output], device)
        (report,) = Extraction([forward], store).run(listing.clips)
        faults += report.faults
    return faults


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
