"""What was heard: silence, channels that cancel, another recorder; said once, in check and the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from cache.base.errors import AsdError
from cache.facts import Facts, Remark, differences, told, usual
from cache.parquet import read_keys, read_table, write_table
from eval.run import main as score
from extractors.audio import inspection as ear
from extractors.audio.decode import read_audio
from extractors.data.run import main as data
from extractors.engines import local
from extractors.run import main
from index.run import main as build
from tests.conftest import make_recipe, make_table

RATE = 16_000


def noise(seed: int, rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(rate * seconds))


def write(path: Path, sound: np.ndarray, rate: int = RATE, **how: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **how)
    return path


def facts_of(path: Path) -> Facts:
    found = read_audio(path, RATE).facts
    assert found is not None
    return found


def machine(root: Path, count: int = 4) -> Path:
    for i in range(count):
        write(root / "pump" / "normal" / f"n{i}.wav", noise(i))
    write(root / "pump" / "new" / "t0.wav", noise(90))
    return root


@pytest.mark.parametrize(
    ("sound", "lack"),
    [
        (np.zeros(8000), "silent"),
        (np.full(8000, 0.25), "constant"),
        (np.random.default_rng(0).integers(-1, 2, 8000) / 2**15, "silent"),  # the last bit alone
        (noise(0) * 1e-3, ""),
        (np.where(np.arange(8000) == 4000, 0.5, 0), ""),  # one knock
    ],
)
def test_silence_and_constants_are_told_from_quiet_sound(
    sound: np.ndarray, lack: str, tmp_path: Path
) -> None:
    assert facts_of(write(tmp_path / "x.wav", sound)).lack == lack


def test_quiet_floats_are_sound(tmp_path: Path) -> None:
    assert facts_of(write(tmp_path / "x.wav", noise(0) * 1e-5, subtype="FLOAT")).lack == ""


@pytest.mark.parametrize("rate", [8000, 11_025, 12_000])
def test_the_bandwidth_is_what_the_recorder_let_through(rate: int, tmp_path: Path) -> None:
    sound = soxr.resample(noise(1, rate, 2.0), rate, RATE)
    found = facts_of(write(tmp_path / "x.wav", sound))
    assert found.sample_rate == RATE
    assert found.bandwidth == pytest.approx(rate / 2, abs=300)


def test_tones_and_slopes_are_no_edge(tmp_path: Path) -> None:
    time = np.arange(2 * RATE) / RATE
    steep = np.cumsum(np.cumsum(noise(2, seconds=2.0)))  # 12 dB an octave
    for sound in (
        noise(3, seconds=2.0) * 1e-3 + 0.5 * np.sin(2 * np.pi * 5000 * time),
        0.5 * steep / np.abs(steep).max(),
        sum(np.sin(2 * np.pi * 440 * k * time) for k in range(1, 8)) / 8 + noise(4, seconds=2.0),
    ):
        assert facts_of(write(tmp_path / "x.wav", np.asarray(sound))).bandwidth == RATE / 2


@pytest.mark.parametrize("left_over", [0.0, 0.01])
def test_channels_that_cancel_are_refused_by_name(left_over: float, tmp_path: Path) -> None:
    sound = noise(5)
    path = write(tmp_path / "x.wav", np.c_[sound, -(1 - left_over) * sound], subtype="FLOAT")
    with pytest.raises(AsdError, match="the average of its 2 channels is silent .* --channel 0"):
        read_audio(path, RATE)
    assert np.allclose(read_audio(path, RATE, channel="0").samples, sound, atol=1e-6)
    apart = np.stack([noise(seed) for seed in range(16)], axis=1)
    assert len(read_audio(write(path, apart), RATE).samples) == 8000  # unrelated channels are not
    assert facts_of(write(path, np.zeros((8000, 2)))).lack == "silent"


def test_the_run_and_check_say_each_thing_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = machine(tmp_path / "data")
    for i in range(12):
        write(root / "pump" / "new" / f"dead{i:02d}.wav", np.zeros(8000))
        write(root / "pump" / "new" / f"old{i:02d}.wav", noise(100 + i, 8000), 8000)
    for i in range(2):
        write(root / "pump" / "new" / f"turned{i}.wav", np.c_[noise(i), -noise(i)])
    command = ["--data", str(root), "--cache-dir", str(tmp_path / "cache")]
    for _ in range(2):  # told again where nothing was to do
        assert main(command) == 1
        said = capsys.readouterr().err.splitlines()
        assert sum("12 clips are silent" in line and "dead00.wav" in line for line in said) == 1
        assert sum("12 clips are narrower" in line and "8000 Hz" in line for line in said) == 1
        assert sum("average of its 2 channels is silent" in line for line in said) == 2
    assert data(["check", str(root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert sum("12 clips are silent" in text for text in found) == 1
    assert sum("average of its 2 channels is silent" in text for text in found) == 2
    assert sum("12 clips of 8000 Hz" in text for text in found) == 1


def test_a_header_put_right_is_said_and_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = machine(tmp_path / "data")
    path = root / "pump" / "new" / "t0.wav"
    whole = bytearray(path.read_bytes())
    whole[40:44] = (len(whole) - 44 + 16).to_bytes(4, "little")
    path.write_bytes(whole)
    assert main(["--data", str(root), "--cache-dir", str(tmp_path / "cache")]) == 0
    assert "its header tells of 16 bytes more than there are" in capsys.readouterr().err
    assert data(["check", str(root)]) == 0
    assert "its header tells of 16 bytes more than there are" in capsys.readouterr().err


def test_clips_of_another_recorder_are_told_by_what_the_model_hears() -> None:
    trained = usual([Facts(RATE, 1, 8000.0)] * 3 + [Facts(RATE, 1, 4000.0), None])
    assert trained is not None

    def said(sample_rate: int, *facts: Facts) -> list[str]:
        clips = {f"{i}.wav": each for i, each in enumerate(facts)}
        return [remark.text for remark in differences("pump test", clips, trained, sample_rate)]

    assert said(RATE, Facts(RATE, 1, 7500.0)) == []
    assert "narrower than the training clips: 8000 Hz" in said(RATE, Facts(8000, 1, 4000.0))[0]
    assert "narrower" in said(RATE, Facts(RATE, 1, 4000.0))[0]
    assert said(4000, Facts(RATE, 1, 4000.0)) == []  # the model hears no more of either
    assert "recorded at 44100 Hz, the training clips at 16000" in said(RATE, Facts(44_100, 1, 2e4))[0]
    assert "wider than the training" in said(48_000, Facts(44_100, 1, 2e4))[0]
    assert said(RATE, Facts(8000, 1, 4000.0, "silent")) == []
    assert usual([None]) is None


def test_a_thousand_sections_are_one_line() -> None:
    remarks = [Remark("silent", f"m{i}/section_00 test", 2, f"m{i}.wav") for i in range(1000)]
    (line,) = told(remarks)
    assert line == (
        "2000 clips are silent (m0/section_00 test 2, m1/section_00 test 2, m2/section_00 test 2 "
        "and 997 more; e.g. m0.wav)"
    )


def test_tables_keep_what_was_heard_and_old_ones_are_read(tmp_path: Path) -> None:
    plain = make_table([[1.0, 2.0], [3.0, 4.0]])
    write_table(tmp_path / "old.parquet", plain, make_recipe())
    assert [key.facts for key in read_keys(tmp_path / "old.parquet")] == [None, None]
    facts = Facts(8000, 2, 4000.0, remark="odd", decoder="libsndfile-1")
    object.__setattr__(plain.keys[1], "facts", facts)
    write_table(tmp_path / "new.parquet", plain, make_recipe())
    assert [key.facts for key in read_keys(tmp_path / "new.parquet")] == [None, facts]
    assert read_table(tmp_path / "new.parquet")[0].keys[1].facts == facts


def test_another_decoder_makes_lossy_clips_anew_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = machine(tmp_path / "data")
    write(root / "pump" / "new" / "small.ogg", noise(7), format="OGG", subtype="VORBIS")
    command = ["--data", str(root), "--cache-dir", str(tmp_path / "cache")]
    assert main(command) == 0
    assert "6 new" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 changed, 6 unchanged" in capsys.readouterr().out
    for module in (ear, local):
        monkeypatch.setattr(module, "DECODER", "libsndfile-9")
    assert main(command) == 0
    assert "1 changed, 5 unchanged" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 changed, 6 unchanged" in capsys.readouterr().out


def test_a_bank_knows_its_recorder_and_says_where_clips_have_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = machine(tmp_path / "data", 24)
    cache = ["--cache-dir", str(tmp_path / "cache"), "--backbone", "logmel"]
    assert main(["--data", str(root), *cache]) == 0
    bank = ["--bank", str(tmp_path / "bank")]
    assert build([*cache, *bank]) == 0
    for i in range(3):
        write(tmp_path / "other" / "pump" / "new" / f"x{i}.wav", noise(70 + i, 8000), 8000)
    write(tmp_path / "other" / "pump" / "new" / "dead.wav", np.zeros(8000))
    capsys.readouterr()
    out = ["--out", str(tmp_path / "results"), "--no-report"]
    assert score([*bank, "--data", str(tmp_path / "other"), *out]) == 0
    said = capsys.readouterr().err
    assert "3 clips are narrower than the training clips: 8000 Hz" in said
    assert "1 clip is silent" in said


def test_a_bank_of_silence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(6):
        write(tmp_path / "data" / "pump" / "normal" / f"n{i}.wav", np.zeros(8000 + i))
    cache = ["--cache-dir", str(tmp_path / "cache"), "--backbone", "logmel"]
    assert main(["--data", str(tmp_path / "data"), *cache]) == 0
    assert "6 clips are silent" in capsys.readouterr().err
    assert build(cache) == 0
    assert "6 of 6 training clips are silent or constant" in capsys.readouterr().err
