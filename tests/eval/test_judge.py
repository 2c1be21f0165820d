"""Submission folders of any system and year: joined by name, refused with every fault, ranked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from cache.base.errors import AsdError
from eval.ranking.systems import called, spread
from eval.run import main

ErrorOf = Callable[..., str]


def make_truth(folder: Path, machines: int = 2, each: int = 12, seed: int = 0) -> pd.DataFrame:
    """Anonymous clips of several machines and the evaluator's three folders."""
    rng = np.random.default_rng(seed)
    frames = []
    for machine in (f"m{i}" for i in range(machines)):
        kinds = rng.permutation(np.repeat(np.arange(4), each))
        frame = pd.DataFrame({"machine": machine, "target": kinds // 2, "anomaly": kinds % 2})
        frame["clip"] = [f"section_00_{i:04d}.wav" for i in range(len(frame))]
        words = frame.replace({"target": {0: "source", 1: "target"},
                               "anomaly": {0: "normal", 1: "anomaly"}})  # fmt: skip
        frame["original"] = (
            "section_00_" + words.target + "_test_" + words.anomaly
            + "_" + frame.index.astype(str).str.zfill(4) + "_speed_1"
        )  # fmt: skip
        frames.append(frame)
        columns = {"data": "anomaly", "domain": "target", "attributes": "original"}
        for kind, column in columns.items():
            path = folder / f"ground_truth_{kind}" / f"ground_truth_{machine}_section_00_test.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            frame[["clip", column]].to_csv(path, header=False, index=False)
    return pd.concat(frames, ignore_index=True)


def submit(folder: Path, truth: pd.DataFrame, shift: float, seed: int, names: str = "clip") -> Path:
    """A system whose anomalies score `shift` deviations higher; rows in an order of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for machine, rows in truth.groupby("machine"):
        score = (rng.normal(0, 1, len(rows)) + shift * rows.anomaly).round(1)  # with ties
        called = pd.DataFrame({"clip": rows[names], "score": score, "call": (score > 1).astype(int)})
        called = called.sample(frac=1, random_state=seed)
        for kind, column in (("anomaly_score", "score"), ("decision_result", "call")):
            path = folder / f"{kind}_{machine}_section_00_test.csv"
            called[["clip", column]].to_csv(path, header=False, index=False)
    return folder


def evaluate(tmp_path: Path, *submissions: Path, options: tuple[str, ...] = ()) -> int:
    folders = [str(folder) for folder in submissions]
    truth = ["--ground-truth", str(tmp_path / "truth"), "--out", str(tmp_path / "out")]
    return main(["--submission", *folders, *truth, *options])


def read_json(tmp_path: Path, name: str = "results.json") -> dict:
    return json.loads((tmp_path / "out" / name).read_text())


def test_every_figure_is_scikit_learns_on_rows_joined_by_name(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "truth", each=20)
    folder = submit(tmp_path / "theirs", truth, 1.0, 1)
    assert evaluate(tmp_path, folder) == 0
    record = read_json(tmp_path)
    parts = []
    for row in record["sections"]:
        machine, columns = row["machine_type"], ["clip", "value"]
        known = truth[truth.machine == machine]
        for kind, name in (("anomaly_score", "score"), ("decision_result", "call")):
            file = folder / f"{kind}_{machine}_section_00_test.csv"
            values = pd.read_csv(file, names=columns).rename(columns={"value": name})
            known = known.merge(values, on="clip")
        pauc = roc_auc_score(known.anomaly, known.score, max_fpr=0.1)
        assert row["pauc"] == pytest.approx(pauc, abs=1e-12)
        for number, domain in enumerate(("source", "target")):
            rows = known[(known.target == number) | (known.anomaly == 1)]
            area = roc_auc_score(rows.anomaly, rows.score)
            assert row[f"auc_{domain}"] == pytest.approx(area, abs=1e-12)
            own = known[known.target == number]
            assert row[f"f1_{domain}"] == pytest.approx(f1_score(own.anomaly, own.call))
            parts.append(area)
        parts.append(pauc)
        low, high = row["intervals"]["auc_source"]
        assert low < row["auc_source"] < high
    assert record["official_score"] == pytest.approx(len(parts) / sum(1 / p for p in parts))
    assert record["title"] == "theirs"
    assert record["interval"]["bootstrap"][0] < record["official_score"]


def test_names_given_as_attribute_names_are_the_same_clips(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "truth")
    one = submit(tmp_path / "anonymous", truth, 1.0, 1)
    other = submit(tmp_path / "original", truth, 1.0, 1, names="original")
    assert evaluate(tmp_path, one, other) == 0
    first, second = read_json(tmp_path, "ranking.json")["systems"]
    assert first["official_score"] == second["official_score"]
    assert first["interval"] == second["interval"]


def test_constant_scores_are_chance(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "truth", machines=1)
    folder = submit(tmp_path / "flat", truth.assign(anomaly=0), 0.0, 1)
    for path in folder.iterdir():
        frame = pd.read_csv(path, names=["clip", "value"])
        frame.assign(value=0).to_csv(path, header=False, index=False)
    assert evaluate(tmp_path, folder) == 0
    record = read_json(tmp_path)
    (row,) = record["sections"]
    # All tied: AUC 1/2; the ROC is the diagonal, which McClish's standardisation puts at 1/2.
    assert (row["auc_source"], row["auc_target"], row["f1_source"]) == (0.5, 0.5, 0.0)
    assert record["official_score"] == pytest.approx(0.5)


def test_a_hand_made_submission(tmp_path: Path) -> None:
    # Clips a b (source, normal), c (target, normal), d (source, anomaly), e (target, anomaly);
    # scores 1 4 2 3 5. AUC source: 1<3, 1<5, 4>3, 4<5: 3/4. AUC target: 2<3, 2<5: 1.
    # pAUC: the ROC rises to 1/2 at 0 (5), goes right to 1/3 (4), so up to p = 0.1 its area is
    # 0.05: (1 + (0.05 - 0.005) / 0.095) / 2 = 14/19. Official: 3 / (4/3 + 1 + 19/14) = 252/310.
    # Decisions 0 1 0 1 1: source one hit, one false alarm, F1 2/3; target one hit, F1 1.
    tables = {
        "truth/ground_truth_data/ground_truth_fan_section_00_test.csv": "00011",
        "truth/ground_truth_domain/ground_truth_fan_section_00_test.csv": "00101",
        "sub/anomaly_score_fan_section_00_test.csv": "14235",
        "sub/decision_result_fan_section_00_test.csv": "01011",
    }
    for name, digits in tables.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{clip}.wav,{digit}" for clip, digit in zip("abcde", digits, strict=True)]
        path.write_text("\n".join(reversed(rows)))
    assert evaluate(tmp_path, tmp_path / "sub") == 0
    record = read_json(tmp_path)
    (row,) = record["sections"]
    assert (row["auc_source"], row["auc_target"]) == (3 / 4, 1.0)
    assert row["pauc"] == pytest.approx(14 / 19)
    assert (row["f1_source"], row["f1_target"]) == (2 / 3, 1.0)
    assert record["official_score"] == pytest.approx(252 / 310)
    assert record["harmonic_mean"]["auc_source"] == record["arithmetic_mean"]["auc_source"] == 0.75


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text.replace(" ", "\n"))


def test_the_rule_of_2020(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # fan 00: 1 < 2, AUC = pAUC = 1. fan 02: 2 > 1, AUC 0, pAUC 9/19. pump 04: tie, both 1/2.
    # Machine means (1 + 1 + 0 + 9/19) / 4 = 47/76 and 1/2; their mean is 85/152.
    for name, normal, anomaly in (("fan_id_00", 1, 2), ("fan_id_02", 2, 1), ("pump_id_04", 1, 1)):
        write(tmp_path / "sub", **{f"anomaly_score_{name}": f"a.wav,{normal} b.wav,{anomaly}"})
        data = {f"ground_truth_{name}": "a.wav,0 b.wav,1"}
        write(tmp_path / "truth" / "ground_truth_data", **data)
    assert evaluate(tmp_path, tmp_path / "sub") == 0
    record = read_json(tmp_path)
    assert record["official_score"] == pytest.approx(85 / 152)
    assert record["year"] == 2020
    assert record["sections"][0]["f1"] is None  # no decisions were asked for
    said = capsys.readouterr().out
    assert "arithmetic mean" in said
    assert "55.92" in said


def test_the_rule_of_2021(tmp_path: Path, error_of: ErrorOf) -> None:
    # Source 1 < 3 and target 5 > 4 with their own anomalies: AUC 1 and 0. By the rule of 2023
    # source normals meet both anomalies (1 < 3, 1 < 4: 1), and target normals too (5 > 3, 5 > 4).
    rows = {"source": "s0.wav,1 s1.wav,3", "target": "t0.wav,5 t1.wav,4"}
    for domain, text in rows.items():
        stem = f"fan_section_01_{domain}_test"
        clips = f"{domain[0]}0.wav,0 {domain[0]}1.wav,1"
        write(tmp_path / "sub", **{f"anomaly_score_{stem}": text,
                                   f"decision_result_{stem}": clips})  # fmt: skip
        write(tmp_path / "truth" / "ground_truth_data", **{f"ground_truth_{stem}": clips})
    assert evaluate(tmp_path, tmp_path / "sub") == 0
    record = read_json(tmp_path)
    (row,) = record["sections"]
    assert record["year"] == 2021
    assert (row["auc_source"], row["auc_target"], row["pauc_source"]) == (1.0, 0.0, 1.0)
    assert row["pauc_target"] == pytest.approx(9 / 19)
    assert record["official_score"] == 0.0
    assert row["f1_target"] == 1.0
    assert evaluate(tmp_path, tmp_path / "sub", options=("--year", "2024")) == 0
    assert read_json(tmp_path)["year"] == 2024
    other = tmp_path / "other"
    write(other, anomaly_score_fan_id_00="a.wav,1 b.wav,2")
    where = ["--ground-truth", tmp_path / "truth", "--out", tmp_path / "out"]
    said = error_of(main, "--submission", tmp_path / "sub", other, *where)
    assert "files in the form of 2020 and 2021: say with --year" in said


def test_own_anomalies_make_another_number(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "truth", machines=1)
    folder = submit(tmp_path / "sub", truth, 1.0, 1)
    known = truth.merge(pd.read_csv(folder / "anomaly_score_m0_section_00_test.csv",
                                    names=["clip", "score"]), on="clip")  # fmt: skip
    evaluate(tmp_path, folder, options=("--year", "2021"))
    (row,) = read_json(tmp_path)["sections"]
    for number, domain in enumerate(("source", "target")):
        own = known[known.target == number]
        expected = roc_auc_score(own.anomaly, own.score)
        assert row[f"auc_{domain}"] == pytest.approx(expected)
        partial = roc_auc_score(own.anomaly, own.score, max_fpr=0.1)
        assert row[f"pauc_{domain}"] == pytest.approx(partial)


def test_a_bad_submission_lists_every_fault_and_the_others_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = make_truth(tmp_path / "truth", machines=3)
    good = submit(tmp_path / "good", truth, 1.0, 1)
    bad = submit(tmp_path / "bad", truth, 1.0, 2)
    score = bad / "anomaly_score_m0_section_00_test.csv"
    lines = score.read_text().splitlines()
    lines[3] = lines[3].split(",")[0] + ",nan"
    score.write_text("\n".join([*lines[1:], lines[4]]))
    decision = bad / "decision_result_m1_section_00_test.csv"
    decision.write_text(decision.read_text().replace(",0\n", ",0.5\n", 1))
    (bad / "anomaly_score_m2_section_00_test.csv").unlink()
    (bad / "decision_result_m2_section_00_test.csv").unlink()
    write(bad, anomaly_score_m9_section_00_test="a.wav,1", anomaly_score_m0="a.wav,1")
    assert evaluate(tmp_path, bad, good) == 1
    said = capsys.readouterr()
    for fault in (
        "anomaly_score_m0.csv: not the name of a submission file",
        "line 3: score 'nan' is not a finite number",
        "stands in line 4 already",
        "1 clips not in the score file",
        "'0.5' is neither 0 nor 1",
        "decision_result_m9_section_00_test.csv: No such file",
        "no files of 'm2/section_00', which the ground truth holds",
    ):
        assert fault in said.err
    assert "1 system, 1 run evaluated, 1 system refused" in said.out
    assert (tmp_path / "out" / "good" / "results.json").exists()
    assert not (tmp_path / "out" / "bad").exists()
    assert evaluate(tmp_path, bad) == 2


def test_missing_and_extra_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = make_truth(tmp_path / "truth", machines=1)
    folder = submit(tmp_path / "sub", truth, 1.0, 1)
    for path in folder.iterdir():
        lines = path.read_text().splitlines()
        gone = next(line for line in lines if line.startswith("section_00_0007"))
        path.write_text("\n".join([*(x for x in lines if x != gone), "section_00_0999.wav,1"]))
    assert evaluate(tmp_path, folder) == 2
    said = capsys.readouterr().err
    assert "1 clips not in the ground truth: 'section_00_0999.wav'" in said
    assert "1 clips not in the submission: 'section_00_0007.wav'" in said


def test_a_part_says_that_it_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = make_truth(tmp_path / "truth", machines=3)
    folder = submit(tmp_path / "sub", truth[truth.machine == "m1"], 1.0, 1)
    assert evaluate(tmp_path, folder) == 2
    assert "--part evaluates the rest" in capsys.readouterr().err
    assert evaluate(tmp_path, folder, options=("--part",)) == 0
    assert "official score (part: 1 of 3 sections): " in capsys.readouterr().out
    assert read_json(tmp_path)["part"] == "part: 1 of 3 sections"


def test_development_clips_carry_their_truth(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "unused")
    truth = truth.assign(original=truth.original + ".wav")
    folder = submit(tmp_path / "dev", truth, 1.0, 1, names="original")
    assert main(["--submission", str(folder), "--out", str(tmp_path / "out")]) == 0
    told = read_json(tmp_path)["official_score"]
    (tmp_path / "unused").rename(tmp_path / "truth")
    evaluate(tmp_path, folder)
    assert read_json(tmp_path)["official_score"] == told


def test_several_seeds_and_systems_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = make_truth(tmp_path / "truth", each=40)
    for seed in range(3):
        submit(tmp_path / "seeds" / f"seed_{seed}", truth, 0.2, seed)
    good, twin = (submit(tmp_path / name, truth, 2.5, 9) for name in ("good", "twin"))
    assert evaluate(tmp_path, tmp_path / "seeds", good, twin) == 0
    said = capsys.readouterr().out
    record = read_json(tmp_path, "ranking.json")
    assert [system["name"] for system in record["systems"]] == ["good", "twin", "seeds"]
    runs = [read_json(tmp_path, f"seeds/seed_{i}/results.json") for i in range(3)]
    scores = [run["official_score"] for run in runs]
    found = record["systems"][2]["official_score"]
    assert found["mean"] == pytest.approx(np.mean(scores))
    assert found["deviation"] == pytest.approx(np.std(scores, ddof=1))
    areas = [run["sections"][0]["auc_source"] for run in runs]
    expected = f"{100 * np.mean(areas):.2f} ± {100 * np.std(areas, ddof=1):.2f}"
    assert expected in said
    assert expected in (tmp_path / "out" / "ranking.md").read_text()
    assert "no difference shown between good and twin" in said
    assert "good is better than seeds (difference +" in said
    table = pd.read_csv(tmp_path / "out" / "ranking.csv").set_index("system")
    assert table.loc["seeds", "official_mean"] == pytest.approx(np.mean(scores))
    assert table.loc["seeds", "runs"] == 3
    assert np.isnan(table.loc["good", "official_deviation"])


def test_runs_of_one_system_hold_the_same_sections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = make_truth(tmp_path / "truth")
    submit(tmp_path / "sys" / "a", truth, 1.0, 1)
    submit(tmp_path / "sys" / "b", truth[truth.machine == "m0"], 1.0, 1)
    assert evaluate(tmp_path, tmp_path / "sys", options=("--part",)) == 2
    assert "its runs do not hold the same sections" in capsys.readouterr().err


def test_names_tell_folders_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "results", tmp_path / "b" / "results", tmp_path / "c"]
    assert called(folders) == ["a/results", "b/results", "c"]
    with pytest.raises(AsdError, match="is named twice"):
        called([tmp_path / "c", tmp_path / "x" / ".." / "c"])


def test_a_spread_by_hand() -> None:
    # Mean 2; deviations -1, 0, 1: sqrt((1 + 0 + 1) / 2) = 1.
    found = spread([1.0, 2.0, 3.0])
    assert found is not None
    assert (found.mean, found.deviation) == (2.0, 1.0)
    assert spread([1.0, None]) is None
    assert spread([]) is None


def test_folders_that_hold_nothing(tmp_path: Path, error_of: ErrorOf) -> None:
    assert "is not a folder" in error_of(main, "--submission", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    said = error_of(main, "--submission", tmp_path / "empty", "--out", tmp_path / "out")
    assert "no anomaly_score_<machine>_section_<nn>_test.csv in it" in said
