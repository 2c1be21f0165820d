"""The whole chain on a small data set, command by command, for tests that disturb it.

Every command runs in a child of a process that has everything imported, which starts in
milliseconds. The parent itself computes nothing, so that no thread of it is lost in a fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000
MACHINES = {"dev_data": ("fan", "pump"), "eval_data": ("valve",)}
DATA = ["dev_data", "eval_data"]
_BACKBONES = ["--backbone", "logmel", "efficientat"]
# Loaded by the commands when they need them; of some, importing takes seconds.
_LATER = (
    *("eval.evaluate", "extractors.extract", "extractors.backbones.logmel", "extractors.device"),
    *("index.build", "index.scorers.fusion", "pyarrow.dataset", "pyarrow.pandas_compat"),
    *("scipy.cluster.hierarchy", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.stats"),
    *("sklearn.decomposition", "sklearn.metrics"),
)
_NETWORKS = ("extractors.backbones.efficientat",)
_TUNING = ("accelerate", "rich.progress", "torch._dynamo")
_GAP = 0.05  # amplitude of the tone that tells one operating condition from another


@dataclass(frozen=True)
class Command:
    """One of the chain's commands.

    Attributes
    ----------
    name
        What it does.
    module
        Whose `main` it is.
    argv
        Arguments; paths are relative to the work folder.
    makes
        What it writes, file or folder.
    """

    name: str
    module: str
    argv: tuple[str, ...]
    makes: str


EXTRACT = Command(
    "extraction",
    "extractors.run",
    (*("--data", *DATA, *_BACKBONES, "--weights", "efficientat=mn01_as.pt"),
     *("--pooling", "logmel=mean", "logmel=max", "efficientat=mean", "--cache-dir", "cache")),
    "cache",
)  # fmt: skip
FINETUNE = Command(
    "fine-tuning",
    "finetune.run",
    ("--data", *DATA, "--backbone", "logmel:cnn", "--epochs", "4", "--watch", "2",
     "--batch-size", "8", "--crop", "0.2", "--size", "16", "--hold-out", "0.2", "--patience", "9",
     "--overwrite", "--out", "tuned/small.safetensors", "--cache-dir", "scratch"),
    "tuned",
)  # fmt: skip
INDEX = Command(
    "index",
    "index.run",
    (*_BACKBONES, "--pooling", "mean", "--cache-dir", "cache", "--bank", "bank"),
    "bank",
)
EVALUATE = Command(
    "evaluation",
    "eval.run",
    ("--bank", "bank", "--cache-dir", "cache", "--ground-truth", "ground_truth",
     "--audio", *DATA, "--out", "results"),
    "results",
)  # fmt: skip
SCORE = Command(
    "scoring new clips",
    "eval.run",
    ("--bank", "bank", "--data", *DATA, "--weights", "efficientat=mn01_as.pt",
     "--cache-dir", "nowhere", "--ground-truth", "ground_truth", "--out", "scored"),
    "scored",
)  # fmt: skip
CHAIN = (EXTRACT, FINETUNE, INDEX, EVALUATE, SCORE)


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes
    ----------
    code
        Its exit code; negative, the signal that killed it.
    said
        What it wrote to stdout and stderr.
    seconds
        How long it ran.
    """

    code: int
    said: str
    seconds: float


def environment() -> dict[str, str]:
    """The variables under which a process may fork children that compute."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, "ASD_OFFLINE": "1"}


def load(commands: Sequence[Command] = CHAIN, *, networks: bool = True) -> None:
    """Import what commands of the chain need, once for all children."""
    for name in dict.fromkeys(command.module for command in commands):
        import_module(name)
    tunes = FINETUNE in commands
    for name in (*_LATER, *(_NETWORKS if networks else ()), *(_TUNING if tunes else ())):
        import_module(name)
    if tunes:
        sys.modules["extractors.device"].transformers()


def write_world(folder: Path, clips: int = 12) -> Path:
    """A data set of three machines, one of them with its truth apart, and a checkpoint."""
    from tests.helpers.small_models import write_mobilenet  # noqa: PLC0415

    for number, (root, machine) in enumerate((r, m) for r in DATA for m in MACHINES[r]):
        write_machine(folder, folder / root / machine, clips, number)
    # In a child: seeding and building a network is work of torch's.
    in_child(lambda: write_mobilenet(folder / "mn01_as.pt") and None)
    return folder


def write_machine(folder: Path, place: Path, clips: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth: dict[str, list[str]] = {"data": [], "domain": [], "attributes": []}
    plans = [("train", "source", "normal", clips), ("train", "target", "normal", clips // 4)]
    plans += [("test", d, c, clips // 4) for d in ("source", "target") for c in ("normal", "anomaly")]
    number = 0
    for split, domain, condition, count in plans:
        for i in range(count):
            name = f"section_00_{domain}_{split}_{condition}_{i:04d}_speed_{i % 2}.wav"
            if split == "test" and place.parts[-2] == "eval_data":
                original, name, number = name, f"section_00_{number:04d}.wav", number + 1
                truth["data"].append(f"{name},{int(condition == 'anomaly')}")
                truth["domain"].append(f"{name},{int(domain == 'target')}")
                truth["attributes"].append(f"{name},{original}")
            write_clip(place / split / name, rng, i % 2, condition)
    for kind, rows in truth.items():
        if rows:
            table = f"ground_truth_{kind}/ground_truth_{place.name}_section_00_test.csv"
            path = folder / "ground_truth" / table
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{row}\n" for row in rows))


def write_clip(path: Path, rng: np.random.Generator, speed: int, condition: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(RATE * (0.5 + 0.25 * speed))) / RATE
    level = 0.1 * (1.03 if condition == "anomaly" else 1)
    tone = _GAP * np.sin(2 * np.pi * (300 + 200 * speed) * time_s)
    soundfile.write(path, rng.normal(0, level, len(time_s)) + tone, RATE, subtype="PCM_16")


def fork(work: Callable[[], object], folder: Path, log: Path) -> int:
    """Start a child that does `work` in a folder; its exit code is what it returns, or 0."""
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.chdir(folder)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        code = int(work() or 0)  # type: ignore[call-overload]
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - a child never returns into its parent's code
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)


def ended(process: int, log: Path, begin: float) -> Ended:
    """Wait for a child."""
    _, status = os.waitpid(process, 0)
    said = log.read_text(errors="replace") if log.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - begin)


def run(
    command: Command,
    folder: Path,
    before: Callable[[], object] | None = None,
    argv: Sequence[str] | None = None,
) -> Ended:
    """Run a command in a child to its end.

    Parameters
    ----------
    command
        Which.
    folder
        Where: its working folder.
    before
        What the child does first: limits, faults.
    argv
        Other arguments than its own.
    """
    log = log_of(folder)
    begin = time.monotonic()
    process = fork(lambda: call(command, before, argv), folder, log)
    return ended(process, log, begin)


def call(
    command: Command,
    before: Callable[[], object] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a command in this very process."""
    if before is not None:
        before()
    main = import_module(command.module).main
    return int(main(list(command.argv if argv is None else argv)))


def log_of(folder: Path) -> Path:
    """Where a child's words go: beside the folder, which may be full or read-only."""
    return folder.parent / f"{folder.name}.{os.getpid()}.log"


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` gives, as JSON keeps it, computed in a child."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as stream:
                json.dump(work(), stream)
            code = 0
        except BaseException:  # noqa: BLE001 - nor does this one
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(process, 0)
    if status:
        raise AssertionError(f"a child's check failed with status {status}")
    return json.loads(text)


def contents(folder: Path) -> dict[str, str]:
    """Path to digest of everything in a folder: of a table its rows, of any other file its bytes.

    Lock files are left out: they are empty and say nothing.
    """
    found: dict[str, str] = in_child(lambda: _contents(folder))
    return found


def _contents(folder: Path) -> dict[str, str]:
    from cache.parquet import read_table  # noqa: PLC0415

    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        digest = hashlib.sha256()
        if path.stem in {"train", "test"} and path.suffix == ".parquet":
            table, recipe = read_table(path)
            digest.update(repr((table.keys, dict(table.blocks), recipe)).encode())
            digest.update(table.embeddings.tobytes())
        else:
            digest.update(path.read_bytes())
        found[path.relative_to(folder).as_posix()] = digest.hexdigest()
    return found


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What two folders' `contents` do not share."""
    names = sorted({*expected, *found})
    return [name for name in names if expected.get(name) != found.get(name)]
