"""MIMII and its successors: MIMII by id and condition, MIMII DUE and MIMII DG by the challenge's names."""

from __future__ import annotations

from extractors.clips.dataset import DataSet, KnownSet, counts

# Machine to (normal, abnormal) of ids 00, 02, 04, 06: Purohit et al. 2019, table 1, as published.
_CLIPS = {
    "fan": ((1011, 407), (1016, 359), (1033, 348), (1015, 361)),
    "pump": ((1006, 143), (1005, 111), (702, 100), (1036, 102)),
    "slider": ((1068, 356), (1068, 267), (534, 178), (534, 89)),
    "valve": ((991, 119), (708, 120), (1000, 120), (992, 120)),
}
_RATIOS = ("-6_dB", "0_dB", "6_dB")  # of machine to factory noise

_MIMII = DataSet(
    name="mimii",
    title="MIMII",
    record=3384388,
    terms="CC BY-SA 4.0, by its record: name the authors, share alike",
    citation="Purohit et al., MIMII Dataset: Sound Dataset for Malfunctioning Industrial Machine "
    "Investigation and Inspection, DCASE Workshop 2019, arXiv 1909.09347",
    split="none published; of every id as many normal clips are judged as there are abnormal ones, at "
    "most half, the first by name (the paper draws them at random)",
    md5={
        "-6_dB_fan.zip": "f02ae808a58d84b6815b7ec38ff30879",
        "-6_dB_pump.zip": "d20b783a0ff9c93d58f452f98c37b112",
        "-6_dB_slider.zip": "49913eda7d37f182cbf8ed5c984140e0",
        "-6_dB_valve.zip": "fdfaf185fea61b21e11952a070a4ada7",
        "0_dB_fan.zip": "6354d1cc2165c52168f9ef1bcd9c7c52",
        "0_dB_pump.zip": "488748295c3f60b25de07b58fe75b049",
        "0_dB_slider.zip": "4d674c21474f0646ecd75546db6c0c4e",
        "0_dB_valve.zip": "178478eb0d11c79080a35562bfdeee71",
        "6_dB_fan.zip": "0890f7d3c2fd8448634e69ff1d66dd47",
        "6_dB_pump.zip": "a09ba6060c10fc09cd4c8770213b0b9f",
        "6_dB_slider.zip": "838c2b3441858359c4704ef13a1b27ff",
        "6_dB_valve.zip": "fe5fb7c337cd701b1d31dc641e621892",
    },
    apart=True,
    known=tuple(
        KnownSet(f"MIMII, {ratio}", "", {f"{machine}_{ratio}": (number,)}, counts(*pair), 8)
        for ratio in _RATIOS
        for machine, pairs in _CLIPS.items()
        for number, pair in zip((0, 2, 4, 6), pairs, strict=True)
    ),
)

# Five machines, six sections each, in two domains; the names are the challenge's of 2021.
_DUE = DataSet(
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

# Five machines, three sections each, for domain generalisation; names as of 2022.
_DG = DataSet(
    name="mimii-dg",
    title="MIMII DG",
    record=6529888,
    terms="sources disagree: CC BY-NC-SA 4.0 by two of them, CC BY 4.0 by one; take the stricter",
    citation="Dohi et al., MIMII DG: Sound Dataset for Malfunctioning Industrial Machine Investigation "
    "and Inspection for Domain Generalization Task, DCASE Workshop 2022, arXiv 2205.13879",
    split="its own folders train and test; overlaps the challenge of 2022",
)

SETS = (_MIMII, _DG, _DUE)
