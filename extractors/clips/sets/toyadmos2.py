"""ToyADMOS2: toy cars and trains mixed on demand; internal evaluation only, so it is never fetched."""

from __future__ import annotations

from extractors.clips.dataset import DataSet

SET = DataSet(
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
