"""A fitted section: its scorer with all that belongs to it, and how that becomes files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.bounds import read_npz
from cache.facts import Usual
from cache.options import Option, make, options_of
from cache.recipe import Recipe
from cache.table import Section
from index.knn import NearestNeighbours
from index.record import FORMAT
from index.scorer import Scorer, State, find
from index.threshold import ENOUGH, Threshold, vary

_HELD_OUT = "held_out"  # beside the scorer's own arrays


@dataclass(frozen=True)
class FittedSection:
    """A section's scorer with all that belongs to it.

    Attributes
    ----------
    section
        Which machine.
    recipe
        Recipe of the embeddings it was fitted to, and the only one it may score.
    scorer_name
        The scorer's name on the command line.
    scorer
        The fitted scorer.
    threshold
        Learnt from its training scores.
    clips
        Domain to number of training clips.
    synthetic
        How many of them are synthetic.
    left_out
        How many synthetic training clips were left out.
    recordings
        How many files the training clips are, or are windows of; 0 where it is not known.
    training
        `cache.store.Store.digest` of the training table; empty where it is not known.
    copies
        How many training clips were left out because another holds the same sound.
    usual
        What the training recordings have in common; ``None`` where it is not known.
    held_out
        Of windows, see `index.held_out`; empty where clips were left out one by one.
    """

    section: Section
    recipe: Recipe
    scorer_name: str
    scorer: Scorer
    threshold: Threshold
    clips: Mapping[str, int]
    synthetic: int = 0
    held_out: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    left_out: int = 0
    recordings: int = 0
    training: str = ""
    copies: int = 0
    usual: Usual | None = None

    def train_scores(self) -> NDArray[np.float64]:
        """Give the (n,) scores of unseen normal clips: of held-out files, or of clips left out."""
        return self.held_out if self.held_out.size else self.scorer.train_scores()

    def cautions(self) -> dict[str, str]:
        """Say what a reader of decisions must know of the training clips: kind to a sentence."""
        count = sum(self.clips.values())
        words = {}
        if self.copies:
            verb = "is a copy" if self.copies == 1 else "are copies"
            words["copies"] = (
                f"{self.copies} of {count + self.copies} training clips {verb} of others (the same "
                "SHA-256 or the same samples): each sound counts once"
            )
        if self.usual is not None and self.usual.lacking:
            words["silent"] = (
                f"{self.usual.lacking} of {self.usual.clips} training clips are silent or constant: "
                "record them anew, or take them out and build the bank again"
            )
        if np.isinf(self.threshold.value):
            reason = (
                f"{count} different training {'clip' if count == 1 else 'clips'}"
                if count < 3
                else f"scores of the {count} training clips that do not vary"
                if not vary(self.train_scores())
                else f"only {count} training clips"
            )
            words["threshold"] = (
                f"not judged: no threshold can be learnt from {reason}; every decision will be 0. "
                f"Record more normal clips, {ENOUGH} or more"
            )
        elif count < ENOUGH:
            words["threshold"] = (
                f"the threshold is a guess: {count} different training clips, of {ENOUGH} that it "
                "takes"
            )
        return words


def told_of(fitted: FittedSection, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Say of a section what its record holds.

    Parameters
    ----------
    fitted
        The section.
    files
        Name in `data_files` to the file it lies in and its SHA-256.
    """
    threshold = asdict(fitted.threshold)
    threshold["value"] = fitted.threshold.value if np.isfinite(fitted.threshold.value) else None
    return {
        "format": FORMAT,
        "machine_type": fitted.section.machine_type,
        "section": fitted.section.number,
        "fingerprint": fitted.recipe.fingerprint,
        "recipe": json.loads(fitted.recipe.canonical),
        "scorer": fitted.scorer_name,
        "transductive": fitted.scorer.transductive,
        "options": options_of(fitted.scorer),
        "clips": dict(fitted.clips),
        "synthetic": fitted.synthetic,
        "left_out": fitted.left_out,
        "recordings": fitted.recordings,
        "training": fitted.training,
        "copies": fitted.copies,
        "usual": None if fitted.usual is None else asdict(fitted.usual),
        "threshold": threshold,
        "files": files,
        "recall": {
            f"{name}.faiss": value.recall
            for name, value in fitted.scorer.state().items()
            if isinstance(value, NearestNeighbours)
        },
        "versions": {name: version(name) for name in ("faiss-cpu", "numpy", "scipy")},
    }


def data_files(fitted: FittedSection) -> Iterator[tuple[str, bytes]]:
    """Name and content of a section's files: a FAISS file an index, a NumPy file for all arrays."""
    arrays = {}
    for name, value in {**fitted.scorer.state(), _HELD_OUT: fitted.held_out}.items():
        if isinstance(value, NearestNeighbours):
            yield f"{name}.faiss", value.to_bytes()
        else:
            arrays[name] = value
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    yield "state.npz", buffer.getvalue()


def restored(
    record: Mapping[str, Any], files: Iterable[tuple[str, bytes]], section: Section, recipe: Recipe
) -> FittedSection:
    """Make a section of its record and of its files, one after the other.

    Raises
    ------
    KeyError, TypeError, ValueError, zipfile.BadZipFile
        If they are not what `told_of` and `data_files` gave.
    """
    state: State = {}
    for name, data in files:
        if name.endswith(".faiss"):
            recall = record["recall"][name]
            state[name.removesuffix(".faiss")] = NearestNeighbours.from_bytes(data, recall)
        else:
            state |= read_npz(data)
    options: dict[str, Option] = record["options"]
    scorer = make(find(record["scorer"]), options)
    held_out = state.pop(_HELD_OUT, np.empty(0))
    scorer.restore(state)
    limits = dict(record["threshold"])
    limits["value"] = np.inf if limits["value"] is None else limits["value"]
    counts = record["clips"], int(record.get("synthetic", 0))
    return FittedSection(
        *(section, recipe, record["scorer"], scorer, Threshold(**limits), *counts),
        held_out=np.asarray(held_out),
        left_out=int(record.get("left_out", 0)),
        recordings=int(record.get("recordings", 0)),
        training=str(record.get("training", "")),  # banks of before did not say
        copies=int(record.get("copies", 0)),
        usual=Usual(**record["usual"]) if record.get("usual") else None,
    )
