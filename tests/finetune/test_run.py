"""The command line of fine-tuning, from recordings to scores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache.base.errors import AsdError
from eval import run as evaluation
from extractors import run as extraction
from extractors.clips.listing import list_clips
from extractors.embedding import finetuned as tuned
from finetune.data.waveforms import MemoryRoom, read_waveforms
from finetune.run import main
from index import run as indexing
from tests.conftest import write_clip, write_root

QUICK = ("--epochs", "1", "--size", "8", "--batch-size", "4", "--watch", "1")


def train(root: Path, out: Path, *more: object) -> int:
    arguments = ["--data", root, "--out", out, "--cache-dir", out.parent / "cache", *QUICK, *more]
    return main([str(argument) for argument in arguments])


def test_from_clips_to_scores(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, cache = tmp_path / "my model.safetensors", tmp_path / "cache"
    assert train(root, out) == 0
    told = capsys.readouterr()
    assert "8 clips, 2 classes: 1 epochs, loss" in told.out
    assert told.out.strip().endswith(str(out))
    assert "note: 2 classes of 4 to 4 clips" in told.err
    assert (tmp_path / "my model.csv").read_text().startswith("epoch,loss,rate,accuracy")
    common = ["--backbone", "logmel", "--cache-dir", str(cache)]
    assert extraction.main([*common, "--data", str(root), "--weights", str(out)]) == 0
    table = pq.read_table(next(cache.glob("*/fan/section_00/train.parquet")))
    assert table.schema.field("embedding").type.list_size == 8
    assert indexing.main([*common, "--scorer", "min-distance"]) == 0
    results = [*common, "--scorer", "min-distance", "--out", str(tmp_path / "r"), "--no-report"]
    assert evaluation.main(results) == 0
    assert (tmp_path / "r" / "anomaly_score_fan_section_00_test.csv").is_file()
    assert extraction.main([*common, "--data", str(root)]) == 0
    assert len(list(cache.glob("*/fan"))) == 2  # the frozen table has a fingerprint of its own


def test_several_seeds_are_several_files(root: Path, tmp_path: Path) -> None:
    assert train(root, tmp_path / "m.safetensors", "--seeds", 3, 5, "--augment") == 0
    files = [tmp_path / f"m_seed_{seed}.safetensors" for seed in (3, 5)]
    seeds = [tuned.record_of(path)["training"]["seed"] for path in files]
    assert seeds == [3, 5]
    assert tuned.record_of(files[0])["training"]["augment"] == []


def test_no_test_clip_is_opened(root: Path, tmp_path: Path) -> None:
    """Every open file of the whole process is listened to."""
    arguments = ["--data", str(root), "--out", str(tmp_path / "m.safetensors"), *QUICK]
    program = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "from finetune.run import main\n"
        f"code = main({arguments!r})\n"
        "clips = [name for name in opened if name.endswith('.wav')]\n"
        "assert any('/train/' in name for name in clips), clips\n"
        "assert not any('/test/' in name for name in clips), clips\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_clip_that_cannot_be_read_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = root / "fan" / "train" / "section_00_source_train_normal_0099_speed_0.wav"
    bad.write_bytes(b"no sound")
    assert train(root, tmp_path / "m.safetensors") == 1
    assert f"left out: {bad}: not audio" in capsys.readouterr().err


def test_clips_of_several_lengths_rates_and_channels(root: Path, tmp_path: Path) -> None:
    folder = root / "fan" / "train"
    write_clip(folder / "section_00_source_train_normal_0100_speed_0.wav", 1, 18.0)
    write_clip(folder / "section_00_source_train_normal_0101_speed_1.wav", 2, 0.03)
    write_clip(folder / "section_00_target_train_normal_0102_speed_1.wav", 3, 0.5, 44_100)
    assert train(root, tmp_path / "m.safetensors", "--crop", 0.4) == 0
    assert tuned.record_of(tmp_path / "m.safetensors")["training"]["samples"] == 0.3 * 16_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--patience", 2], "--patience watches held-out clips"),
        (["--labels", "machine"], "all clips are of one class, fan"),
        (["--labels", "machine", "--attributes", "speed"], "belong to --labels attributes"),
        (["--groups", 2], "--groups belongs to --labels groups"),
        (["--seeds", 1, 1], "--seeds 1 1: give each once"),
        (["--backbone", "logmel"], "logmel has nothing to train"),
        (["--backbone", "beats"], "beats"),
        (["--head", "arcfaces"], "arcface"),
        (["--head", "arcface:margin=9"], "margin"),
        (["--augment", "mixup:q=1"], "Mixup has no option 'q'; it has p, alpha, labels"),
        (["--sampling", "half"], "--sampling half: expected balanced or plain or target"),
        (["--train", "last:blocks=0"], "blocks"),
        (["--layer", 9], "logmel has no layer 9; it has 1, 2, 3, 4"),
        (["--embedding", "own"], "logmel has no embedding of its own at layer 4, only: none"),
        (["--machine", "pump"], "no machine type 'pump'"),
        (["--weights", "none.safetensors"], "none.safetensors"),
    ],
)
def test_mistakes_are_told(
    root: Path, tmp_path: Path, error_of: Callable[..., str], arguments: list[object], told: str
) -> None:
    out = tmp_path / "m.safetensors"
    assert told in error_of(main, "--data", root, "--out", out, *QUICK, *arguments)
    assert not out.exists()


def test_more_than_the_memory_is_kept_in_a_file(root: Path, tmp_path: Path) -> None:
    clips = list_clips([root]).only([], ["train"]).clips
    held = read_waveforms(clips, 16_000, MemoryRoom(2**30, tmp_path))
    mapped = read_waveforms(clips, 16_000, MemoryRoom(1000, tmp_path))
    assert isinstance(mapped.held.values.base, np.memmap)
    assert not isinstance(held.held.values.base, np.memmap)
    for one, other in zip(held.held, mapped.held, strict=True):
        np.testing.assert_array_equal(one, other)
    assert held.fingerprint == mapped.fingerprint
    assert list(tmp_path.glob("tmp*")) == []
    lengths = [round(seconds * 16_000) for seconds in (0.2, 0.3)]
    assert held.usual_length(10**6) == max(lengths)
    assert held.usual_length(1000) == 1000


def test_no_usable_clip_is_told(tmp_path: Path) -> None:
    root = write_root(tmp_path / "data", source=1, target=0)
    clips = list_clips([root]).only([], ["train"]).clips
    clips[0].path.write_bytes(b"")
    with pytest.raises(AsdError, match="no training clip that can be used\n.*empty file"):
        read_waveforms(clips, 16_000, MemoryRoom(1000, tmp_path))
