"""Result tables: what people paste and what programs read."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache.table import Section
from eval.metrics.intervals import Interval, Uncertainty
from eval.metrics.official import Detection
from eval.metrics.sections import FIGURES, SectionResult, SectionTruth, evaluate_section
from eval.results.folder import ResultsFolder
from eval.results.tables import SystemResult, format_table, interval_text, write_results

COUNTS = {"source": {"normal": 50, "anomaly": 40}, "target": {"normal": 30, "anomaly": 20}}
FAN = SectionResult(
    auc_source=1 / 3,
    auc_target=0.5,
    pauc=0.6,
    auc=0.4,
    pauc_printed=0.1,
    detection_source=Detection(0.5, 1.0, 2 / 3),
    detection_target=Detection(0.0, 0.0, 0.0),
    detection=Detection(0.25, 0.5, 1 / 3),
    counts=COUNTS,
)
VALVE = replace(FAN, auc_source=1.0, detection_target=Detection(1.0, 1.0, 1.0))
UNKNOWN = evaluate_section([1, 2, 3], [0, 0, 1], SectionTruth(np.array([False, False, True])))
SYSTEM = SystemResult(
    "min distance",
    {Section("valve", 1): VALVE, Section("fan", 0): FAN},
    {"recipe": "0123abcd", "command": "python -m eval.run\n  --scorer min-distance"},
)


def markdown(result: SystemResult, folder: Path) -> list[str]:
    write_results(ResultsFolder(folder), result)
    return (folder / "results.md").read_text().splitlines()


def test_the_pasted_table(tmp_path: Path) -> None:
    # Harmonic means: 2 / (3 + 1) = 0.5; 0.5; 0.6; 2/3; 0.0 because one is 0. Official score:
    # 6 / (3 + 2 + 1/0.6 + 1 + 2 + 1/0.6) = 6 / (34/3) = 9/17.
    assert markdown(SYSTEM, tmp_path) == [
        "# min distance",
        "",
        "| machine | section | AUC source | AUC target | pAUC | F1 source | F1 target |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| fan | 00 | 33.33 | 50.00 | 60.00 | 66.67 | 0.00 |",
        "| valve | 01 | 100.00 | 50.00 | 60.00 | 66.67 | 100.00 |",
        "| harmonic mean |  | 50.00 | 50.00 | 60.00 | 66.67 | 0.00 |",
        "",
        "official score: 52.94",
        "",
        "Figures in %; - is a figure that the clips do not allow.",
        "",
        "- recipe: 0123abcd",
        "- command: python -m eval.run --scorer min-distance",
    ]


def test_the_printed_table() -> None:
    assert format_table(SYSTEM).splitlines() == [
        "min distance",
        "",
        "machine        section  AUC source  AUC target   pAUC  F1 source  F1 target",
        "-------------  -------  ----------  ----------  -----  ---------  ---------",
        "fan            00            33.33       50.00  60.00      66.67       0.00",
        "valve          01           100.00       50.00  60.00      66.67     100.00",
        "-------------  -------  ----------  ----------  -----  ---------  ---------",
        "harmonic mean                50.00       50.00  60.00      66.67       0.00",
        "",
        "official score: 52.94",
    ]


def test_a_transductive_system_is_marked_everywhere(tmp_path: Path) -> None:
    system = replace(SYSTEM, transductive=True)
    lines = markdown(system, tmp_path)
    assert lines[0] == "# min distance (transductive)"
    assert any(line.startswith("| harmonic mean (transductive) |") for line in lines)
    assert "official score (transductive): 52.94" in lines
    assert "Transductive: scores use the test set's own statistics." in lines
    assert format_table(system).count("(transductive)") == 3
    assert set(pd.read_csv(tmp_path / "results.csv")["transductive"]) == {True}
    assert json.loads((tmp_path / "results.json").read_text())["transductive"] is True


def test_nothing_else_is_marked(tmp_path: Path) -> None:
    write_results(ResultsFolder(tmp_path), SYSTEM)
    assert "ransductive" not in (tmp_path / "results.md").read_text() + format_table(SYSTEM)
    assert set(pd.read_csv(tmp_path / "results.csv")["transductive"]) == {False}


def test_figures_that_cannot_be_computed_are_dashes(tmp_path: Path) -> None:
    system = replace(SYSTEM, sections={**SYSTEM.sections, Section("pump", 0): UNKNOWN})
    lines = markdown(system, tmp_path)
    assert lines[2].endswith("| F1 target | AUC | F1 |")  # what such a section does have
    assert "| pump | 00 | - | - | 100.00 | - | - | 100.00 | 100.00 |" in lines
    # pAUC: 3 / (2/0.6 + 1) = 9/13; AUC: 3 / (2/0.4 + 1) = 1/2; F1: 3 / (3 + 3 + 1) = 3/7.
    assert "| harmonic mean |  | - | - | 69.23 | - | - | 50.00 | 42.86 |" in lines
    assert "official score: -" in lines
    assert "nan" not in format_table(system)


def test_sections_without_ground_truth_are_named(tmp_path: Path) -> None:
    unknown = [Section("pump", 3), Section("gearbox", 0)]
    system = replace(SYSTEM, unknown=unknown)
    line = "no ground truth: gearbox/section_00, pump/section_03"
    assert line in markdown(system, tmp_path)
    assert format_table(system).endswith(f"official score: 52.94\n{line}")
    table = pd.read_csv(tmp_path / "results.csv").set_index("machine_type")
    assert table.loc["pump", list(FIGURES)].isna().all()
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["no_ground_truth"] == ["gearbox/section_00", "pump/section_03"]
    assert record["official_score"] == pytest.approx(9 / 17)


def test_only_sections_without_ground_truth(tmp_path: Path) -> None:
    system = SystemResult("empty", {}, {}, unknown=[Section("pump", 3)])
    lines = markdown(system, tmp_path)
    assert "| harmonic mean |  | - | - | - | - | - |" in lines
    assert "official score: -" in lines
    assert format_table(system).endswith("no ground truth: pump/section_03")


def test_results_csv(tmp_path: Path) -> None:
    write_results(ResultsFolder(tmp_path), SYSTEM)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [(row["machine_type"], row["section"]) for row in rows]
    assert names == [("fan", "00"), ("valve", "01"), ("arithmetic mean", ""), ("harmonic mean", "")]
    assert [float(row["auc_source"]) for row in rows] == [
        *(1 / 3, 1.0),
        pytest.approx(2 / 3),
        pytest.approx(1 / 2),
    ]
    assert float(rows[0]["f1_source"]) == 2 / 3  # every digit
    counts = [rows[0][f"{c}_{d}"] for d in ("source", "target") for c in ("normal", "anomaly")]
    assert counts == ["50", "40", "30", "20"]
    assert (rows[0]["normal_unknown"], rows[2]["normal_source"]) == ("0", "")


def test_results_json_keeps_every_figure_exactly(tmp_path: Path) -> None:
    system = replace(SYSTEM, sections={**SYSTEM.sections, Section("pump", 0): UNKNOWN})
    write_results(ResultsFolder(tmp_path), system)
    record = json.loads((tmp_path / "results.json").read_text())
    assert (record["title"], record["facts"]) == ("min distance", SYSTEM.facts)
    assert [row["machine_type"] for row in record["sections"]] == ["fan", "pump", "valve"]
    for row in record["sections"]:
        found = system.sections[Section(row["machine_type"], row["section"])]
        assert {name: row[name] for name in FIGURES} == found.figures
        assert row["counts"] == found.counts
    assert record["official_score"] is None
    assert record["harmonic_mean"]["auc_source"] is None
    assert record["arithmetic_mean"]["pauc"] == pytest.approx(2.2 / 3)


def test_names_do_not_break_the_markdown(tmp_path: Path) -> None:
    system = replace(SYSTEM, title="a\nb", sections={Section("left|right", 0): FAN})
    lines = markdown(system, tmp_path)
    assert lines[0] == "# a b"
    assert any(line.startswith("| left\\|right | 00 |") for line in lines)


def test_three_files_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    paths = write_results(ResultsFolder(folder), SYSTEM)
    assert [path.name for path in paths] == ["results.csv", "results.json", "results.md"]
    assert write_results(ResultsFolder(folder), SYSTEM) == paths
    assert sorted(folder.iterdir()) == paths


def test_an_interval_that_is_of_no_use_says_so() -> None:
    wide, fair = Interval(0.4, 0.9), Interval(0.6, 0.8)
    assert "next to nothing" in interval_text(Uncertainty(0.95, wide, fair))
    assert interval_text(Uncertainty(0.95, fair, wide)) == (
        "95 % interval: 60.00 to 80.00 (bootstrap), 40.00 to 90.00 (jackknife)"
    )
