"""ToyADMOS, by case, and ToyADMOS2, by the challenge's names; their own terms, so they are never fetched."""

from __future__ import annotations

import re
from pathlib import Path

from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.dataset import DataSet, clips_of, held_out, recordings
from extractors.clips.folders import visible_folders

_CASE = re.compile("case([0-9]+)")
_NORMAL, _ABNORMAL = "NormalSound_IND", "AnomalousSound_IND"
_CHANNEL = re.compile("_ch([0-9]+)_")


def _read(root: Path) -> Listing | None:
    toys = [root, *(visible_folders(root) if root.is_dir() else [])]
    toys += [deeper for toy in toys[1:] for deeper in visible_folders(toy)]
    cases = [(toy, case) for toy in dict.fromkeys(toys) if toy.is_dir() for case in visible_folders(toy)
             if _CASE.fullmatch(case.name) and (case / _NORMAL).is_dir()]  # fmt: skip
    if not cases:
        return None
    clips: list[Clip] = []
    faults: list[Fault] = []
    others = 0
    for toy, case in cases:
        number = int(case.name.removeprefix("case"))
        section = Section(toy.resolve().name, number)
        found = {}
        for name in (_NORMAL, _ABNORMAL):
            files = recordings(case / name, faults)
            told = {path: _CHANNEL.search(path.name) for path in files}
            found[name] = [p for p, match in told.items() if match is None or match[1] == "1"]
            others += len(files) - len(found[name])
        train, judged = held_out(found[_NORMAL], len(found[_ABNORMAL]))
        for paths, split, condition in (
            (train, "train", "normal"),
            (judged, "test", "normal"),
            (found[_ABNORMAL], "test", "anomaly"),
        ):
            clips += clips_of(paths, toy, Clip("", toy, section, split, None, condition))
    notes = [f"{root}: {others} files of microphones 2 to 4 are not read"] if others else []
    notes.append(f"{root}: continuous recordings and noise alone (*_CNT) are not read")
    return Listing(tuple(clips), tuple(faults), tuple(notes))


_FIRST = DataSet(
    name="toyadmos",
    title="ToyADMOS",
    record=3351307,
    terms="its own, a PDF in the record: read it and accept it there; this program does not fetch it",
    citation="Koizumi et al., ToyADMOS: A Dataset of Miniature-Machine Operating Sounds for Anomalous "
    "Sound Detection, WASPAA 2019, arXiv 1908.03299",
    split="none published; a case is a section, microphone 1 of NormalSound_IND and AnomalousSound_IND; "
    "as many normal clips are judged as there are abnormal ones, at most half, the first by name",
    fetched=False,
    read=_read,
)

_SECOND = DataSet(
    name="toyadmos2",
    title="ToyADMOS2",
    record=4580270,
    terms="its own, internal evaluation only: read and accept it at the record; this program does not "
    "fetch it",
    citation="Harada et al., ToyADMOS2: Another Dataset of Miniature-Machine Operating Sounds for "
    "Anomalous Sound Detection under Domain Shift Conditions, DCASE Workshop 2021, arXiv 2106.02369",
    split="made by its own mixing tool, which writes the challenge's names of 2021; these are read. The "
    "recordings themselves are MPEG-4 ALS, which is not decoded here",
    fetched=False,
)

SETS = (_FIRST, _SECOND)
