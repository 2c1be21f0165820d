"""The synthetic data set: its layout, and that its physics are what they say."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, hilbert, sosfilt

from cache.table import Section
from eval.results.truth import read_ground_truth
from extractors.audio.waves import SAMPLE_RATE, coloured_noise, impulses, ring
from extractors.clips.listing import list_clips
from extractors.data.run import main as check
from extractors.demo import run as synthetic
from extractors.demo.machines import BEARING_ORDER, BLADES, NOISES, Fan, MachineFault, Operation, Valve
from extractors.demo.run import main, make_clip

PLANS = [plan for plan in synthetic._PLANS if plan.split == "test" or int(plan.number) < 6]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with six training clips a domain instead of sixty and ten."""
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_PLANS", tuple(PLANS))
        assert main(["--to", str(folder), "--seed", "3"]) == 0
    return folder


def test_the_whole_set_has_the_promised_clips() -> None:
    counts = Counter((p.split, p.domain, p.condition) for p in synthetic._PLANS)
    assert counts == {
        ("train", "source", "normal"): 60,
        ("train", "target", "normal"): 10,
        **{("test", d, c): 10 for d in ("source", "target") for c in ("normal", "anomaly")},
    }


def test_the_layout_is_read_without_fault(data: Path) -> None:
    listing = list_clips([data / "dev_data", data / "eval_data"])
    assert not listing.faults
    assert not listing.notes
    kinds = Counter((c.section.machine_type, c.split, c.condition) for c in listing.clips)
    assert kinds == {
        ("fan", "train", "normal"): 12,
        ("fan", "test", "normal"): 20,
        ("fan", "test", "anomaly"): 20,
        ("valve", "train", "normal"): 12,
        ("valve", "test", None): 40,
    }


def test_the_check_of_data_finds_nothing(data: Path) -> None:
    assert check(["check", str(data / "dev_data"), str(data / "eval_data")]) == 0


def test_attribute_files_agree_with_the_names(data: Path) -> None:
    for clip in list_clips([data / "dev_data"]).clips:
        pairs = clip.path.stem.split("normal_" if clip.condition == "normal" else "anomaly_")[1]
        assert pairs[5:] == "_".join(f"{k}_{v}" for k, v in clip.attributes.items())
    with (data / "eval_data/valve/attributes_00.csv").open(encoding="utf-8") as file:
        assert all("/train/" in row["file_name"] for row in csv.DictReader(file))


def test_ground_truth_agrees_with_the_original_names(data: Path) -> None:
    truth = read_ground_truth(data / "ground_truth", Section("valve", 0))
    files = {path.name for path in (data / "eval_data/valve/test").iterdir()}
    assert set(truth) == files == {f"section_00_{i:04d}.wav" for i in range(40)}
    for found in truth.values():
        assert f"_{found.domain}_test_{'anomaly' if found.anomaly else 'normal'}_" in str(found.name)
    # Shuffled: the order of the files must not give the truth away.
    labels = [truth[name].anomaly for name in sorted(truth)]
    assert len({tuple(labels[i : i + 10]) for i in range(0, 40, 10)}) > 2


def test_clips_are_16_khz_mono_16_bit_of_6_8_or_10_s(data: Path) -> None:
    lengths = set()
    for path in data.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        lengths.add(info.duration)
    assert lengths == {6, 8, 10}


def test_a_seed_gives_the_same_clip_and_another_seed_another() -> None:
    fan, plan = synthetic.MACHINES["fan"], PLANS[0]
    one, same, other = (make_clip(fan, plan, (seed, 0, 0))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("fault", [None, *Valve.faults, *Fan.faults])
def test_a_machine_is_as_loud_broken_as_healthy(fault: str | None) -> None:
    for operation in (Fan(1500), Valve(500, 4)):
        if fault is None or fault in operation.faults:
            assert np.sqrt(np.mean(sound(operation, fault) ** 2)) == pytest.approx(1)


def test_every_clip_is_recorded_at_one_level(data: Path) -> None:
    levels = [np.sqrt(np.mean(soundfile.read(path)[0] ** 2)) for path in data.rglob("*.wav")]
    np.testing.assert_allclose(levels, 0.06, rtol=1e-2)


def spectrum(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    return np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), power


def line(wave: np.ndarray, hertz: float) -> float:
    """Power around a frequency (2 %) over that of its neighbourhood (10 %), dB."""
    frequency, power = spectrum(wave)
    off = np.abs(frequency / hertz - 1)
    return float(10 * np.log10(power[off < 0.02].max() / np.median(power[off < 0.1])))


def sound(operation: Operation, fault: str | None = None, seed: int = 0) -> np.ndarray:
    broken = MachineFault(fault, 1.0) if fault else None
    return operation.sound(np.random.default_rng(seed), 10 * SAMPLE_RATE, broken)


@pytest.mark.parametrize("speed", [1200, 1500, 1800])
def test_a_fan_has_lines_at_the_blade_pass(speed: int) -> None:
    for order in (1, 2, 3):
        assert line(sound(Fan(speed)), order * BLADES * speed / 60) > 15


def envelope(wave: np.ndarray, low: float, high: float) -> np.ndarray:
    band = butter(4, [low, high], "bandpass", fs=SAMPLE_RATE, output="sos")
    level = np.abs(hilbert(sosfilt(band, wave)))
    return level - level.mean()


def test_a_worn_bearing_shows_in_the_envelope_spectrum() -> None:
    hertz = BEARING_ORDER * 1500 / 60
    worn, healthy = (
        line(envelope(sound(Fan(1500), fault), 2000, 4500), hertz) for fault in ("bearing", None)
    )
    assert worn > 15
    assert worn > healthy + 6


def test_imbalance_raises_the_first_order() -> None:
    frequency, _ = spectrum(sound(Fan(1500)))
    shaft = np.abs(frequency - 25) < 1
    shaken, healthy = (spectrum(sound(Fan(1500), f))[1][shaft].max() for f in ("imbalance", None))
    assert 10 * np.log10(shaken / healthy) > 6


def test_rubbing_modulates_high_frequencies_once_a_turn() -> None:
    rubbed, healthy = (
        line(envelope(sound(Fan(1500), fault), 3000, 6500), 25.0) for fault in ("rubbing", None)
    )
    assert rubbed > healthy + 6


def test_a_valve_repeats_at_its_interval() -> None:
    frequency, power = spectrum(envelope(sound(Valve(500, 4)), 300, 3000))
    between = power[(frequency > 0.7) & (frequency < 1.6)].mean()
    assert power[np.abs(frequency - 2.0) < 0.15].max() > 30 * between


def test_a_leak_fills_the_pauses_and_a_slow_valve_closes_later() -> None:
    def pause(fault: str | None) -> float:
        level = np.abs(sound(Valve(500, 4), fault)).reshape(-1, 800).mean(axis=1)  # 50 ms
        return float(np.percentile(level, 10) / level.mean())

    assert pause("leak") > 2 * pause(None)
    healthy, slow = (
        Valve(500, 4).actuations(np.random.default_rng(0), 160_000, delay) for delay in (0.0, 0.25)
    )
    assert np.mean(slow[1] - healthy[1]) == pytest.approx(0.125, abs=1e-9)


@pytest.mark.parametrize("fault", Valve.faults + Fan.faults)
def test_a_fault_grows_with_its_severity(fault: str) -> None:
    operation = Fan(1500) if fault in Fan.faults else Valve(500, 4)

    def distance(severity: float) -> float:
        healthy, broken = (
            operation.sound(np.random.default_rng(1), 96_000, f)
            for f in (None, MachineFault(fault, severity))
        )
        return float(np.mean((healthy - broken) ** 2))

    assert distance(1.0) > distance(0.2)


def test_noise_has_its_slope() -> None:
    frequency, power = spectrum(coloured_noise(np.random.default_rng(0), 160_000, -6.0, (50, 7000)))
    octaves = [power[(frequency > f) & (frequency < 2 * f)].mean() for f in (200, 400, 800, 1600)]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx([-6] * 3, abs=1)
    assert set(NOISES) >= {
        c.noise for m in synthetic.MACHINES.values() for d in m.domains.values() for c in d
    }


def test_a_resonance_rings_at_its_frequency_and_decays() -> None:
    answer = ring(impulses(np.zeros(1), np.ones(1), 16_000), 1000.0, 0.01)
    frequency, power = spectrum(answer)
    assert frequency[power.argmax()] == pytest.approx(1000, abs=20)
    assert np.abs(answer[160:176]).max() / np.abs(answer[:16]).max() == pytest.approx(np.exp(-1), rel=0.05)


def test_a_folder_with_something_else_in_it_is_left_alone(
    tmp_path: Path, error_of: Callable[..., str]
) -> None:
    (tmp_path / "thesis.txt").write_text("", encoding="utf-8")
    assert "holds 'thesis.txt' and is not overwritten" in error_of(main, "--to", tmp_path)
    assert "--seed -1: expected a whole number from 0" in error_of(main, "--to", tmp_path, "--seed", -1)


def test_recordings_of_a_real_fan_are_left_alone(tmp_path: Path, error_of: Callable[..., str]) -> None:
    clip = tmp_path / "dev_data/fan/train/section_00_source_train_normal_0000_m-n_W.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"real")
    attributes = tmp_path / "dev_data/fan/attributes_00.csv"
    attributes.write_text("real", encoding="utf-8")
    assert "m-n_W.wav' and is not overwritten" in error_of(main, "--to", tmp_path)
    assert clip.read_bytes() == b"real"
    assert attributes.read_text(encoding="utf-8") == "real"


def test_written_again_the_files_keep_their_bytes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}

    before = contents()
    monkeypatch.setattr(synthetic, "_PLANS", tuple(PLANS))
    assert main(["--to", str(data), "--seed", "3"]) == 0
    assert contents() == before


def test_anomalies_alone_carry_a_fault() -> None:
    fan = synthetic.MACHINES["fan"]
    anomaly = next(plan for plan in PLANS if plan.condition == "anomaly")
    normal = replace(anomaly, condition="normal")
    one, two = (make_clip(fan, plan, (0, 0, 7))[1] for plan in (anomaly, normal))
    assert not np.array_equal(one, two)
