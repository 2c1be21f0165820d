"""The detector as an object: every kind of sound, the command line's digits, banks kept and read."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from eval.detector import Detector
from eval.run import main as evaluate
from extractors.run import main as extract
from index.run import main as build
from tests.conftest import RATE, write_clip, write_root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine of one's own: 24 normal recordings, new ones of which the last hums."""
    root = tmp_path_factory.mktemp("own") / "pump"
    for i in range(24):
        write_clip(root / "normal" / f"day {i % 2}" / f"n {i:02d}.wav", i, seconds=0.6)
    for i in range(3):
        write_clip(root / "new" / f"t{i}.wav", 100 + i, seconds=0.6)
    times = np.arange(int(0.6 * RATE)) / RATE
    noise = np.random.default_rng(200).normal(0, 0.1, len(times))
    soundfile.write(root / "new" / "t3.wav", noise + 0.3 * np.sin(2 * np.pi * 440 * times), RATE)
    return root


@pytest.fixture(scope="module")
def fitted(folders: Path) -> Detector:
    return Detector(machine="pump").fit(folders / "normal")


def test_its_digits_are_the_command_lines(folders: Path, fitted: Detector, tmp_path: Path) -> None:
    place = ["--out", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c"), "--no-report"]
    assert evaluate(["default", "--data", str(folders), *place]) == 0
    results = fitted.score(folders / "new")
    assert [clip.clip for clip in results] == [f"new/t{i}.wav" for i in range(4)]
    for what, name in (("score", "anomaly_score"), ("decision", "decision_result")):
        with (tmp_path / "r" / f"{name}_pump_section_00_test.csv").open() as file:
            written = [float(row[1]) for row in csv.reader(file)]
        assert [float(getattr(clip, what)) for clip in results] == written
    loaded = Detector.load(tmp_path / "r")
    assert [clip.score for clip in loaded.score(folders / "new")] == [c.score for c in results]


def test_what_it_says(folders: Path, fitted: Detector) -> None:
    results = fitted.score(folders / "new")
    assert (len(results), results.faults) == (4, ())
    last = results[3]
    assert last.decision == 1
    assert 1 / 25 <= last.p_value <= 0.1
    assert last.neighbours[0].clip.startswith("normal/day ")
    assert "abnormal, score" in last.explain()
    assert "tone at 440 Hz" in last.explain() or "0.4 kHz" in last.explain()
    frame = results.to_pandas()
    assert list(frame["clip"]) == [clip.clip for clip in results]
    assert frame["score"].idxmax() == 3
    assert "&lt;" not in results._repr_html_()
    assert results._repr_html_().index("t3.wav") < results._repr_html_().index("t0.wav")


def test_a_score_does_not_depend_on_the_others(folders: Path, fitted: Detector) -> None:
    together = fitted.score(folders / "new")
    alone = [fitted.score(folders / "new" / f"t{i}.wav")[0].score for i in range(4)]
    assert alone == [clip.score for clip in together]


def test_arrays_are_heard_as_files_are(folders: Path, fitted: Detector) -> None:
    samples, rate = soundfile.read(folders / "new" / "t3.wav", dtype="float32")
    expected = fitted.score(folders / "new" / "t3.wav")[0].score
    for sound in ((samples, rate), [(samples, rate)], [samples]):
        assert fitted.score(sound, rate=rate)[0].score == expected
    integers = np.round(samples * 2**15).astype(np.int16)
    assert fitted.score(integers, rate=rate)[0].score == expected
    stereo = np.stack([samples, samples], axis=1)
    assert fitted.score(stereo, rate=rate)[0].score == pytest.approx(expected, rel=1e-5)


def test_a_bank_is_kept_moved_and_added_to(folders: Path, fitted: Detector, tmp_path: Path) -> None:
    saved = fitted.save(tmp_path / "pump.bank")
    moved = shutil.move(saved, tmp_path / "elsewhere")
    loaded = Detector.load(moved)
    before = [clip.score for clip in fitted.score(folders / "new")]
    assert [clip.score for clip in loaded.score(folders / "new")] == before
    assert "t3.wav: abnormal" in loaded.score(folders / "new")[3].explain()
    with pytest.raises(AsdError, match="nothing can be added"):
        loaded.add(folders / "new" / "t0.wav")
    with pytest.raises(AsdError, match="is there already"):
        fitted.save(moved)


def test_what_was_added_is_normal(folders: Path) -> None:
    detector = Detector("logmel", scorer="min-distance").fit(folders / "normal")
    before = detector.score(folders / "new" / "t3.wav")[0]
    after = detector.add([folders / "new" / "t3.wav"]).score(folders / "new" / "t3.wav")[0]
    assert after.score < 1e-6 < before.score
    fresh = Detector("logmel", scorer="min-distance").fit([folders / "normal", folders / "new" / "t3.wav"])
    assert (
        fresh.score(folders / "new" / "t0.wav")[0].score
        == detector.score(folders / "new" / "t0.wav")[0].score
    )


def test_few_of_another_condition(folders: Path) -> None:
    detector = Detector("logmel").fit(folders / "normal" / "day 0", target=folders / "normal" / "day 1")
    near = detector.score(folders / "new")[0].neighbours
    assert {neighbour.domain for neighbour in near} == {"source", "target"}


def test_long_recordings_are_judged_by_their_worst_window(folders: Path) -> None:
    detector = Detector("logmel", window=0.3, hop=0.15).fit(folders / "normal")
    sound = np.random.default_rng(5).normal(0, 0.1, 3 * RATE)
    sound[2 * RATE : 2 * RATE + RATE // 3] += np.sin(np.arange(RATE // 3) / 5)
    found = detector.score(sound, rate=RATE)[0]
    assert found.start is not None
    assert found.end is not None
    assert found.start < 2.33
    assert found.end > 2.0


def test_mistakes_are_named(folders: Path, fitted: Detector, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AsdError, match="nothing was learnt"):
        Detector().score(folders / "new")
    for sounds, told in (
        (tmp_path / "empty", "no recordings"),
        (tmp_path / "none.wav", "neither a folder, a manifest nor"),
        ([], "no recordings"),
    ):
        with pytest.raises(AsdError, match=told):
            fitted.score(sounds)
    with pytest.raises(AsdError, match="give its sampling rate"):
        fitted.score(np.zeros(100))
    with pytest.raises(AsdError, match="shape"):
        fitted.score(np.zeros((2, 2, 2)), rate=RATE)
    with pytest.raises(AsdError, match="no one machine 'fan'"):
        fitted.score(folders / "new", machine="fan")
    with pytest.raises(AsdError, match="no bank"):
        Detector.load(tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_bytes(b"RIFF")
    write_clip(tmp_path / "bad" / "b.wav", 1)
    with pytest.raises(AsdError, match="a.wav"):
        Detector("logmel").fit(tmp_path / "bad")
    results = fitted.score([tmp_path / "bad", np.full(RATE, np.nan)], rate=RATE)
    assert [clip.clip for clip in results] == ["bad/b.wav"]
    assert len(results.faults) == 2


def test_a_rate_of_false_alarms(folders: Path) -> None:
    tenth = Detector(false_alarms="1/10").fit(folders / "normal").score(folders / "new")
    usual = Detector(percentile=90.0).fit(folders / "normal").score(folders / "new")
    assert [clip.threshold for clip in tenth] == pytest.approx([clip.threshold for clip in usual])
    fifth = Detector(false_alarms="24/hour", clip_interval=30).fit(folders / "normal")
    assert fifth.score(folders / "new")[0].threshold < tenth[0].threshold  # 24 of the 120 clips of an hour
    with pytest.raises(AsdError, match="--false-alarms 1/1000 is 1 in 1000 clips, but the"):
        Detector(false_alarms="1/1000").fit(folders / "normal")


def test_data_roots_and_manifests_are_read_as_everywhere(folders: Path, tmp_path: Path) -> None:
    """Of a root, fitting takes the training clips of one machine, scoring its test clips."""
    plain = Detector("logmel", machine="pump").fit(folders / "normal").score(folders / "new")
    expected = {Path(clip.clip).name: clip.score for clip in plain}
    rows = [f"{path},train" for path in sorted(folders.rglob("n *.wav"))]
    rows += [f"{path},test" for path in sorted(folders.rglob("t*.wav"))]
    manifest = tmp_path / "pump.csv"
    manifest.write_text("\n".join(["path,split", *rows]) + "\n")
    for root in (folders, folders.parent, manifest):
        results = Detector("logmel", machine="pump").fit(root).score(root)
        assert {Path(clip.clip).name: clip.score for clip in results} == expected
    other = write_root(tmp_path / "two", "fan")
    shutil.copytree(folders, other / "pump")
    both = Detector("logmel", machine="pump").fit(other).score(other)
    assert {Path(clip.clip).name: clip.score for clip in both} == expected
    domains = Detector("logmel", machine="fan").fit(other).score(other)[0].neighbours
    assert {near.domain for near in domains} == {"source", "target"}
    with pytest.raises(AsdError, match="holds fan/section_00, pump/section_00, and .* machine='fan'"):
        Detector("logmel").fit(other)
    (tmp_path / "old" / "new").mkdir(parents=True)
    write_clip(tmp_path / "old" / "new" / "a.wav", 1)
    with pytest.raises(AsdError, match="holds no normal recordings"):
        Detector("logmel").fit(tmp_path / "old")


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"backbone": "logmel", "scorer": "ldn"}, ()),
        ({"backbone": "logspec", "scorer": "min-distance:k=2", "channel": "near"}, ("--channel", "near")),
        ({"backbone": "logmel", "scorer": "mahalanobis", "window": 0.3, "hop": 0.15},
         ("--window", "0.3", "--hop", "0.15")),
        ({"backbone": ("logmel", "logspec"), "scorer": "fusion"}, ()),
    ],
)  # fmt: skip
def test_its_digits_are_the_command_lines_however_it_is_set(
    folders: Path, tmp_path: Path, settings: dict[str, Any], options: tuple[str, ...]
) -> None:
    where = ["--cache-dir", str(tmp_path / "c")]
    names = settings["backbone"]
    names = [names] if isinstance(names, str) else list(names)
    assert extract(["--data", str(folders), "--backbone", *names, *options, *where]) == 0
    assert build(["--backbone", *names, "--scorer", settings["scorer"], *where,
                  "--bank", str(tmp_path / "b")]) == 0  # fmt: skip
    assert evaluate(["--bank", str(tmp_path / "b"), "--out", str(tmp_path / "r"), "--no-report", *where]) == 0
    with (tmp_path / "r" / "anomaly_score_pump_section_00_test.csv").open() as file:
        written = [float(row[1]) for row in csv.reader(file)]
    detector = Detector(**settings, machine="pump").fit(folders / "normal")
    assert [clip.score for clip in detector.score(folders / "new")] == written


def test_scores_stay_with_their_recordings(fitted: Detector, folders: Path, tmp_path: Path) -> None:
    """Recordings whose folders sort otherwise than their names."""
    for place, name in (("a/z.wav", "t3.wav"), ("b/a.wav", "t0.wav"), ("c/m.wav", "t1.wav")):
        (tmp_path / "new" / place).parent.mkdir(parents=True)
        shutil.copy(folders / "new" / name, tmp_path / "new" / place)
    together = {clip.clip: clip.score for clip in fitted.score(tmp_path / "new")}
    for place in ("a/z.wav", "b/a.wav", "c/m.wav"):
        (alone,) = fitted.score(tmp_path / "new" / place)
        assert together[f"new/{place}"] == alone.score, place
