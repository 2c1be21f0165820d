"""Audio files: what is read as what, and what is refused with which reason."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from cache.facts import Facts
from extractors.audio.decode import decode_file, read_audio, seconds_of
from extractors.audio.files import content_sha256
from extractors.data.probe import Probe, probe

RATE = 16_000


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        ("wav", "PCM_16", 4e-5),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_U8", 8e-3),
        ("wav", "FLOAT", 1e-7),
        ("wav", "DOUBLE", 1e-7),
        ("flac", "PCM_16", 4e-5),
        ("ogg", "VORBIS", 5e-2),
    ],
)
def test_formats_and_widths(tmp_path: Path, suffix: str, subtype: str, error: float) -> None:
    path = tmp_path / f"clip.{suffix}"
    expected = tone(440, RATE)
    soundfile.write(path, expected, RATE, subtype=subtype)
    recording = read_audio(path, RATE)
    assert recording.samples.dtype == np.float32
    assert np.abs(recording.samples - expected).max() < error
    assert recording.content_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_sha256(path) == recording.content_sha256


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF"])
def test_sixteen_bits_are_the_numbers_that_libsndfile_reads(channels: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    numbers = np.random.default_rng(channels).integers(-(2**15), 2**15, (2_001, channels)).astype(np.int16)
    soundfile.write(path, numbers, RATE, format=kind, subtype="PCM_16")
    with path.open("ab") as file:
        file.write(b"LIST\x04\0\0\0INFO" if kind != "AIFF" else b"")  # what other programs append
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(decode_file(path).samples, expected)
    span = decode_file(path, (0.01, 0.05)).samples
    np.testing.assert_array_equal(span, expected[160:800])


def test_stereo_at_44100_hz_is_averaged_and_resampled(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    left, right = tone(1000, 44_100), tone(3000, 44_100)
    soundfile.write(path, np.column_stack([left, right]), 44_100, subtype="FLOAT")
    samples = read_audio(path, RATE).samples
    assert len(samples) == RATE
    inside = slice(RATE // 10, -RATE // 10)
    expected = (tone(1000, RATE) + tone(3000, RATE)) / 2
    assert np.abs(samples[inside] - expected[inside]).max() < 1e-4


def test_resampling_lets_nothing_alias(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(11_000, 44_100), 44_100, subtype="FLOAT")
    assert np.abs(read_audio(path, RATE).samples[1000:-1000]).max() < 1e-4


def write_wav(path: Path, seconds: float = 0.5) -> bytes:
    soundfile.write(path, tone(440, RATE, seconds), RATE)
    return path.read_bytes()


def with_nan(path: Path) -> None:
    samples = tone(440, RATE)
    samples[[3, 7]] = np.nan, np.inf
    soundfile.write(path, samples, RATE, subtype="FLOAT")


BAD = {
    "an empty file of 0 bytes": lambda path: path.write_bytes(b""),
    "not audio, or damaged": lambda path: path.write_text("I am a text file, not a recording"),
    "not audio": lambda path: path.write_bytes(write_wav(path)[:20]),
    "cut short: its header promises 8000 bytes more": lambda path: path.write_bytes(write_wav(path)[:-8000]),
    "zero-length audio": lambda path: soundfile.write(path, np.zeros(0), RATE),
    "2 of 16000 samples are NaN or infinite": with_nan,
    "cannot be read: Is a directory": lambda path: path.mkdir(),
    "cannot be read: No such file": lambda _: None,
}


@pytest.mark.parametrize("message", BAD)
def test_files_that_are_refused(tmp_path: Path, message: str) -> None:
    path = tmp_path / "clip.wav"
    BAD[message](path)
    with pytest.raises(AsdError, match=message):
        read_audio(path, RATE)
    with pytest.raises(AsdError, match=message):
        probe(path)
    with pytest.raises(AsdError, match=message):
        decode_file(path, (0.0, 1.0))


def test_a_flac_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AsdError, match="cut short|not audio, or damaged"):
        read_audio(path, RATE)


def test_a_wav_written_to_a_pipe_has_no_size_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    data = bytearray(write_wav(path))
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(read_audio(path, RATE).samples) == RATE // 2


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_spans_are_parts_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (44_100, 2)), 22_050)
    whole = decode_file(path)
    for start, stop in ((0.0, 0.5), (0.5, 1.25), (1.25, 1.6)):
        part = decode_file(path, (start, stop))
        expected = whole.samples[round(start * 22_050) : round(stop * 22_050)]
        np.testing.assert_allclose(part.samples, expected, atol=1e-6)
        assert part.content_sha256 == whole.content_sha256
    assert len(decode_file(path, (1.5, 9.0)).samples) == len(whole.samples) - 33_075


def test_a_file_that_changed_between_two_spans_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(440, RATE), RATE)
    before = decode_file(path, (0.0, 0.5)).content_sha256
    soundfile.write(path, tone(441, RATE, 1.5), RATE)
    assert decode_file(path, (0.0, 0.5)).content_sha256 == content_sha256(path) != before


def test_a_channel_may_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    near, far = tone(1000, RATE), tone(3000, RATE)
    soundfile.write(path, np.column_stack([near, far]), RATE, subtype="FLOAT")
    for channel, expected in (("near", near), ("0", near), ("far", far), ("1", far)):
        assert np.abs(read_audio(path, RATE, channel=channel).samples - expected).max() < 1e-6
    with pytest.raises(AsdError, match="no channel 2: it has 2; --channel average takes any"):
        read_audio(path, RATE, channel="2")
    with pytest.raises(AsdError, match="channel 'left' is not one of average, near, far, 0, 1"):
        read_audio(path, RATE, channel="left")


def test_a_probe_says_what_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros((11_025, 2)), 44_100)
    facts = Facts(44_100, 2, 22_050.0, "silent")
    assert probe(path) == Probe(44_100, 2, 0.25, content_sha256(path), facts)
    assert seconds_of(path) == 0.25
