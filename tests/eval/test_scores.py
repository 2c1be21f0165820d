"""Submission files and ground truth: round trips, and every fault of a bad file."""

from __future__ import annotations

import csv
import io
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.base.errors import AsdError
from cache.table import Section
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, parse_file, sections_in
from eval.results.submission import (
    Submission,
    read_submission,
    write_submission,
)
from eval.results.truth import Truth, align, clip_name, has_ground_truth, read_ground_truth

FAN = Section("fan", 0)
SCORES = "anomaly_score_fan_section_00_test.csv"
DECISIONS = "decision_result_fan_section_00_test.csv"
TRUTH = "ground_truth_fan_section_00_test.csv"


def submit(*files: str) -> Submission:
    count = len(files)
    return Submission(FAN, files, np.arange(count) / 7, np.arange(count) % 2)


def write_pair(folder: Path, scores: str | bytes, decisions: str | bytes) -> Path:
    for name, text in ((SCORES, scores), (DECISIONS, decisions)):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def write_truth(folder: Path, **kinds: str) -> Path:
    for kind, text in kinds.items():
        path = folder / f"ground_truth_{kind}" / TRUTH
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(AsdError) as caught:
        read_submission(folder, FAN)
    title, *faults = str(caught.value).split("\n  ")
    assert title == f"fan/section_00: faults in the submission files of {folder}:"
    return faults


def test_files_are_what_the_challenge_wants(tmp_path: Path) -> None:
    submission = Submission(
        FAN,
        ("section_00_0001.wav", "section_00_0000.wav"),
        np.array([0.1, 2e-30]),
        np.array([1, 0]),
    )
    paths = write_submission(ResultsFolder(tmp_path / "new"), submission)
    assert [path.name for path in paths] == [SCORES, DECISIONS]
    assert paths[0].read_bytes() == b"section_00_0000.wav,2e-30\nsection_00_0001.wav,0.1\n"
    assert paths[1].read_bytes() == b"section_00_0000.wav,0\nsection_00_0001.wav,1\n"
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0\r\n\ufeff"), min_size=1
).filter(lambda name: bool(name.strip()))


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        NAMES,
        st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 1)),
        min_size=1,
    )
)
def test_a_submission_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, tuple[float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    scores, decisions = map(np.array, zip(*rows.values(), strict=True))
    section = Section("slide_rail x", 12)
    write_submission(ResultsFolder(folder), Submission(section, tuple(rows), scores, decisions))
    found = read_submission(folder, section)
    assert found.files == tuple(sorted(rows))
    for file, score, decision in zip(found.files, found.scores, found.decisions, strict=True):
        assert struct.pack("d", score) == struct.pack("d", rows[file][0])  # -0.0 too
        assert decision == rows[file][1]
    assert (found.section, found.scores.dtype, found.decisions.dtype) == (
        section,
        np.float64,
        np.int64,
    )


def test_foreign_files_are_read(tmp_path: Path) -> None:
    folder = write_pair(
        tmp_path,
        b"\xef\xbb\xbfb clip.wav,1e-3\r\na.wav, 7\r\n\r\n",
        "a.wav,1\r\n\r\nb clip.wav, 0",
    )
    found = read_submission(folder, FAN)
    assert found.files == ("a.wav", "b clip.wav")
    assert found.scores.tolist() == [7.0, 0.001]
    assert found.decisions.tolist() == [1, 0]


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    scores = "a.wav,1\nb.wav,nan\nc.wav,inf\nd.wav,high\ne.wav\na.wav,2\nf.wav,1,2\ng.wav,1_0\n"
    decisions = "a.wav,1\nb.wav,2\nc.wav,0.5\nd.wav,\nx/y.wav,0\nz.wav,0\n"
    assert faults_of(write_pair(tmp_path, scores, decisions)) == [
        f"{SCORES}, line 2: score 'nan' is not a finite number",
        f"{SCORES}, line 3: score 'inf' is not a finite number",
        f"{SCORES}, line 4: score 'high' is not a finite number",
        f"{SCORES}, line 5: 1 columns, expected 2",
        f"{SCORES}, line 6: 'a.wav' stands in line 1 already",
        f"{SCORES}, line 7: 3 columns, expected 2",
        f"{SCORES}, line 8: score '1_0' is not a finite number",
        f"{DECISIONS}, line 2: '2' is neither 0 nor 1",
        f"{DECISIONS}, line 3: '0.5' is neither 0 nor 1",
        f"{DECISIONS}, line 4: '' is neither 0 nor 1",
        "clips not given by base name: 'x/y.wav'",
        "3 clips not in the decision file: 'e.wav', 'f.wav', 'g.wav'",
        "2 clips not in the score file: 'x/y.wav', 'z.wav'",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("separator", "first", "scores"),
    [
        (",", "", ("0.5", "1", "-2e-3")),  # as the challenge writes them
        (";", "", ("0,5", "1", "-2e-3")),
        (";", "sep=;", ("0,5", "1,0", "-0,002")),
        ("\t", "", ("0,5", "1", "-0.002")),
    ],
)
def test_scores_as_spreadsheets_write_them(
    tmp_path: Path, encoding: str, separator: str, first: str, scores: tuple[str, ...]
) -> None:
    for name, column in ((SCORES, scores), (DECISIONS, ("1", "0", "1"))):
        text = io.StringIO(newline="")
        rows = zip(("a;b.wav", "c.wav", "d,e.wav"), column, strict=True)
        csv.writer(text, delimiter=separator).writerows([[first], *rows, []])
        (tmp_path / name).write_bytes(text.getvalue().encode(encoding))
    found = read_submission(tmp_path, Section("fan", 0))
    assert found.files == ("a;b.wav", "c.wav", "d,e.wav")
    assert found.scores.tolist() == [0.5, 1.0, -0.002]
    assert found.decisions is not None
    assert found.decisions.tolist() == [1, 0, 1]


def test_names_that_look_the_same_meet_in_the_truth(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(f, "prüf.wav") for f in ("NFC", "NFD"))
    truth = read_ground_truth(write_truth(tmp_path, data=f"{composed},1\n"), Section("fan", 0))
    submission = Submission(Section("fan", 0), (decomposed,), np.array([1.0]), np.array([1]))
    assert align(submission, truth).anomaly.tolist() == [True]


def test_a_decimal_comma_between_commas_is_a_fault_of_its_line(tmp_path: Path) -> None:
    found = faults_of(write_pair(tmp_path, "a.wav,0,5\nb.wav,1\n", "a.wav,1\nb.wav,1\n"))
    assert found == [f"{SCORES}, line 1: 3 columns, expected 2"]


def test_different_clips_name_the_first_few(tmp_path: Path) -> None:
    scores = "".join(f"{i}.wav,1\n" for i in range(9))
    assert faults_of(write_pair(tmp_path, scores, "8.wav,1\n")) == [
        "8 clips not in the decision file: '0.wav', '1.wav', '2.wav', '3.wav', '4.wav' and 3 more"
    ]


def test_missing_empty_and_unreadable_files(tmp_path: Path) -> None:
    missing = [f"{name}: No such file or directory" for name in (SCORES, DECISIONS)]
    assert faults_of(tmp_path) == missing
    (tmp_path / SCORES).write_text("\r\n \n")
    assert faults_of(tmp_path) == [f"{SCORES}: no rows", missing[1]]
    (tmp_path / SCORES).write_bytes(b"\xff\xfe,1\n")
    assert faults_of(tmp_path)[0].startswith(f"{SCORES}: not a CSV file in UTF-8: ")
    (tmp_path / SCORES).write_text("a" * 200_000)
    assert "field larger than field limit" in faults_of(tmp_path)[0]


@pytest.mark.parametrize(
    ("files", "scores", "decisions", "message"),
    [
        ((), [], [], "0 files"),
        (("a",), [1, 2], [1], r"1 files, scores \(2,\), decisions \(1,\)"),
        (("a", "b", "a"), [1, 2, 3], [0, 0, 0], "clips there twice: 'a'"),
        (("a/b.wav", "c"), [1, 2], [0, 0], "not given by base name: 'a/b.wav'"),
        (("",), [1], [0], "not given by base name: ''"),
        (("a\rb", "c\n"), [1, 2], [0, 0], r"not given by base name: 'a\\rb', 'c\\n'"),
        (("a", "b"), [1, np.nan], [0, 0], "score that is not finite: 'b'"),
        (("a", "b"), [1, 2], [0, 2], "neither 0 nor 1: 'b'"),
    ],
)
def test_a_submission_is_checked(files: tuple, scores: list, decisions: list, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        Submission(FAN, files, np.array(scores, dtype=float), np.array(decisions))


def test_a_submission_names_every_kind_of_fault() -> None:
    with pytest.raises(AsdError) as caught:
        Submission(FAN, ("a", "a", "/"), np.array([1, np.inf, 1]), np.array([0, 0, 3]))
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize(
    "section",
    [FAN, Section("ToyCar", 7), Section("slide_rail_section_01", 12), Section("a b", 123)],
)
def test_names_give_the_section_back(section: Section) -> None:
    for name in (file_name("anomaly_score", section), file_name("decision_result", section)):
        file = parse_file(Path(name))
        assert file is not None
        assert (file.section, file.domain, file.year) == (section, None, None)


def test_names_are_the_challenges() -> None:
    assert (file_name("anomaly_score", FAN), file_name("decision_result", FAN)) == (
        SCORES,
        DECISIONS,
    )


@pytest.mark.parametrize(
    "name",
    [
        "anomaly_score_fan_section_0_test.csv",
        "anomaly_score_fan_section_007_test.csv",
        "anomaly_score_fan_section_00_train.csv",
        "anomaly_score_fan_section_00_domain_test.csv",
        "anomaly_score_section_00_test.csv",
        "anomaly_score_.fan_section_00_test.csv",
        "anomaly_score_fan_section_٠٠_test.csv",  # noqa: RUF001  digits, not ours
        "." + SCORES + ".0-1.ab.tmp",
        "decision_result_fan_section_00_test.csv.bak",
        "results.csv",
    ],
)
def test_other_names_give_none(name: str) -> None:
    assert parse_file(Path(name)) is None


def test_sections_in_a_folder(tmp_path: Path) -> None:
    for section in (Section("slide_rail", 1), Section("fan", 2), FAN):
        write_submission(ResultsFolder(tmp_path), Submission(section, ("a.wav",), np.ones(1), np.ones(1)))
    (tmp_path / file_name("decision_result", FAN)).unlink()  # half a submission is a section with a fault
    (tmp_path / "results.csv").touch()
    (tmp_path / file_name("anomaly_score", Section("folder", 0))).mkdir()
    assert sections_in(tmp_path) == [FAN, Section("fan", 2), Section("slide_rail", 1)]
    with pytest.raises(AsdError, match="no folder .*nowhere"):
        sections_in(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("section_00_0000.wav", "section_00_0000.wav"),
        ("section_00_0000", "section_00_0000.wav"),
        ("fan/test/section_00_0000.wav", "section_00_0000.wav"),
        ("fan\\test\\section_00_0000", "section_00_0000.wav"),
        (" speed_1.5 ", "speed_1.5.wav"),
        ("a.FLAC", "a.FLAC"),
    ],
)
def test_clip_names(name: str, expected: str) -> None:
    assert clip_name(name) == expected


def test_ground_truth_of_three_files(tmp_path: Path) -> None:
    folder = write_truth(
        tmp_path,
        data="b.wav,1\na.wav,0\n",
        domain="fan/test/a.wav,1\r\nb,0\r\n\r\n",
        attributes="a,section_00_target_test_normal_0003_speed_1\nb.wav,b name.wav\n",
    )
    assert has_ground_truth(folder, FAN)
    assert not has_ground_truth(folder, Section("fan", 1))
    assert read_ground_truth(folder, FAN) == {
        "a.wav": Truth(False, "target", "section_00_target_test_normal_0003_speed_1"),
        "b.wav": Truth(True, "source", "b name.wav"),
    }


def test_ground_truth_of_one_file(tmp_path: Path) -> None:
    folder = write_truth(tmp_path, data="a.wav,1\n")
    assert read_ground_truth(folder, FAN) == {"a.wav": Truth(True, None, None)}


def test_ground_truth_lists_every_fault(tmp_path: Path) -> None:
    folder = write_truth(tmp_path, data="a.wav,anomaly\nb.wav,1\nb,0\nc.wav,0\n", domain="a.wav,2\nb.wav,0\n")
    with pytest.raises(AsdError) as caught:
        read_ground_truth(folder, FAN)
    assert str(caught.value).split("\n  ") == [
        f"fan/section_00: faults in the ground truth of {folder}:",
        f"ground_truth_data/{TRUTH}, line 1: 'anomaly' is neither 0 nor 1",
        f"ground_truth_data/{TRUTH}: 'b.wav' there twice",
        f"ground_truth_domain/{TRUTH}, line 1: '2' is neither 0 nor 1",
        "1 clips not in ground_truth_domain: 'c.wav'",
    ]
    with pytest.raises(AsdError, match="ground_truth_data/.*No such file"):
        read_ground_truth(folder, Section("fan", 1))


def test_a_domain_is_one_of_two() -> None:
    with pytest.raises(AsdError, match="domain 'taget' is not one of source, target"):
        Truth(True, "taget")


def test_align_joins_by_name() -> None:
    truth = {
        "fan/test/c.wav": Truth(True, "source"),
        "a": Truth(False, "target"),
        "b.wav": Truth(True, "target"),
    }
    found = align(submit("b.wav", "c.wav", "a.wav"), truth)  # sorted: a, b, c
    assert found.anomaly.tolist() == [False, True, True]
    assert found.target is not None
    assert found.target.tolist() == [True, True, False]
    assert found.anomaly.dtype == found.target.dtype == np.bool_


def test_align_without_domains() -> None:
    found = align(submit("a.wav", "b.wav"), {"b": Truth(True), "a": Truth(False)})
    assert (found.anomaly.tolist(), found.target) == ([False, True], None)


def test_align_names_what_is_missing_on_either_side() -> None:
    submission = submit(*(f"{i}.wav" for i in range(8)))
    truth = {f"{i}.wav": Truth(False, "source" if i else None) for i in (0, 1, 100, 200)}
    with pytest.raises(AsdError) as caught:
        align(submission, {**truth, "fan/1": Truth(True, "source")})
    assert str(caught.value).split("\n  ") == [
        "fan/section_00: scores and ground truth do not match:",
        "6 clips not in the ground truth: '2.wav', '3.wav', '4.wav', '5.wav', '6.wav' and 1 more",
        "2 clips not in the submission: '100.wav', '200.wav'",
        "the ground truth: '1.wav' there twice",
        "the domain is known of some clips but not of '0.wav'",
    ]


def test_real_ground_truth_agrees_with_its_original_names(real_data: Path) -> None:
    section = Section("UavCw", 0)
    truth = read_ground_truth(real_data / "ground_truth", section)
    assert len(truth) == 198
    for clip in truth.values():
        assert clip.name is not None
        _, _, domain, _, condition, *_ = clip.name.split("_")
        assert (clip.domain, clip.anomaly) == (domain, condition == "anomaly")
    submission = Submission(section, tuple(reversed(truth)), np.ones(198), np.ones(198))
    found = align(submission, truth)
    assert found.anomaly.tolist() == [truth[file].anomaly for file in submission.files]
