"""The published tables beside our runs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import harmonic_mean

import pytest
import torch

from eval.baselines.published import MACHINES, compare, format_comparison, read_published
from eval.baselines.run import main
from eval.baselines.summary import summarise_runs
from tests.conftest import write_root

ErrorOf = Callable[..., str]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def written(path: Path, *rows: str) -> Path:
    path.write_text("mode,machine_type,figure,mean,deviation,source\n" + "\n".join(rows) + "\n")
    return path


def test_a_figure_outside_three_deviations_is_flagged(tmp_path: Path) -> None:
    rows = [
        "mse,fan,auc_source,70.0,1.0,here",  # ours 72.9: inside
        "mse,fan,auc_target,70.0,1.0,here",  # ours 66.9: outside
        "mse,fan,pauc,50.0,,here",
        "mahalanobis,fan,pauc,99.0,0.1,here",
    ]
    runs = [
        {"fan/section_00": {"auc_source": a, "auc_target": 0.669, "pauc": 0.6}, "": {}}
        for a in (0.719, 0.739)
    ]
    found = compare("mse", summarise_runs("x", runs, {}), read_published(
        written(tmp_path / "p.csv", *rows)
    ))  # fmt: skip
    assert [row.outside for row in found] == [False, True, None]
    assert [row.difference for row in found] == pytest.approx([2.9, -3.1, 10.0])
    text = format_comparison("mse", found).splitlines()
    assert "fan      AUC source  72.90 +- 1.41  70.00 +- 1.00  +2.90" in text
    assert "fan      AUC target  66.90 +- 0.00  70.00 +- 1.00  -3.10       *" in text
    assert "* outside 3 published standard deviations: 1 of 2 figures" in text


def test_what_comes_with_the_program_names_its_source() -> None:
    found = read_published()
    for mode, official in (("mse", 55.02), ("mahalanobis", 56.91)):
        assert found[mode, "", "official"].mean == official
        machines = [row.mean for key, row in found.items() if key[0] == mode and key[1]]
        assert len(machines) == 7 * 3
        assert harmonic_mean(machines) == pytest.approx(official, abs=0.005)  # no slip of the pen
    assert all("2305.07828" in row.source for row in found.values())


def test_the_papers_tables_are_printed_machine_by_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for machine in MACHINES:
        write_root(tmp_path / "data", machine, source=14)
    rows = [f"mse,{machine},pauc,1.0,0.1,here" for machine in MACHINES]
    arguments = ["--mode", "paper", "--data", tmp_path / "data", "--seeds", 0, 1, "--epochs", 1]
    rest = ["--cache-dir", tmp_path / "cache", "--out", tmp_path / "out", "--jobs", 1]
    given = ["--published", written(tmp_path / "p.csv", *rows)]
    for machine in MACHINES:  # target covariances of two short clips cannot be inverted
        for path in (tmp_path / "data" / machine / "train").glob("*target*"):
            path.unlink()
    assert main([str(part) for part in (*arguments, *rest, *given)]) == 0
    said = capsys.readouterr().out
    assert "Table 1: simple autoencoder mode" in said
    assert "Table 2: selective Mahalanobis mode" in said
    assert "* outside 3 published standard deviations: 7 of 7 figures" in said
    assert "* outside 3 published standard deviations: 0 of 0 figures" in said
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (7 * 3 + 1)
    flagged = {(row["mode"], row["machine_type"]) for row in lines if row["outside"] == "True"}
    assert flagged == {("mse", machine) for machine in MACHINES}
    assert (tmp_path / "out" / "mse" / "seed_1" / "results.json").exists()
    assert (tmp_path / "out" / "mahalanobis" / "summary.md").exists()


def test_without_the_data_it_says_where_to_get_it(tmp_path: Path, error_of: ErrorOf) -> None:
    where = "https://doi.org/10.5281/zenodo.7882613"
    assert where in error_of(main, "--mode", "paper")
    assert where in error_of(main, "--mode", "paper", "--data", tmp_path / "none")
    write_root(tmp_path / "data", "pump")
    said = error_of(main, "--mode", "paper", "--data", tmp_path / "data")
    assert where in said
    assert "ToyCar, ToyTrain, bearing" in said


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mode,fan,pauc,1,1,x", "mode 'mode' is not one of mse, mahalanobis"),
        ("mse,pump,pauc,1,1,x", "machine_type 'pump'"),
        ("mse,fan,f1,1,1,x", "figure 'f1'"),
        ("mse,fan,pauc,101,1,x", "expected 0 to 100"),
        ("mse,fan,pauc,nan,1,x", "expected 0 to 100"),
        ("mse,fan,pauc,high,1,x", "could not convert"),
        ("mse,fan,pauc", "line 2"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, error_of: ErrorOf, row: str, message: str) -> None:
    write_root(tmp_path / "data", "fan")
    path = written(tmp_path / "p.csv", row)
    said = error_of(main, "--mode", "paper", "--data", tmp_path / "data", "--published", path)
    assert message in said
    assert "p.csv, line 2" in said


def test_another_file_is_refused(tmp_path: Path, error_of: ErrorOf) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    said = error_of(main, "--mode", "paper", "--published", tmp_path / "p.csv")
    assert "expected mode,machine_type,figure,mean,deviation,source" in said
