"""MIMII DG: five machines, three sections each, for domain generalisation; names as of 2022."""

from __future__ import annotations

from extractors.clips.dataset import DataSet

SET = DataSet(
    name="mimii-dg",
    title="MIMII DG",
    record=6529888,
    terms="sources disagree: CC BY-NC-SA 4.0 by two of them, CC BY 4.0 by one; take the stricter",
    citation="Dohi et al., MIMII DG: Sound Dataset for Malfunctioning Industrial Machine Investigation "
    "and Inspection for Domain Generalization Task, DCASE Workshop 2022, arXiv 2205.13879",
    split="its own folders train and test; overlaps the challenge of 2022",
)
