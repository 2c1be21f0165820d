"""The bank: one fitted scorer a section, on disk, with a record of how it was made."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cache import places
from cache.atomic import write_atomic
from cache.errors import AsdError, listing
from cache.locks import locked
from cache.options import Option, make, options_of
from cache.recipe import Recipe, from_json
from cache.table import Section
from index.knn import NearestNeighbours
from index.scorer import Scorer, State, find
from index.threshold import Threshold

_FORMAT = 2  # 1 had no digest of the record itself
_DIGEST = "sha256"  # of all else that the record says
_RECORD = "record.json"
_HELD_OUT = "held_out"  # beside the scorer's own arrays
_TRIES = 5  # to read a section that is being written anew all the time
_REMEDY = "build it with `python -m index.run`"


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

    def train_scores(self) -> NDArray[np.float64]:
        """Give the (n,) scores of unseen normal clips: of held-out files, or of clips left out."""
        return self.held_out if self.held_out.size else self.scorer.train_scores()


class Bank:
    """Fitted sections below one folder, ``<machine_type>/section_<nn>/``.

    A section is a JSON record and the data files it names, with their SHA-256 in the name and in
    the record; the record is written last, so a reader sees the old section or the new one.

    Parameters
    ----------
    root
        The bank's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def sections(self) -> list[Section]:
        """Sections that have a record, ascending."""
        return sorted(
            Section(path.parts[-3], int(path.parts[-2].removeprefix("section_")))
            for path in places.matching(self.root, f"*/section_*/{_RECORD}")
        )

    def holds(self, section: Section) -> bool:
        """Whether a section has a record; nothing is listed for it."""
        return places.exists(self.root / str(section) / _RECORD)

    def write(self, fitted: FittedSection) -> Path:
        """Write a section, replacing what was there; safe beside other writers.

        Returns
        -------
        Path
            Its record.
        """
        with locked(self.root):
            return self._write(fitted)

    def _write(self, fitted: FittedSection) -> Path:
        folder = self.root / str(fitted.section)
        files = {}
        for name, data in _serialised({**fitted.scorer.state(), _HELD_OUT: fitted.held_out}):
            sha256 = hashlib.sha256(data).hexdigest()
            stem, suffix = name.rsplit(".", 1)
            files[name] = {"file": f"{stem}-{sha256[:12]}.{suffix}", "sha256": sha256}
            write_atomic(folder / files[name]["file"], data)
        record = folder / _RECORD
        told = _record(fitted, files)
        text = json.dumps({**told, _DIGEST: _digest(told)}, indent=2, allow_nan=False)
        write_atomic(record, text.encode())
        for path in _unnamed(record, told):
            places.remove(path)
        return record

    def tidy(self, section: Section) -> None:
        """Remove data files that a section's record does not name: a killed run left them.

        Object storage has no locks, so that they may be another run's there: they stay.
        """
        record = self._record_path(section)
        if places.is_remote(self.root) or not _unnamed(record, _read_record(record)):
            return
        with locked(self.root):
            for path in _unnamed(record, _read_record(record)):
                places.remove(path)

    def recipe(self) -> Recipe:
        """Recipe of the embeddings that the bank's sections score.

        Raises
        ------
        AsdError
            If the bank is empty.
        """
        sections = self.sections()
        if not sections:
            raise AsdError(f"no bank in {self.root}: {_REMEDY}")
        return from_json(json.dumps(_read_record(self._record_path(sections[0]))["recipe"]))

    def read(self, section: Section, recipe: Recipe) -> FittedSection:
        """Read a section that scores embeddings of a recipe.

        Another run may write it anew meanwhile, and remove the files that its old record named:
        then the new one is read.

        Raises
        ------
        AsdError
            If there is none, a file is missing or damaged, or the fingerprint is another.
        """
        path = self._record_path(section)
        for _ in range(_TRIES - 1):
            record = _read_record(path)
            try:
                return self._restored(record, section, recipe)
            except AsdError:
                if _read_record(path) == record:
                    raise
        return self._restored(_read_record(path), section, recipe)

    def _restored(
        self, record: Mapping[str, Any], section: Section, recipe: Recipe
    ) -> FittedSection:
        path = self._record_path(section)
        if (record["machine_type"], record["section"]) != (section.machine_type, section.number):
            held = f"{record['machine_type']} section {record['section']}"
            raise AsdError(f"{path} is of {held}, its place says {section}; {_REMEDY}")
        if record["fingerprint"] != recipe.fingerprint:
            raise AsdError(
                f"{path} was built from embeddings {record['fingerprint']}, not "
                f"{recipe.fingerprint} ({recipe}); build a bank from these or choose the others"
            )
        try:
            return _restore(path, record, section, recipe)
        except (KeyError, TypeError, ValueError, BadZipFile) as error:
            raise AsdError(f"{path} is damaged ({error!r}); {_REMEDY}") from error

    def _record_path(self, section: Section) -> Path:
        if not self.holds(section):
            held = listing(self.sections())
            raise AsdError(f"no {section} in the bank {self.root}, which holds {held}; {_REMEDY}")
        return self.root / str(section) / _RECORD


def bank_root(
    cache_dir: Path,
    recipe: Recipe,
    scorer_name: str,
    scorer: Scorer,
    *,
    with_synthetic: bool = False,
) -> Path:
    """Where a bank lies unless a folder is named.

    Parameters
    ----------
    cache_dir
        The cache folder.
    recipe, scorer_name, scorer
        What the bank is made of; the scorer's options are part of the name.
    with_synthetic
        Whether synthetic training clips are in it.
    """
    made_of = {**options_of(scorer), **({"synthetic": True} if with_synthetic else {})}
    options = json.dumps(made_of, sort_keys=True)
    digest = hashlib.sha256(options.encode()).hexdigest()[:8]
    return cache_dir / "banks" / recipe.fingerprint / f"{scorer_name}-{digest}"


def find_bank(cache_dir: Path, recipe: Recipe, scorer_name: str) -> Bank:
    """Find the one bank of a recipe and a scorer.

    Raises
    ------
    AsdError
        If there is none or, with different options, more than one; the candidates are listed.
    """
    folder = cache_dir / "banks" / recipe.fingerprint
    # The digest of eight hexadecimal digits tells `ldn` from a scorer `ldn-x`.
    records = places.matching(folder, f"{scorer_name}-{'[0-9a-f]' * 8}/*/section_*/{_RECORD}")
    banks = [Bank(path) for path in sorted({record.parents[2] for record in records})]
    if not banks:
        raise AsdError(f"no bank of {scorer_name} for {recipe} in {folder}; {_REMEDY}")
    if len(banks) > 1:
        listed = "\n".join(f"  --bank {bank.root}  {_described(bank)}" for bank in banks)
        raise AsdError(f"{len(banks)} banks of {scorer_name} for {recipe}; choose one:\n{listed}")
    return banks[0]


def _described(bank: Bank) -> str:
    record = _read_record(bank.root / str(bank.sections()[0]) / _RECORD)
    options = {**record["options"], "synthetic clips": record.get("synthetic", 0)}
    return " ".join(f"{name}={value}" for name, value in options.items())


def _unnamed(record: Path, told: Mapping[str, Any]) -> list[Path]:
    """Files beside a record that it does not name."""
    named = {entry["file"] for entry in told["files"].values()} | {_RECORD}
    files = places.matching(record.parent, "*")
    return [path for path in files if path.name not in named and not path.name.startswith(".")]


def _record(fitted: FittedSection, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    threshold = asdict(fitted.threshold)
    threshold["value"] = fitted.threshold.value if np.isfinite(fitted.threshold.value) else None
    return {
        "format": _FORMAT,
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
        "threshold": threshold,
        "files": files,
        "recall": {
            f"{name}.faiss": value.recall
            for name, value in fitted.scorer.state().items()
            if isinstance(value, NearestNeighbours)
        },
        "versions": {name: version(name) for name in ("faiss-cpu", "numpy", "scipy")},
    }


def _digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of what a record says, however it is laid out."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _serialised(state: State) -> Iterator[tuple[str, bytes]]:
    """One FAISS file an index, one NumPy file for all arrays."""
    arrays = {}
    for name, value in state.items():
        if isinstance(value, NearestNeighbours):
            yield f"{name}.faiss", value.to_bytes()
        else:
            arrays[name] = value
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    yield "state.npz", buffer.getvalue()


def _restore(
    path: Path, record: Mapping[str, Any], section: Section, recipe: Recipe
) -> FittedSection:
    state: State = {}
    for name, entry in record["files"].items():
        data = _read_data(path.parent / Path(entry["file"]).name, entry["sha256"])
        if name.endswith(".faiss"):
            recall = record["recall"][name]
            state[name.removesuffix(".faiss")] = NearestNeighbours.from_bytes(data, recall)
        else:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                state |= dict(arrays)
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
    )


def _read_data(path: Path, sha256: str) -> bytes:
    try:
        data = places.read_bytes(path)
    except OSError as error:
        raise AsdError(f"{path}: {error.strerror}; {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise AsdError(f"{path} is damaged: its SHA-256 is not the record's; {_REMEDY}")
    return data


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(places.read_bytes(path))
        known = record["format"] == _FORMAT
        told = {name: value for name, value in record.items() if name != _DIGEST}
        intact = not known or record[_DIGEST] == _digest(told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AsdError(f"{path} is not a bank record ({error!r}); {_REMEDY}") from error
    if not known:
        raise AsdError(f"{path} has format {record['format']!r}, known is {_FORMAT}; {_REMEDY}")
    if not intact:
        raise AsdError(f"{path} is damaged: what it says does not match its SHA-256; {_REMEDY}")
    return record
