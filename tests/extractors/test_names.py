"""File names of 2020 to 2026, one table a year, and names nobody thought of.

The names are from public file lists, directory trees and result files of each year's data.
"""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.base.errors import AsdError
from extractors.clips.listing import ClipName, parse_name, parse_tail
from extractors.clips.names import parse_stem

Expected = tuple[int, str | None, str | None, str | None, dict[str, str]]
SOURCE_TRAIN, TARGET_TRAIN = ("source", "train", "normal"), ("target", "train", "normal")
SOURCE_GOOD, TARGET_GOOD = ("source", "test", "normal"), ("target", "test", "normal")
SOURCE_BAD, TARGET_BAD = ("source", "test", "anomaly"), ("target", "test", "anomaly")
UNKNOWN = (None, None, None)

OF_2020 = {
    "normal_id_00_00000000": (0, (None, None, "normal")),
    "normal_id_00_00000349": (0, (None, None, "normal")),
    "normal_id_01_00000000": (1, (None, None, "normal")),
    "normal_id_01_00000999": (1, (None, None, "normal")),
    "normal_id_02_00000000": (2, (None, None, "normal")),
    "anomaly_id_00_00000006": (0, (None, None, "anomaly")),
    "anomaly_id_01_00000003": (1, (None, None, "anomaly")),
    "anomaly_id_04_00000264": (4, (None, None, "anomaly")),
    "id_01_00000000": (1, UNKNOWN),
    "id_05_00000412": (5, UNKNOWN),
}
OF_2021 = {
    "section_00_source_train_normal_0025_A1Spd28VMic1": (0, SOURCE_TRAIN, {"A1Spd28VMic1": ""}),
    "section_00_source_train_normal_0319_A2Spd8Mic1": (0, SOURCE_TRAIN, {"A2Spd8Mic1": ""}),
    "section_00_target_train_normal_0002_C2Spd6Mic1": (0, TARGET_TRAIN, {"C2Spd6Mic1": ""}),
    "section_00_source_train_normal_0000_0_g_25_mm_2000_mV_none": (
        *(0, SOURCE_TRAIN),
        {"g": "0", "mm": "25", "mV": "2000", "none": ""},
    ),
    "section_01_source_train_normal_0647_120_g_20_mm_2000_mV_none": (
        *(1, SOURCE_TRAIN),
        {"g": "120", "mm": "20", "mV": "2000", "none": ""},
    ),
    "section_00_source_train_normal_0000_serial_no_000_water": (
        *(0, SOURCE_TRAIN),
        {"serial_no": "000", "water": ""},
    ),
    "section_03_source_train_normal_0004_serial_no_030_water": (
        *(3, SOURCE_TRAIN),
        {"serial_no": "030", "water": ""},
    ),
    "section_00_source_train_normal_0183_strength_1_ambient": (
        *(0, SOURCE_TRAIN),
        {"strength": "1", "ambient": ""},
    ),
    "section_00_source_train_normal_0000_pattern_00_no_pump": (
        *(0, SOURCE_TRAIN),
        {"pattern": "00", "no": "pump"},
    ),
    "section_00_source_test_normal_0000": (0, SOURCE_GOOD, {}),
    "section_00_source_test_anomaly_0099": (0, SOURCE_BAD, {}),
    "section_00_target_test_normal_0028": (0, TARGET_GOOD, {}),
    "section_01_target_test_anomaly_0071": (1, TARGET_BAD, {}),
    "section_03_source_test_0000": (3, ("source", "test", None), {}),
    "section_05_target_test_0199": (5, ("target", "test", None), {}),
}
OF_2022 = {
    "section_01_target_train_normal_0000_f-n_C": (1, TARGET_TRAIN, {"f-n": "C"}),
    "section_01_target_test_normal_0029_f-n_C": (1, TARGET_GOOD, {"f-n": "C"}),
    "section_00_source_test_normal_0001_m-n_X": (0, SOURCE_GOOD, {"m-n": "X"}),
    "section_00_target_test_anomaly_0002_m-n_Z": (0, TARGET_BAD, {"m-n": "Z"}),
    "section_00_source_train_normal_0009_car_A1_spd_28V_mic_1_noise_1": (
        *(0, SOURCE_TRAIN),
        {"car": "A1", "spd": "28V", "mic": "1", "noise": "1"},
    ),
    "section_00_target_test_normal_0008_car_C1_spd_6_mic_1_noise_2": (
        *(0, TARGET_GOOD),
        {"car": "C1", "spd": "6", "mic": "1", "noise": "2"},
    ),
    "section_00_source_test_anomaly_0007_volt_2.5": (0, SOURCE_BAD, {"volt": "2.5"}),
    "section_00_source_test_normal_0031_volt_1.5": (0, SOURCE_GOOD, {"volt": "1.5"}),
    "section_02_source_test_normal_0018_id_08": (2, SOURCE_GOOD, {"id": "08"}),
    "section_00_source_test_anomaly_0033_vel_900": (0, SOURCE_BAD, {"vel": "900"}),
    "section_02_target_test_anomaly_0013_v1pat_04_v2pat_05": (
        *(2, TARGET_BAD),
        {"v1pat": "04", "v2pat": "05"},
    ),
    "section_00_source_train_normal_0000_pat_00": (0, SOURCE_TRAIN, {"pat": "00"}),
    "section_00_target_test_normal_0005_vel_26": (0, TARGET_GOOD, {"vel": "26"}),
    "section_01_source_test_anomaly_0037_vel_4_loc_A": (1, SOURCE_BAD, {"vel": "4", "loc": "A"}),
    "section_01_target_test_anomaly_0004_vel_4_loc_E": (1, TARGET_BAD, {"vel": "4", "loc": "E"}),
    "section_02_source_test_anomaly_0007_vel_14_f-n_B": (2, SOURCE_BAD, {"vel": "14", "f-n": "B"}),
    "section_00_source_test_anomaly_0000_vel_6": (0, SOURCE_BAD, {"vel": "6"}),
    "section_05_0196": (5, UNKNOWN, {}),
}
OF_2023 = {
    "section_00_source_train_normal_0014_volt_3.0_wt_0": (
        *(0, SOURCE_TRAIN),
        {"volt": "3.0", "wt": "0"},
    ),
    "section_00_source_train_normal_0073_volt_1.5_wt_0": (
        *(0, SOURCE_TRAIN),
        {"volt": "1.5", "wt": "0"},
    ),
    "section_00_source_test_anomaly_0005_vel_15": (0, SOURCE_BAD, {"vel": "15"}),
    "section_00_source_train_normal_0000_vel_8_loc_B": (0, SOURCE_TRAIN, {"vel": "8", "loc": "B"}),
    "section_00_target_train_normal_0009_vel_16_loc_E": (
        *(0, TARGET_TRAIN),
        {"vel": "16", "loc": "E"},
    ),
    "section_00_source_test_anomaly_0001_car_B1_spd_31V_mic_1": (
        *(0, SOURCE_BAD),
        {"car": "B1", "spd": "31V", "mic": "1"},
    ),
    "section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1": (
        *(0, SOURCE_GOOD),
        {"car": "A2", "spd": "28V", "mic": "1", "noise": "1"},
    ),
    "section_00_source_test_normal_0049_": (0, SOURCE_GOOD, {}),
    "section_00_target_test_anomaly_0000_": (0, TARGET_BAD, {}),
    "section_00_0000": (0, UNKNOWN, {}),
    "section_00_0199": (0, UNKNOWN, {}),
}
OF_2024 = {
    "section_00_source_train_normal_0001_pro_A": (0, SOURCE_TRAIN, {"pro": "A"}),
    "section_00_source_train_normal_0001_pro_A_vel_4_loc_A": (
        *(0, SOURCE_TRAIN),
        {"pro": "A", "vel": "4", "loc": "A"},
    ),
    "section_00_source_test_anomaly_0001_pro_A_vel_4_loc_A": (
        *(0, SOURCE_BAD),
        {"pro": "A", "vel": "4", "loc": "A"},
    ),
    "section_00_source_train_normal_0001_v1pat_A_v2pat_none": (
        *(0, SOURCE_TRAIN),
        {"v1pat": "A", "v2pat": "none"},
    ),
    "section_00_target_train_normal_0001_v1pat_A_v2pat_B": (
        *(0, TARGET_TRAIN),
        {"v1pat": "A", "v2pat": "B"},
    ),
    "section_00_source_test_anomaly_0032_noAttribute": (0, SOURCE_BAD, {}),
    "section_00_source_train_normal_0001_mic_imp34dt05_mic_pos_A": (
        *(0, SOURCE_TRAIN),
        {"mic": "imp34dt05", "mic_pos": "A"},
    ),
    "section_00_source_train_normal_0001_spd1000_BckgA": (
        *(0, SOURCE_TRAIN),
        {"spd": "1000", "Bckg": "A"},
    ),
    "section_00_source_normal_0001_ac_0.03_": (0, ("source", None, "normal"), {"ac": "0.03"}),
    "section_00_target_anomaly_0001_ac_0.03_": (0, ("target", None, "anomaly"), {"ac": "0.03"}),
    "section_00_0001": (0, UNKNOWN, {}),
}
OF_2025 = {
    "section_00_source_train_normal_0326_n_B": (0, SOURCE_TRAIN, {"n": "B"}),
    "section_00_target_train_normal_0000_n_B": (0, TARGET_TRAIN, {"n": "B"}),
    "section_00_source_test_anomaly_0000_n_B": (0, SOURCE_BAD, {"n": "B"}),
    "section_00_source_train_normal_0765_noAttribute": (0, SOURCE_TRAIN, {}),
    "section_00_target_test_anomaly_0005_noAttribute": (0, TARGET_BAD, {}),
    "section_00_source_train_normal_0002_car_B1_spd_31V_mic_1": (
        *(0, SOURCE_TRAIN),
        {"car": "B1", "spd": "31V", "mic": "1"},
    ),
}
OF_2026 = {"section_00_0001": (0, UNKNOWN, {})}
TABLES = {
    2020: {stem: (*told, {}) for stem, told in OF_2020.items()},
    2021: OF_2021,
    2022: OF_2022,
    2023: OF_2023,
    2024: OF_2024,
    2025: OF_2025,
    2026: OF_2026,
}


def test_the_tables_hold_sixty_names_and_more() -> None:
    assert len({stem for table in TABLES.values() for stem in table}) >= 60


@pytest.mark.parametrize("year", TABLES)
def test_names_of_a_year(year: int) -> None:
    for stem, (section, (domain, split, condition), attributes) in TABLES[year].items():
        name = parse_stem(stem)
        assert name is not None, stem
        said = (name.section, name.domain, name.split, name.condition)
        assert said == (section, domain, split, condition), stem
        assert parse_tail(name.tail) == attributes, stem
        assert name.stem == stem


@pytest.mark.parametrize("year", [2022, 2023, 2025])
def test_plain_pairs_are_written_back_as_they_were(year: int) -> None:
    for stem, (_, _, attributes) in TABLES[year].items():
        if attributes:
            assert stem.endswith("_".join(f"{key}_{value}" for key, value in attributes.items()))


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (None, {}),
        ("", {}),
        ("_", {}),
        ("noAttribute", {}),
        ("speed", {"speed": ""}),
        ("a_1_a_2_a_3", {"a": "1", "a#2": "2", "a#3": "3"}),
        ("spd_3.0_load_-1", {"spd": "3.0", "load": "-1"}),
        ("1_2", {"1": "2"}),
        ("mic_pos", {"mic": "pos"}),
        ("speed_1500_synthetic_mixup", {"speed": "1500", "synthetic": "mixup"}),
        ("spd_1 m_größe_ä", {"spd": "1 m", "größe": "ä"}),
    ],
)
def test_tails(tail: str | None, expected: dict[str, str]) -> None:
    assert parse_tail(tail) == expected


@pytest.mark.parametrize(
    ("stem", "split", "message"),
    [
        ("recording 7", "train", "does not follow the layout; expected section_<nn>"),
        ("section_00_0001", "train", "does not follow the layout"),
        ("id_01_00000000", "train", "does not follow the layout"),
        ("section_00_source_test_normal_0000", "train", "named test but lies in train/"),
        ("section_00_source_train_anomaly_0000", "train", "must all be normal"),
        ("anomaly_id_00_00000000", "train", "must all be normal"),
        ("section_00_sideways_train_normal_0000", "train", "does not follow the layout"),
        ("section_0_source_train_normal_0000", "train", "does not follow the layout"),
        ("section_\u0660\u0660_\u0661", "test", "does not follow the layout"),
    ],
)
def test_names_that_are_refused(stem: str, split: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        parse_name(stem, split)


WORDS = st.sampled_from(
    [
        "section",
        "id",
        "00",
        "03",
        "source",
        "target",
        "train",
        "test",
        "normal",
        "anomaly",
        "0000",
        "00000001",
        "",
        "spd",
        "3.0",
        "noAttribute",
        "f-n",
        "Ω",
        " ",
        "\u0661",
    ]
)
STEMS = st.lists(WORDS, max_size=12).map("_".join) | st.text(max_size=40)


@settings(deadline=None)
@given(STEMS)
@example("section_00_source_test_normal_0000_condition_anomaly")
@example("section_00_source_test_anomaly_0000_normal_0001")
@example("normal_id_00_00000000_anomaly")
@example("section_00_normal_0000_source_test_anomaly_0000")
@example("section_0000_00")  # two digits are written, whatever was read
def test_the_condition_is_the_word_before_the_number_and_nothing_else(stem: str) -> None:
    """The reference reads words from the left and knows no pattern."""
    name = parse_stem(stem)
    parse_tail(stem)
    if name is None:
        return
    words = stem.split("_")
    if words[0] == "section":
        head = [*takewhile(lambda word: not (word.isascii() and word.isdigit()), words[2:])]
    else:
        head = words[:1]
    assert [word for word in head if word in ("normal", "anomaly")] == (
        [name.condition] if name.condition else []
    )
    if words[1 if words[0] == "section" else 2] == f"{name.section:02d}":
        assert name.stem == stem


@settings(deadline=None)
@given(
    st.builds(
        ClipName,
        st.integers(0, 99),
        st.from_regex(r"[0-9]{1,8}", fullmatch=True),
        st.sampled_from(["source", "target"]),
        st.sampled_from(["train", "test", None]),
        st.sampled_from(["normal", "anomaly"]),
        st.none() | STEMS,
    )
)
def test_what_is_written_is_read_back(name: ClipName) -> None:
    assert parse_stem(name.stem) == name


@settings(deadline=None)
@given(STEMS)
def test_every_word_of_a_tail_is_kept(tail: str) -> None:
    words = [word for word in tail.split("_") if word]
    kept = "".join(f"{key}{value}" for key, value in parse_tail(tail).items())
    for word in words:
        assert word in kept or words == ["noAttribute"]
