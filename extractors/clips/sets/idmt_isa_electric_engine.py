"""IDMT-ISA-ELECTRIC-ENGINE: a motor that is good, broken or heavily loaded, in several noises."""

from __future__ import annotations

import re
from pathlib import Path

from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.dataset import DataSet, clips_of, inside, recordings
from extractors.clips.folders import visible_folders

_MACHINE = "engine"
_RECORDINGS = 2378  # of the whole set, by its record
_STATES = {"good": "normal", "broken": "anomaly", "heavyload": "anomaly"}
_FOLDER = re.compile("engine[0-9]_([a-z]+)")


def _read(root: Path) -> Listing | None:
    cut = inside(root, "train_cut")
    whole = inside(root, "train", "test")
    found = cut or whole
    if found is None or not any(_FOLDER.fullmatch(one.name) for one in found.glob("train*/*")):
        return None
    train = found / ("train_cut" if cut else "train")
    test = next((found / name for name in ("test_cut", "test") if (found / name).is_dir()), None)
    clips: list[Clip] = []
    faults: list[Fault] = []
    notes = []
    for split, folder in (("train", train), ("test", test)):
        if folder is None:
            notes.append(f"{found}: nothing to be judged: no test_cut/ and no test/")
            continue
        for state in sorted(folder.iterdir()):
            match = _FOLDER.fullmatch(state.name)
            if match is None or match[1] not in _STATES:
                continue
            files = recordings(state, faults)
            condition = _STATES[match[1]]
            if split == "train" and condition == "anomaly":
                notes.append(f"{state}: {len(files)} recordings of another state are not learnt from")
                continue
            for path in files:
                told = {"state": match[1], "noise": path.stem.rstrip("0123456789").rstrip("_")}
                like = Clip("", path, Section(_MACHINE, 0), split, None, condition, told)
                clips += clips_of([path], found, like)
    there = sum(len(recordings(folder, [])) for folder in visible_folders(found))
    if there != _RECORDINGS:
        notes.append(f"{found}: {there} recordings where the whole set has {_RECORDINGS}")
    return Listing(tuple(clips), tuple(faults), tuple(notes))


SETS = (
    DataSet(
        name="idmt-isa-electric-engine",
        title="IDMT-ISA-ELECTRIC-ENGINE",
        record=7551261,
        terms="CC BY-NC-ND 4.0, by its record: non-commercial, no derived data to be passed on",
        citation="Grollmisch, Abeßer, Liebetrau, Lukashevich: Sounding Industry: Challenges and Datasets "
        "for Industrial Sound Analysis, EUSIPCO 2019",
        split="its own folders train_cut and test_cut (else train and test); engine1_good is normal, broken "
        "and heavyload are anomalies, told apart by the attribute state; only good ones are learnt from",
        read=_read,
    ),
)
