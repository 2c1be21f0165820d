"""Embeddings of new test clips for a bank that was built elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from cache.recipe import Recipe
from cache.store import Store
from extractors.audio.hearing import hearing_of
from extractors.clips.listing import Fault, list_clips
from extractors.embedding.models import recipe_forwards
from extractors.engines.local import Extraction

_LOG = logging.getLogger(__name__)


def extract_tests(roots: Sequence[Path], recipe: Recipe, store: Store, weights: Sequence[str]) -> list[Fault]:
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
        _LOG.info("%s", note)
    forwards = recipe_forwards(recipe, weights)
    reports = Extraction(forwards, store).run(listing.clips)
    left_out = (fault for report in reports for fault in report.faults)
    return [*listing.faults, *{fault.path: fault for fault in left_out}.values()]
