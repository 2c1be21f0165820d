"""What the task's published data sets hold, as far as that is public.

Machine types and sections: the task's pages (dcase.community/challenge<year>, task 2) and its
papers, arXiv 2006.05822, 2106.04492, 2206.05876, 2305.07828, 2406.07250, 2506.10097, 2606.01578.
Counts a section: the same, exact from 2022 on; in 2020 and 2021 only "about 1,000", so none are
given but the three target clips of 2021. Channels: 2026 records near the machine and far from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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


def find_known(
    sections: Collection[tuple[str, int]], channels: int, year: int | None = None
) -> list[KnownSet]:
    """Say which data sets machines may belong to.

    Parameters
    ----------
    sections
        Machine types and section numbers met, named as the task does.
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
    for part in ("dev", "eval"):
        fits = [
            (_fit(one, met), one)
            for one in KNOWN
            if (one.part, one.channels) == (part, channels) and year in (None, one.year)
        ]
        best = max((fit for fit, _ in fits), default=(0, 0))
        found += [one for fit, one in fits if fit == best and fit[0]]
    return found


def _fit(one: KnownSet, met: Collection[tuple[str, int]]) -> tuple[int, int]:
    """How many sections a set shares with those met, and less how many its machines lack."""
    machines = {machine for machine, _ in met}
    expected = {(name, number) for name in machines for number in one.sections.get(name, ())}
    return len(expected.intersection(met)), -len(expected.difference(met))
