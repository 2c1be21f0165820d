"""A small synthetic data set in the task's layout: what `make demo` runs on.

Written below the folder named by ``--to``::

    dev_data/fan/                      development data: the truth stands in the names
      train/section_00_source_train_normal_0000_speed_1200_noise_factory.wav
      train/section_00_target_train_normal_0000_speed_1800_noise_wind.wav
      test/section_00_source_test_anomaly_0000_speed_1200_noise_factory.wav
      attributes_00.csv                file_name,d1p,d1v,d2p,d2v: attribute names and values
    eval_data/valve/                   evaluation data: test clips are anonymous
      train/section_00_source_train_normal_0000_interval_500_noise_factory.wav
      test/section_00_0000.wav
      attributes_00.csv                training clips only
    ground_truth/                      what the evaluator knows of the anonymous clips
      ground_truth_data/ground_truth_valve_section_00_test.csv        file,1 for an anomaly
      ground_truth_domain/ground_truth_valve_section_00_test.csv      file,1 for the target domain
      ground_truth_attributes/ground_truth_valve_section_00_test.csv  file,original name

A machine has 60 source and 10 target training clips, all normal, and 10 test clips of each domain
and condition: 16 kHz, mono, 16 bit, 6, 8 or 10 s. The machine is as loud in every clip, and noise
is mixed in at -3 to 2 dB, so loudness alone tells nothing; the domains differ in speed and noise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cache.base.console import Console, entry_point
from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.atomic import write_atomic
from cache.files.places import here
from extractors.audio.waves import SAMPLE_RATE, Wave, ratio, unit_rms, wav_bytes
from extractors.clips.names import ClipName, write_attributes
from extractors.demo.machines import NOISES, Fan, MachineFault, Operation, Valve

_ABOUT = "Write a data set of made-up machines in the task's layout, with its truth."
_TRUTHS = ("data", "domain", "attributes")  # kinds of ground truth
_SECONDS = (6, 8, 10)
_SNR = (-3.0, 2.0)  # dB, machine against noise
_LEVEL = 0.06  # RMS of a clip, full scale 1


@documented
@dataclass(frozen=True)
class DataSetRequest(Options):
    """Where the data set is written, and what its randomness begins with."""

    to: Path = option(REQUIRED, "where to write it", read=here, metavar="DIR")
    seed: int = option(0, "the same one gives the same bytes", least=0)


@dataclass(frozen=True)
class Condition:
    """Conditions of a recording: the machine's operating point and the place's noise."""

    operation: Operation
    noise: str

    @property
    def attributes(self) -> dict[str, str]:
        """Name to value, as in clip names and attribute files."""
        return {name: str(value) for name, value in vars(self.operation).items()} | {"noise": self.noise}


@dataclass(frozen=True)
class Machine:
    """A machine type: which set it is part of, and each domain's conditions, used in turn."""

    folder: str
    domains: Mapping[str, tuple[Condition, ...]]

    def condition(self, plan: ClipName) -> Condition:
        """Give the condition of a clip, by its domain and number."""
        conditions = self.domains[str(plan.domain)]
        return conditions[int(plan.number) % len(conditions)]


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {
        "fan": Machine(
            "dev_data",
            {
                "source": (
                    Condition(Fan(1200), "factory"),
                    Condition(Fan(1500), "factory"),
                    Condition(Fan(1200), "street"),
                    Condition(Fan(1500), "street"),
                ),
                "target": (Condition(Fan(1800), "wind"),),
            },
        ),
        "valve": Machine(
            "eval_data",
            {
                "source": (
                    Condition(Valve(500, 4), "factory"),
                    Condition(Valve(650, 4), "street"),
                ),
                "target": (Condition(Valve(400, 6), "wind"),),
            },
        ),
    }
)

_PLANS = tuple(
    ClipName(0, f"{number:04d}", domain, split, condition)
    for split, domain, condition, count in (
        ("train", "source", "normal", 60),
        ("train", "target", "normal", 10),
        ("test", "source", "normal", 10),
        ("test", "source", "anomaly", 10),
        ("test", "target", "normal", 10),
        ("test", "target", "anomaly", 10),
    )
    for number in range(count)
)


def make_clip(machine: Machine, plan: ClipName, seed: Sequence[int]) -> tuple[Condition, Wave]:
    """Make one clip.

    Parameters
    ----------
    machine, plan
        What is recorded.
    seed
        Decides everything random about the clip, and about no other clip.

    Returns
    -------
    condition, wave
        Under which it was recorded; (T,) float64 in [-1, 1] at 16 kHz.
    """
    rng = np.random.default_rng(seed)
    samples = int(rng.choice(_SECONDS)) * SAMPLE_RATE
    condition = machine.condition(plan)
    faults = condition.operation.faults
    fault = MachineFault(faults[int(plan.number) % len(faults)], float(rng.random()))
    broken = fault if plan.condition == "anomaly" else None
    sound = condition.operation.sound(rng, samples, broken)  # RMS 1
    noise = NOISES[condition.noise].sound(rng, samples) * ratio(-rng.uniform(*_SNR))
    return condition, np.clip(_LEVEL * unit_rms(sound + noise), -1.0, 1.0)


def write_data_set(root: Path, seed: int) -> int:
    """Write both machines and the ground truth.

    Parameters
    ----------
    root
        The folder; made where it does not exist.
    seed
        From 0; the same seed gives the same bytes.

    Returns
    -------
    int
        Clips written.

    Raises
    ------
    AsdError
        If the folder holds a file that is not such a data set's, or cannot be written.
    """
    files = (path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    ours = set()
    for name, machine in MACHINES.items():
        folder, anonymous = f"{machine.folder}/{name}", machine.folder == "eval_data"
        ours.add(f"{folder}/attributes_00.csv")
        for file, plan, _ in _files(anonymous, (0,)):
            original = plan.with_attributes(machine.condition(plan).attributes).stem
            ours.add(f"{folder}/{plan.split}/{file or original}.wav")
        ours |= {_truth_file(kind, name) for kind in _TRUTHS if anonymous}
    strangers = sorted({path.relative_to(root).as_posix() for path in files} - ours)
    if strangers:  # the task has a fan and a valve too: nobody's recordings are overwritten
        raise AsdError(f"{root} holds {strangers[0]!r} and is not overwritten; name a new folder")
    for index, (name, machine) in enumerate(MACHINES.items()):
        _write_machine(root, name, machine, (seed, index))
    return len(MACHINES) * len(_PLANS)


def _truth_file(kind: str, machine: str) -> str:
    folder = f"ground_truth/ground_truth_{kind}"
    return f"{folder}/ground_truth_{machine}_section_00_test.csv"


def _write_machine(root: Path, name: str, machine: Machine, seed: tuple[int, int]) -> None:
    anonymous = machine.folder == "eval_data"
    rows: dict[str, dict[str, str]] = {}
    truth: dict[str, list[str]] = {kind: [] for kind in _TRUTHS}
    for file, plan, number in _files(anonymous, seed):
        condition, wave = make_clip(machine, plan, (*seed, number))
        original = plan.with_attributes(condition.attributes).stem
        clip = f"{name}/{plan.split}/{file or original}.wav"
        write_atomic(root / machine.folder / clip, wav_bytes(wave, SAMPLE_RATE))
        if file is None:
            rows[clip] = condition.attributes
        else:
            told = int(plan.condition == "anomaly"), int(plan.domain == "target"), original
            for lines, value in zip(truth.values(), told, strict=True):
                lines.append(f"{file}.wav,{value}\n")
    write_attributes(root / machine.folder / name / "attributes_00.csv", rows)
    for kind, lines in truth.items() if anonymous else ():
        write_atomic(root / _truth_file(kind, name), "".join(sorted(lines)).encode())


def _files(anonymous: bool, seed: Sequence[int]) -> Iterator[tuple[str | None, ClipName, int]]:
    """Plans with their number and, for anonymous test clips, the shuffled name they get."""
    tests = [plan for plan in _PLANS if plan.split == "test"]
    order = iter(np.random.default_rng(seed).permutation(len(tests)))
    for number, plan in enumerate(_PLANS):
        hidden = anonymous and plan.split == "test"
        yield (f"section_00_{next(order):04d}" if hidden else None), plan, number


@entry_point(DataSetRequest, "extractors.demo.run", _ABOUT, "--to demo/data --seed 0")
def main(request: DataSetRequest, console: Console) -> int:
    """Write the data set."""
    count = write_data_set(request.to, request.seed)
    machines = " and ".join(f"{machine.folder}/{name}" for name, machine in MACHINES.items())
    told = f"{count} synthetic clips of {machines} with their truth in {request.to}"
    console.made(told, made=request.to, clips=count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
