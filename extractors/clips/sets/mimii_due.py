"""MIMII DUE: five machines, six sections each, in two domains; the names are the challenge's of 2021."""

from __future__ import annotations

from extractors.clips.dataset import DataSet

SET = DataSet(
    name="mimii-due",
    title="MIMII DUE",
    record=4740355,
    terms="not established: the record, the paper and the task's pages were not seen to agree; read "
    "the record's terms before any use",
    citation="Tanabe et al., MIMII DUE: Sound Dataset for Malfunctioning Industrial Machine "
    "Investigation and Inspection with Domain Shifts Due to Changes in Operational and Environmental "
    "Conditions, WASPAA 2021, arXiv 2105.02702",
    split="its own folders train, source_test and target_test; overlaps the challenge of 2021",
)
