"""A fitted section: its scorer with all that belongs to it, and how that becomes files."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import Option, make, options_of
from cache.base.text import parse_json
from cache.facts import Usual
from cache.files import places
from cache.files.bounds import read_npz
from cache.recipe import Recipe
from cache.table import Section
from index.calibration import Calibration
from index.knn import NearestNeighbours
from index.scorer import Scorer, State, find
from index.threshold import ENOUGH, Threshold, largest_limit, largest_p_values, vary

RECORD = "record.json"
FORMAT = 2
REMEDY = "build it with `python -m index.run`"
_DIGEST = "sha256"  # of all else that the record says


def record_bytes(told: Mapping[str, Any]) -> bytes:
    """Write what a record says, with its digest, as JSON."""
    text = json.dumps({**told, _DIGEST: digest(told)}, indent=2, allow_nan=False)
    return text.encode()


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    AsdError
        If it is not one, is of another format, or does not match its digest.
    """
    try:
        record: dict[str, Any] = parse_json(places.read_bytes(path))
        known = record["format"] == FORMAT
        told = {name: value for name, value in record.items() if name != _DIGEST}
        intact = not known or record[_DIGEST] == digest(told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AsdError(f"{path} is not a bank record ({error!r}); {REMEDY}") from error
    if not known:
        held = f"format {record['format']!r}, known is {FORMAT}"
        raise AsdError(f"{path} was made by another version ({held}): {REMEDY} again")
    if not intact:
        raise AsdError(f"{path} is damaged: what it says does not match its SHA-256; {REMEDY}")
    return record


def unnamed(record: Path, told: Mapping[str, Any]) -> list[Path]:
    """Files beside a record that it does not name."""
    named = {entry["file"] for entry in told["files"].values()} | {RECORD}
    files = places.matching(record.parent, "*")
    return [path for path in files if path.name not in named and not path.name.startswith(".")]


def digest(told: Mapping[str, Any]) -> str:
    """SHA-256 of what a record says, however it is laid out."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


_HELD_OUT, _GROUPS = "held_out", "held_out_groups"  # beside the scorer's own arrays


@dataclass(frozen=True, kw_only=True)
class JudgedSection:
    """How scores of a section are judged, whatever gave them.

    Attributes
    ----------
    section
        Which machine.
    threshold
        Learnt from its training scores.
    clips
        Domain to number of training clips.
    copies
        How many training clips were left out because another holds the same sound.
    usual
        What the training recordings have in common; ``None`` where it is not known.
    calibration
        How its threshold was learnt.
    """

    section: Section
    threshold: Threshold
    clips: Mapping[str, int]
    copies: int = 0
    usual: Usual | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def train_scores(self) -> NDArray[np.float64]:
        """Give the (n,) scores of unseen normal clips."""
        return self.calibration.scores

    def groups(self) -> NDArray[np.intp] | None:
        """Give the (n,) group that each of `train_scores` was left out with; `None` for none."""
        return self.calibration.groups if self.calibration.scores.size else None

    def limit(self, count: int = 1) -> float:
        """Give the score above which the largest of `count` windows is called anomalous."""
        return largest_limit(self.threshold, self.train_scores(), count, self.groups())

    def p_values(
        self, scores: NDArray[np.float64], counts: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        """Say how often a normal clip of a new group would score as high; see `p_values`.

        Parameters
        ----------
        scores
            (Q,).
        counts
            (Q,) of how many windows each is the largest; of one where not said.
        """
        each = np.ones(len(scores), dtype=np.intp) if counts is None else counts
        return largest_p_values(self.train_scores(), scores, each, self.groups())

    @property
    def promised(self) -> float:
        """Share of normal clips that are meant to be flagged."""
        return 1 - self.threshold.percentile / 100

    def promise(self) -> str:
        """Say how often a normal clip is flagged, and on what condition."""
        known = self.calibration
        vary = f"if new recordings vary as the {known.count} groups did that were left out in turn"
        return f"about {frequency(self.promised)} normal clips is flagged {vary} ({known.told})"

    def cautions(self) -> dict[str, str]:
        """Say what a reader of decisions must know of the training clips: kind to a sentence."""
        count, groups = sum(self.clips.values()), self.calibration.count
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
        rarest = 1 / (groups + 1)
        if np.isinf(self.threshold.value):
            reason = (
                f"{count} different training {'clip' if count == 1 else 'clips'}"
                if count < 3
                else f"scores of the {count} training clips that do not vary"
                if not vary(self.train_scores())
                else f"{groups or count} groups, which show nothing rarer than {frequency(rarest)}"
            )
            words["threshold"] = (
                f"not judged: no threshold can be learnt from {reason}; every decision will be 0. "
                f"Record more normal clips, {ENOUGH} or more"
            )
        elif count < ENOUGH or groups == 1:
            known = "all of one group" if count >= ENOUGH else f"of {ENOUGH} that it takes"
            words["threshold"] = f"the threshold is a guess: {count} different training clips, {known}"
        elif self.promised < rarest:
            words["threshold"] = (
                f"the threshold is extrapolated: {groups} groups of training clips "
                f"show nothing rarer than {frequency(rarest)}, {frequency(self.promised)} is asked"
            )
        return words

    def facts(self) -> dict[str, Any]:
        """Give what a record and a results folder hold of the calibration."""
        known = self.calibration
        return {
            "grouping": known.grouping,
            "assumed": known.told,
            "groups": known.count,
            "least_p": 1 / (known.count + 1),
            "promised": self.promised,
        }

    def check_supported(self, asked: str) -> None:
        """Refuse a rate of false alarms that the training clips cannot show.

        Parameters
        ----------
        asked
            As the user wrote it.

        Raises
        ------
        AsdError
            If it is rarer than one group in all.
        """
        known = self.calibration
        rarest = 1 / (known.count + 1)
        if self.promised < rarest * (1 - 1e-9):
            raise AsdError(
                f"--false-alarms {asked} is {frequency(self.promised)} clips, but the "
                f"{known.count} groups of training clips of {self.section} (--group "
                f"{known.grouping}) show nothing rarer than {frequency(rarest)}: record "
                "more, allow more alarms, or take --percentile, which extrapolates and says so"
            )


@dataclass(frozen=True, kw_only=True)
class FittedSection(JudgedSection):
    """A section's scorer with all that belongs to it.

    Attributes
    ----------
    recipe
        Recipe of the embeddings it was fitted to, and the only one it may score.
    scorer_name
        The scorer's name on the command line.
    scorer
        The fitted scorer.
    synthetic
        How many training clips are synthetic.
    left_out
        How many synthetic training clips were left out.
    recordings
        How many files the training clips are, or are windows of; 0 where it is not known.
    training
        `cache.store.Store.digest` of the training table; empty where it is not known.
    """

    recipe: Recipe
    scorer_name: str
    scorer: Scorer
    synthetic: int = 0
    left_out: int = 0
    recordings: int = 0
    training: str = ""

    def train_scores(self) -> NDArray[np.float64]:
        """Give the (n,) scores of unseen normal clips: of held-out groups, or of clips left out."""
        held_out = self.calibration.scores
        return held_out if held_out.size else self.scorer.train_scores()


def frequency(share: float) -> str:
    """Write a share of clips as ``1 in N``, or in per cent above a half."""
    return f"1 in {1 / share:.0f}" if share <= 0.5 else f"{100 * share:.0f} % of"


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
        "calibration": fitted.facts(),
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
    known = {_HELD_OUT: fitted.calibration.scores, _GROUPS: fitted.calibration.groups}
    for name, value in {**fitted.scorer.state(), **known}.items():
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
    held_out, groups = (np.asarray(state.pop(name)) for name in (_HELD_OUT, _GROUPS))
    told: Mapping[str, Any] = record["calibration"]
    calibration = Calibration(told["grouping"], told["assumed"], told["groups"], held_out, groups)
    scorer.restore(state)
    limits = dict(record["threshold"])
    limits["value"] = np.inf if limits["value"] is None else limits["value"]
    return FittedSection(
        section=section,
        recipe=recipe,
        scorer_name=record["scorer"],
        scorer=scorer,
        threshold=Threshold(**limits),
        clips=record["clips"],
        **{name: record[name] for name in ("synthetic", "left_out", "recordings", "training", "copies")},
        usual=Usual(**record["usual"]) if record["usual"] else None,
        calibration=calibration,
    )
