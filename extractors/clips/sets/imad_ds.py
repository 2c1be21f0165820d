"""IMAD-DS: a motor and a robot arm, by microphone and accelerometer, in two domains."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from cache.base.errors import AsdError
from cache.files.text_tables import read_text
from cache.heard import Signal
from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.dataset import DataSet
from extractors.clips.folders import check_file, visible_folders

_TABLE = re.compile("attributes_(normal|anomaly)_(source|target)_(train|test)[.]csv")
# Sensor, by the column of the tables that names its file, to what is put behind the machine's name and
# its rate in Hz: the accelerometer's is the mean of its clock, which jitters (7,063 in public loaders).
_SENSORS = {"imp23absu_mic": ("", 16_000), "ism330dhcx_acc": ("_acc", 7_063)}
_GYROSCOPE = "ism330dhcx_gyro"


def _read(root: Path) -> Listing | None:
    machines = [root, *(visible_folders(root) if root.is_dir() else [])]
    tables = [
        path
        for machine in machines
        for split in ("train", "test")
        if (machine / split).is_dir()
        for path in sorted((machine / split).glob("attributes_*.csv"))
        if _TABLE.fullmatch(path.name)
    ]
    if not tables:
        return None
    clips: list[Clip] = []
    faults: list[Fault] = []
    for path in tables:
        try:
            # The first column is a row's number and has no name, which no other table may have.
            rows = list(csv.DictReader(io.StringIO(read_text(path)), restval=""))
        except (AsdError, csv.Error) as error:
            faults.append(Fault(path, str(error)))
            continue
        for number, row in enumerate(rows, 1):
            for sensor in _SENSORS:
                try:
                    clips += [_clip(path, row, sensor)] if row.get(sensor) else []
                except AsdError as error:
                    faults.append(Fault(path, f"row {number}: {error}"))
    notes = (f"{root}: the gyroscope ({_GYROSCOPE}) is not read",)
    return Listing(tuple(clips), tuple(faults), notes)


def _clip(table: Path, row: dict[str, str], sensor: str) -> Clip:
    """Give the recording of one sensor that a row names."""
    match = _TABLE.fullmatch(table.name)
    assert match is not None
    condition, domain, split = match.groups()
    name = row[sensor].replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/"):
        raise AsdError(f"{name!r} leaves the folder {table.parent.name}/")
    path = table.parent / name
    check_file(path)
    behind, rate = _SENSORS[sensor]
    machine = f"{table.parent.parent.resolve().name}{behind}"
    attributes = {
        key: text
        for key, text in row.items()
        if key and text and key not in (*_SENSORS, _GYROSCOPE, "split_label", "anomaly_label")
    }
    signal = Signal(rate, own=True)
    return Clip(
        f"{machine}/{split}/{name}", path, Section(machine, 0), split, domain, condition, attributes,
        signal=signal,
    )  # fmt: skip


SETS = (
    DataSet(
        name="imad-ds",
        title="IMAD-DS",
        # What loaders in public repositories fetch BrushlessMotor.7z and RoboticArm.7z from. 12636236, which
        # the authors' own repository names, is the DOI of all its versions.
        record=12665499,
        terms="CC BY-SA 4.0, by its record: name the authors, share alike",
        citation="Albertini, Augusti, Esposito, Bernardini, Corradi: IMAD-DS: A Dataset for Industrial "
        "Multi-Sensor Anomaly Detection Under Domain Shift Conditions, DCASE Workshop 2024",
        split="its own tables attributes_{normal,anomaly}_{source,target}_{train,test}.csv; the microphone "
        "is a machine of its own, the accelerometer another (_acc), clip by clip",
        read=_read,
    ),
)
