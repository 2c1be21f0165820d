"""Sound files with wrong bytes are read or refused, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from cache.base.errors import AsdError
from extractors.audio.decode import read_audio, seconds_of
from extractors.data.probe import probe
from extractors.run import main
from tests.conftest import PATIENCE, write_clip, write_root
from tests.helpers.hostile_audio import RATE, claiming, seeds

_HERE = Path(__file__).parents[2]


def test_mutated_files_are_read_or_refused() -> None:
    command = [sys.executable, "-m", "tests.helpers.hostile_audio", "210", "7"]
    # Its own process: a decoder's crash would take the tests with it, and its memory is bounded.
    done = subprocess.run(command, cwd=_HERE, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert set(found) == {"wav", "flac", "ogg", "mp3"}
    assert all(kind["refused"] for kind in found.values())
    assert sum(sum(kind.values()) for kind in found.values()) == 210


@pytest.mark.parametrize("number", range(len(seeds())))
def test_the_files_are_sound_before_they_are_mutated(number: int, tmp_path: Path) -> None:
    suffix, data = seeds()[number]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(data)
    assert len(read_audio(path, RATE).samples) >= 4000


@pytest.mark.parametrize("frames", [2**31, 2**36 - 1])
def test_a_header_that_claims_too_much_takes_no_memory(frames: int, tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(claiming(frames))
    tracemalloc.start()
    try:
        for read in (seconds_of, probe, lambda path: read_audio(path, RATE)):
            with pytest.raises(AsdError, match=f"its header promises {frames - 4000} samples more"):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_an_absurd_rate_is_refused(rate: int, tmp_path: Path) -> None:
    data = bytearray(seeds()[0][1])
    data[24:28] = rate.to_bytes(4, "little")  # RIFF: bytes 24 to 27 of a plain header
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    with pytest.raises(AsdError, match=f"a sample rate of {rate} Hz; expected 100 to"):
        read_audio(path, RATE)


def test_longer_clips_are_left_out_unless_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_root(tmp_path / "data")
    long = "section_00_source_train_normal_0099_speed_0.wav"
    write_clip(root / "fan" / "train" / long, 99, 2.0)
    run = [
        "--backbone",
        "logmel",
        "--data",
        str(root),
        "--longest",
        "1.5",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    assert main(run) == 1
    said = capsys.readouterr().err
    assert f"{long}: 2 s by its header, longer than 1.5 s: cut it into windows with --window" in said
    assert main([*run, "--window", "1"]) == 0
    assert main([*run[:4], *run[6:]]) == 0
    assert main([*run, "--longest", "0"]) == 2
    assert "--longest 0: expected a number from 0.001" in capsys.readouterr().err
