"""How much sound there is, whatever a header says: the same answer for the run, check and windows."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from extractors.audio.decode import decode_file, seconds_of
from extractors.audio.hearing import Hearing
from extractors.data.probe import probe
from tests.conftest import PATIENCE

RATE, FRAMES = 16_000, 24_000
SOUND = np.random.default_rng(3).normal(0, 0.1, FRAMES)
# Container and subtype; where its length of 4 or 8 bytes lies in libsndfile's files, and its order.
LENGTHS = {
    "WAV": ("PCM_16", 40, "<I"),
    "WAVEX": ("PCM_16", 76, "<I"),
    "RF64": ("PCM_16", 28, "<Q"),
    "W64": ("PCM_16", 96, "<Q"),
    "AIFF": ("PCM_16", 42, ">I"),
    "AU": ("PCM_16", 8, ">I"),
}
COMPRESSED = {"FLAC": "PCM_16", "OGG": "VORBIS", "OPUS": "OPUS", "MP3": "MPEG_LAYER_III"}
CONTAINERS = {**{name: subtype for name, (subtype, *_) in LENGTHS.items()}, **COMPRESSED}


def encoded(name: str, sound: np.ndarray = SOUND) -> bytearray:
    buffer = io.BytesIO()
    form = "OGG" if name == "OPUS" else name
    soundfile.write(buffer, sound, RATE, format=form, subtype=CONTAINERS[name])
    return bytearray(buffer.getvalue())


def length_of(name: str, data: bytes) -> int:
    _, where, code = LENGTHS[name]
    return int(struct.unpack_from(code, data, where)[0])


def claiming(name: str, length: int) -> bytearray:
    data = encoded(name)
    _, where, code = LENGTHS[name]
    struct.pack_into(code, data, where, length)
    return data


def answers(path: Path) -> list[str | int]:
    """What each reader says of a file: samples, or why not."""
    readers: list[Callable[[Path], float]] = [
        lambda path: len(decode_file(path).samples),
        lambda path: len(decode_file(path, (0.0, 1e6)).samples),
        lambda path: probe(path).seconds * RATE,
        lambda path: seconds_of(path) * RATE,
    ]
    found: list[str | int] = []
    for read in readers:
        try:
            found.append(round(read(path)))
        except AsdError as error:
            found.append(str(error))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clip.wav"


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_whole_file_has_its_length(name: str, path: Path) -> None:
    path.write_bytes(encoded(name))
    assert answers(path) == [FRAMES] * 4


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut_is_refused_by_every_reader(name: str, share: float, path: Path) -> None:
    data = encoded(name)
    path.write_bytes(data[: int(share * len(data))])
    found = answers(path)
    assert all(isinstance(answer, str) and "cut short" in answer for answer in found), found


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize(
    "size", [0, 0x7FFFF000, 0x7FFFF000 - 36, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 44]
)
def test_a_length_that_was_never_known_is_read_to_the_end(name: str, size: int, path: Path) -> None:
    path.write_bytes(encoded(name))
    expected = decode_file(path)
    path.write_bytes(claiming(name, size))
    assert answers(path) == [FRAMES] * 4
    found = decode_file(path)
    assert np.array_equal(found.samples, expected.samples)
    part = decode_file(path, (0.5, 1.0)).samples
    assert np.array_equal(part, expected.samples[RATE // 2 : RATE])
    assert found.content_sha256 != expected.content_sha256  # of the file, not of what was put right


@pytest.mark.parametrize("name", ["RF64", "W64"])
def test_the_largest_length_of_64_bits_is_unknown_too(name: str, path: Path) -> None:
    path.write_bytes(claiming(name, 2**64 - 1))
    assert answers(path) == [FRAMES] * 4


@pytest.mark.parametrize("name", LENGTHS)
def test_a_header_that_is_off_by_a_few_bytes_costs_a_few_samples(name: str, path: Path) -> None:
    length = length_of(name, encoded(name))
    path.write_bytes(claiming(name, length + 44))
    assert answers(path) == [FRAMES] * 4
    assert "44 bytes more than there are" in decode_file(path).remark
    path.write_bytes(claiming(name, length - 44))
    assert set(answers(path)) <= {FRAMES - 22, FRAMES}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_header_that_tells_of_half_is_named(name: str, path: Path) -> None:
    length = length_of(name, encoded(name))
    path.write_bytes(claiming(name, length // 2))
    found = answers(path)
    assert all("its header tells of " in str(a) and f" of {2 * FRAMES} " in str(a) for a in found)


def test_what_follows_the_sound_is_no_sound(path: Path) -> None:
    note = b"LIST" + struct.pack("<I", 400) + b"INFO" + bytes(range(1, 100)) * 4
    for tail in (note, note[:200], b"id3 " + struct.pack("<I", 80) + b"x" * 80, bytes(5000)):
        path.write_bytes(encoded("WAV") + tail)
        assert answers(path) == [FRAMES] * 4
    path.write_bytes(encoded("AU") + bytes(5000))
    assert answers(path) == [FRAMES] * 4
    for name in ("MP3", "FLAC"):
        path.write_bytes(encoded(name) + b"TAG" + b"a title".ljust(125, b"\0"))
        assert answers(path) == [FRAMES] * 4


def unknown_flac(sound: np.ndarray = SOUND) -> bytearray:
    data = encoded("FLAC", sound)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return data


def test_a_flac_of_unknown_length_is_read_to_its_end(path: Path) -> None:
    path.write_bytes(encoded("FLAC"))
    expected = decode_file(path).samples
    path.write_bytes(unknown_flac())
    assert answers(path) == [FRAMES] * 4
    assert np.array_equal(decode_file(path).samples, expected)
    assert np.array_equal(decode_file(path, (0.7, 1.2)).samples, expected[11_200:19_200])
    path.write_bytes(unknown_flac()[:-500])
    assert all("cut short: its last frame is not whole" in str(a) for a in answers(path))


def test_the_last_frame_of_a_flac_is_found_in_any_sound(path: Path) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frames = int(rng.integers(1, 30_000))
        sound = rng.normal(0, 0.3, (frames, 1 + seed % 2)) * (seed % 5 > 0)
        path.write_bytes(encoded("FLAC", sound))
        assert seconds_of(path) * RATE == pytest.approx(frames)


def test_claims_cost_no_time_and_no_windows(path: Path) -> None:
    begin = time.process_time()
    data = unknown_flac()
    data[21] |= 15
    data[22:26] = b"\xff" * 4
    path.write_bytes(data)
    with pytest.raises(AsdError, match="cut short"):
        Hearing(window=1.0, hop=1.0).spans(seconds_of(path))
    path.write_bytes(claiming("RF64", 2**60))
    with pytest.raises(AsdError, match="cut short"):
        seconds_of(path)
    many = b"".join(b"junk" + bytes(4) for _ in range(100_000))
    path.write_bytes(encoded("WAV")[:12] + many)
    with pytest.raises(AsdError):
        seconds_of(path)
    assert time.process_time() - begin < PATIENCE / 10  # it takes a tenth of a second


def mp3_without_its_first_frame() -> bytes:
    """Variable bit rate, and nothing that tells how many frames there are."""
    data = bytes(encoded("MP3"))
    return data[data.find(data[:2], 4) :]


def test_a_flac_without_a_frame_is_named(path: Path) -> None:
    path.write_bytes(encoded("FLAC")[:86])
    assert all("cut short: its header promises" in str(a) for a in answers(path))


def test_an_mp3_of_constant_bit_rate_needs_no_length(path: Path) -> None:
    """As written to a pipe: no first frame that tells how many follow."""
    whole = encoded("MP3", np.zeros(FRAMES))
    at = whole.find(whole[:2], 4)
    header = whole[at : at + 4]
    assert header[2] >> 4  # not of free format
    frame = bytes(whole[at : whole.find(header[:3], at + 4)])
    path.write_bytes(frame * 50)
    assert answers(path) == [50 * 576] * 4
    path.write_bytes(frame * 49 + frame[:20])
    assert all("cut short: its last frame lacks" in str(a) for a in answers(path))


def test_an_mp3_that_does_not_tell_its_length_is_not_read_in_part(path: Path) -> None:
    path.write_bytes(mp3_without_its_first_frame())
    found = answers(path)
    assert all(
        (isinstance(a, str) and "its header tells of" in a) or (isinstance(a, int) and abs(a - FRAMES) < 3000)
        for a in found
    ), found
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "GSM610"), ("WAV", "G721_32"), ("WAV", "NMS_ADPCM_16"), ("AU", "G721_32"),
     ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("AIFF", "GSM610")],
)  # fmt: skip
def test_codecs_that_cannot_be_wound_are_read(form: str, subtype: str, path: Path) -> None:
    soundfile.write(path.with_suffix(".x"), SOUND, RATE, format=form, subtype=subtype)
    path.with_suffix(".x").rename(path)
    assert abs(len(decode_file(path).samples) - FRAMES) < 1100
    assert probe(path).sample_rate == RATE


@pytest.mark.parametrize(
    "error", [ValueError("odd"), RuntimeError("odd"), MemoryError("odd"), TypeError("odd")]
)
def test_whatever_a_decoder_raises_is_the_clips_fault(
    error: Exception, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    path.write_bytes(encoded("AIFF"))
    monkeypatch.setattr(soundfile.SoundFile, "read", refuse)
    for read in (decode_file, probe, lambda path: decode_file(path, (0.5, 1.0))):
        with pytest.raises(AsdError, match=f"cannot be decoded: {type(error).__name__}: odd"):
            read(path)


@pytest.mark.parametrize("name", ["OGG", "OPUS"])
def test_a_page_of_an_ogg_that_is_damaged_is_not_passed_over(name: str, path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 16_000)
    soundfile.write(path, noise, 16_000, format="OGG", subtype=COMPRESSED[name])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    for read in (decode_file, probe):
        with pytest.raises(AsdError, match="sound is missing|cut short"):
            read(path)
    with pytest.raises(AsdError, match="sound is missing|cut short"):
        decode_file(path, (0.0, 3.9))
