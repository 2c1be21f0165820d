"""A listener's marks as the truth of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cache.base.errors import AsdError
from cache.table import Section
from eval.results.submission import Submission
from eval.results.truth import marked, read_marks
from eval.run import main

FAN = Section("fan", 0)
HEAD = "machine_type,section,clip,mark\r\n"


def submission() -> Submission:
    scores = np.random.default_rng(0).normal(size=8)
    files = tuple(f"clip {i}.wav" for i in range(8))
    return Submission(FAN, files, scores, (scores > 0).astype(np.int64))


def write(path: Path, marks: dict[str, str]) -> Path:
    path.write_text(HEAD + "".join(f"fan,0,new/{clip},{mark}\r\n" for clip, mark in marks.items()))
    return path


def test_only_marked_clips_are_judged(tmp_path: Path) -> None:
    whole = submission()
    marks = {f"clip {i}.wav": "abnormal" if i % 2 else "normal" for i in range(5)}
    part, truth = marked(write(tmp_path / "m.csv", marks), whole)
    assert truth is not None
    assert part.files == whole.files[:5]
    assert np.array_equal(part.scores, whole.scores[:5])
    assert truth.anomaly.tolist() == [False, True, False, True, False]
    one_kind = write(tmp_path / "n.csv", {"clip 1.wav": "normal"})
    assert marked(one_kind, whole) == (whole, None)
    with pytest.raises(AsdError, match="has no scores of x.wav"):
        marked(write(tmp_path / "x.csv", {"x.wav": "normal"}), whole)
    assert read_marks(tmp_path / "m.csv", Section("pump", 0)) == {}


def test_the_command_takes_the_pages_marks(tmp_path: Path) -> None:
    whole, folder = submission(), tmp_path / "theirs"
    folder.mkdir()
    for name, values in (("anomaly_score", whole.scores), ("decision_result", whole.decisions)):
        assert values is not None
        lines = [f"{file},{value}" for file, value in zip(whole.files, values.tolist(), strict=True)]
        (folder / f"{name}_fan_section_00_test.csv").write_text("\n".join(lines) + "\n")
    marks = write(
        tmp_path / "marks.csv", {f"clip {i}.wav": "abnormal" if i > 2 else "normal" for i in range(6)}
    )
    out = tmp_path / "out"
    code = main(["--submission", str(folder), "--marks", str(marks), "--out", str(out), "--no-report"])
    assert code == 0
    wanted = roc_auc_score([0, 0, 0, 1, 1, 1], whole.scores[:6])
    assert f"{wanted:.6f}"[:8] in json.dumps(json.loads((out / "results.json").read_text()))
