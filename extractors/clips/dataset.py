"""What the task's published data sets hold, as far as that is public.

Machine types and sections: the task's pages (dcase.community/challenge<year>, task 2) and its
papers, arXiv 2006.05822, 2106.04492, 2206.05876, 2305.07828, 2406.07250, 2506.10097, 2606.01578.
Counts a section: the same, exact from 2022 on; in 2020 and 2021 only "about 1,000", so none are
given but the three target clips of 2021. Channels: 2026 records near the machine and far from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from cache.base.errors import AsdError
from cache.base.plugins import Plugins
from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.folders import audio_files, below, visible_folders

T = TypeVar("T")
Kind = tuple[str, str | None, str | None]  # split, domain, condition; None where not told


@dataclass(frozen=True, eq=False)
class KnownSet:
    """A part of one year's data, or of another public set.

    Attributes
    ----------
    year, part
        ``dev``: development; ``eval``: additional training and evaluation clips together. Of other sets
        their title, and no part.
    sections
        Machine type to section numbers.
    counts
        Clips a section, by kind; empty where they are not public.
    channels
        Of every recording.
    """

    year: int | str
    part: str
    sections: Mapping[str, tuple[int, ...]]
    counts: Mapping[Kind, int] = field(default_factory=dict)
    channels: int = 1

    def __str__(self) -> str:
        return f"DCASE {self.year} Task 2, {self.part}" if self.part else str(self.year)

    @property
    def every(self) -> list[Section]:
        """Its sections, one by one."""
        return [Section(machine, n) for machine, numbers in self.sections.items() for n in numbers]


def _each(names: str, *numbers: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names.split(), numbers)


_TRAIN: dict[Kind, int] = {
    ("train", "source", "normal"): 990,
    ("train", "target", "normal"): 10,
}
_LABELLED: dict[Kind, int] = {
    ("test", domain, condition): 50 for domain in ("source", "target") for condition in ("normal", "anomaly")
}
_DEV: dict[Kind, int] = {**_TRAIN, **_LABELLED}
_EVAL: dict[Kind, int] = {**_TRAIN, ("test", None, None): 200}
_TARGET_2021: dict[Kind, int] = {("train", "target", "normal"): 3}
_MIMII_2020 = "fan pump slider valve"
_OF_2021 = "ToyCar ToyTrain fan gearbox pump slider valve"
_OF_2022 = "ToyCar ToyTrain bearing fan gearbox slider valve"

KNOWN = (
    KnownSet(
        2020,
        "dev",
        _each("ToyCar", 1, 2, 3, 4) | _each("ToyConveyor", 1, 2, 3) | _each(_MIMII_2020, 0, 2, 4, 6),
    ),
    KnownSet(
        2020,
        "eval",
        _each("ToyCar", 5, 6, 7) | _each("ToyConveyor", 4, 5, 6) | _each(_MIMII_2020, 1, 3, 5),
    ),
    KnownSet(2021, "dev", _each(_OF_2021, 0, 1, 2), _TARGET_2021),
    KnownSet(2021, "eval", _each(_OF_2021, 3, 4, 5), _TARGET_2021),
    KnownSet(2022, "dev", _each(_OF_2022, 0, 1, 2), _DEV),
    KnownSet(2022, "eval", _each(_OF_2022, 3, 4, 5), _EVAL),
    KnownSet(2023, "dev", _each(_OF_2022, 0), _DEV),
    KnownSet(2023, "eval", _each("ToyDrone ToyNscale ToyTank Vacuum bandsaw grinder shaker", 0), _EVAL),
    KnownSet(2024, "dev", _each(_OF_2022, 0), _DEV),
    KnownSet(
        2024,
        "eval",
        _each(
            "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner "
            "ToothBrush ToyCircuit",
            0,
        ),
        _EVAL,
    ),
    KnownSet(2025, "dev", _each(_OF_2022, 0), _DEV),
    KnownSet(
        2025,
        "eval",
        _each("AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar", 0),
        _EVAL,
    ),
    KnownSet(
        2026,
        "dev",
        _each("ToyCar ToyCarEmu bearingEmu fan gearboxEmu sliderEmu valveEmu", 0),
        _DEV,
        channels=2,
    ),
    KnownSet(
        2026,
        "eval",
        _each("BlowerDustCollector Sander SewingMachine ToothBrush ToyDrone", 0),
        _EVAL,
        channels=2,
    ),
)


def find_known(sections: Collection[Section], channels: int, year: int | None = None) -> list[KnownSet]:
    """Say which data sets machines may belong to.

    Parameters
    ----------
    sections
        Those met, named as the task does.
    channels
        Of their recordings.
    year
        Only sets of this year; ``None`` for any.

    Returns
    -------
    list of KnownSet
        The part that shares most sections, of every year that has it: 2023, 2024 and 2025 have the
        same machines. With its other part where that is there too. None where nothing is shared.
    """
    met, found = set(sections), []
    machines = {section.machine_type for section in met}
    for part in ("dev", "eval"):
        fits = []
        for one in KNOWN:
            if (one.part, one.channels) == (part, channels) and year in (None, one.year):
                expected = {section for section in one.every if section.machine_type in machines}
                fits.append(((len(expected & met), -len(expected - met)), one))
        best = max((fit for fit, _ in fits), default=(0, 0))
        found += [one for fit, one in fits if fit == best and fit[0]]
    return found


_SETS = Plugins("extractors.clips.sets", "data set")


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes
    ----------
    name
        On the command line, lower case with hyphens.
    title
        As its authors write it.
    record
        Of Zenodo.
    terms
        What is known of its licence, disagreement of the sources included.
    citation
        Of the paper that asks to be cited.
    split
        How its recordings are divided into training and test clips, and by whom.
    md5
        Archive to its published MD5, where these are known besides the record's own.
    fetched
        Whether its terms let a program fetch it; else a notice says where it is.
    apart
        Whether every archive gets a folder of its own name, since several hold the same folders.
    read
        Reads a folder that has its published layout, and gives ``None`` for any other; not needed
        where `extractors.clips` reads it as it is.
    known
        What `check` holds it against.
    """

    name: str
    title: str
    record: int
    terms: str
    citation: str
    split: str
    md5: Mapping[str, str] = field(default_factory=dict)
    fetched: bool = True
    apart: bool = False
    read: Callable[[Path], Listing | None] | None = None
    known: tuple[KnownSet, ...] = ()


@cache
def datasets() -> Mapping[str, DataSet]:
    """Every set by name, alphabetically."""
    every = [each for name in _SETS.names() for each in _SETS.find(name).SETS]
    return {each.name: each for each in sorted(every, key=lambda each: each.name)}


def find_set(name: str) -> DataSet:
    """Find a set by its name.

    Raises
    ------
    AsdError
        If there is none of that name.
    """
    try:
        return datasets()[name]
    except KeyError:
        raise AsdError(f"no data set {name!r}; there are {', '.join(datasets())}") from None


def read_published(root: Path) -> Listing | None:
    """Read a folder in the published layout of a set that no other reader knows; ``None`` of others."""
    for each in datasets().values():
        found = None if each.read is None else each.read(root)
        if found is not None:
            note = f"{root}: read as {each.title}: {each.split}"
            return Listing(found.clips, found.faults, (note, *found.notes))
    return None


def inside(root: Path, *names: str) -> Path | None:
    """Find the folder that has these sub-folders: a root, or the one visible folder in it."""
    if not root.is_dir():
        return None
    folders = visible_folders(root)
    found = [root, *(folders if len(folders) == 1 else ())]
    return next((one for one in found if all((one / name).is_dir() for name in names)), None)


def held_out(normal: Sequence[T], abnormal: int) -> tuple[Sequence[T], Sequence[T]]:
    """Divide normal recordings of a section: those to learn from, those to be judged.

    As many are judged as there are abnormal ones, at most half, the first by name; as
    `extractors.clips.machine` divides MIMII.
    """
    count = min(abnormal, len(normal) // 2)
    return normal[count:], normal[:count]


def counts(normal: int, abnormal: int) -> dict[Kind, int]:
    """Count the clips of each kind after `held_out`, for `KnownSet.counts`."""
    judged = min(abnormal, normal // 2)
    return {
        ("train", None, "normal"): normal - judged,
        ("test", None, "normal"): judged,
        ("test", None, "anomaly"): abnormal,
    }


def recordings(folder: Path, faults: list[Fault]) -> list[Path]:
    """List the recordings of a folder by path; faults go to a list."""
    if not folder.is_dir():
        return []
    files, unreadable, _ = audio_files(folder)
    faults += unreadable
    return files


def clips_of(paths: Sequence[Path], root: Path, like: Clip) -> Iterator[Clip]:
    """Make clips of files, with the section, split and labels of another; ids are paths below a root."""
    for path in paths:
        yield Clip(
            f"{like.section.machine_type}/{below(path, root)}",
            path,
            like.section,
            like.split,
            like.domain,
            like.condition,
            like.attributes,
        )
