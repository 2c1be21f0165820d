"""Several backbones in one call: which option is whose, one decoding, joined tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache.heard import Signal, Span
from cache.recipe import concatenation
from cache.store import Store
from cache.table import Section
from extractors.audio import batches
from extractors.audio import decode as audio
from extractors.backbone import Source
from extractors.embedding import models
from extractors.engines.local import Extraction
from extractors.run import main
from tests.conftest import write_clip
from tests.helpers.small_models import write_beats, write_mobilenet

ErrorOf = Callable[..., str]
FAN = Section("fan", 0)


@pytest.fixture
def command(root: Path, tmp_path: Path) -> list[str]:
    """Log-mel, a small BEATs and a small EfficientAT over one root."""
    beats, mobilenet = write_beats(tmp_path / "b=1.pt"), write_mobilenet(tmp_path / "mn01.pt")
    return [
        *("--data", str(root), "--cache-dir", str(tmp_path / "a")),
        *("--backbone", "logmel", "beats", "efficientat"),
        *("--weights", f"beats={beats}", f"efficientat={mobilenet}"),
    ]


def test_each_gets_its_own_weights_layers_and_poolings(command: list[str], tmp_path: Path) -> None:
    options = ["--layers", "beats=1", "beats=2", "efficientat=4", "logmel=0"]
    poolings = ["--pooling", "mean", "beats=rdp", "beats=gem:2"]
    assert main([*command, *options, *poolings]) == 0
    store = Store(tmp_path / "a")
    made = {(r.backbone, r.layer, r.pooling) for r in store.recipes()}
    assert made == {
        ("logmel", 0, "mean"),
        ("efficientat", 4, "mean"),
        *(("beats", layer, how) for layer in (1, 2) for how in ("rdp:19", "gem:2")),
    }


def test_both_kinds_of_bands_come_out_of_one_pass(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--bands", "beats=merge", "beats=keep"]) == 0
    store = Store(tmp_path / "a")
    found = {(r.backbone, r.bands): store.read(r, FAN, "test").width for r in store.recipes()}
    assert found["beats", "merge"] == 32
    assert found["beats", "keep"] == 8 * 32
    assert sum(name == "logmel" for name, _ in found) == 1


def test_backbones_are_joined_as_they_are_read(command: list[str], tmp_path: Path) -> None:
    assert main(command) == 0
    store = Store(tmp_path / "a")
    by_name = {recipe.backbone: recipe for recipe in store.recipes()}
    parents = [by_name[name] for name in ("logmel", "beats", "efficientat")]
    expected = np.concatenate([store.read(each, FAN, "train").embeddings for each in parents], axis=1)
    joined = store.read(concatenation(parents), FAN, "train")
    np.testing.assert_array_equal(joined.embeddings, expected)


def test_a_clip_is_decoded_once_for_all(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Path] = []

    def counting(path: Path, span: Span | None, longest: float, signal: Signal) -> audio.Decoding:
        decoded.append(path)
        return audio.decode_file(path, span, longest, signal)

    monkeypatch.setattr(batches, "decode_file", counting)
    assert main(command) == 0
    assert len(decoded) == len(set(decoded)) == 12


def test_what_does_not_fit_the_memory_is_decoded_again(root: Path) -> None:
    files = sorted((root / "fan" / "train").iterdir())
    size = audio.decode_file(files[0]).samples.nbytes
    reader = batches.Recordings(budget=size)
    for path in (*files, *files):
        recording = reader.read(path, 16_000)
        np.testing.assert_array_equal(recording.samples, audio.read_audio(path, 16_000).samples)
    assert reader.read(files[0], 8_000).samples.size * 2 == size / 4
    kept = reader._kept
    assert [path for path, *_ in kept] == [files[0]]
    reader.forget()
    reader.read(files[2], 16_000)
    assert [path for path, *_ in kept] == [files[2]]


def test_a_clip_too_short_for_one_is_left_out_there_only(
    command: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = root / "fan" / "train" / "section_00_source_train_normal_0098.wav"
    write_clip(short, seed=7, seconds=0.1)  # BEATs needs 0.175 s
    assert main(command) == 1
    said = capsys.readouterr()
    assert f"left out: {short}: 0.100 s is too short; beats needs at least 0.175 s" in said.err
    store = Store(tmp_path / "a")
    rows = {r.backbone: len(store.read(r, FAN, "train")) for r in store.recipes()}
    assert rows == {"logmel": 9, "beats": 8, "efficientat": 9}


def test_random_weights_are_marked(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(root), "--cache-dir", str(tmp_path / "a"), "--weights", "random"]
    assert main([*where, "--backbone", "efficientat:mn01", "logmel"]) == 0
    said = capsys.readouterr()
    assert "note: efficientat has random weights: for timing, its scores mean nothing" in said.err
    assert "efficientat layer=8 pooling=mean bands=merge weights=random" in said.out
    assert "logmel has" not in said.err


def test_a_smaller_number_format_says_how_near_it_is(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dtype", "bfloat16"]) == 0
    said = capsys.readouterr().err
    assert "note: beats in bfloat16: cosine to float32 at least 0.99" in said
    assert "on 4 clips" in said
    assert main([*command, "--dtype", "auto"]) == 0  # bank and query are of one format
    later = capsys.readouterr()
    assert "note: beats in bfloat16, as its tables are" in later.err
    assert later.out.count("12 clips: 0 new, 0 changed, 12 unchanged") == 3


def test_auto_takes_float32_where_there_is_little_to_do(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dtype", "auto"]) == 0
    assert "in bfloat16" not in capsys.readouterr().err
    (cache,) = {path.parents[3] for path in tmp_path.rglob("train.parquet")}
    assert not any("dtype" in dict(recipe.settings) for recipe in Store(cache).recipes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "b.pt"], "--weights b.pt: of 3 backbones, say which it is for: --weights"),
        (["--layers", "4"], "logmel has no layer 4; it has 0"),
        (["--layers", "beats=x"], "--layers x: expected a whole number, or NAME=NUMBER"),
        (["--pooling", "beats=native"], "beats has no embedding of its own at layer 2, only: none"),
        (["--layers", "panns=4"], "panns=4 is meant for panns, this call has logmel, beats, eff"),
        (["--bands", "beats=split"], "--bands split: expected merge or keep"),
        (["--backbone", "logmel", "nothing"], "--backbone nothing: expected ast or beats or"),
    ],
)
def test_mistakes(command: list[str], error_of: ErrorOf, options: list[str], message: str) -> None:
    assert message in error_of(main, *command, *options)


def test_whose_option_it_is() -> None:
    names = ["beats", "panns"]
    values = ["4", "beats=6", "beats=8", "Cnn14_mAP=0.431.pth"]
    assert models.chosen(values, "beats", names) == ["6", "8"]
    assert models.chosen(values, "panns", names) == ["4", "Cnn14_mAP=0.431.pth"]
    assert models.source_of(["panns=Cnn14_mAP=0.431.pth"], "panns:Cnn14", names) == Source(
        "Cnn14", Path("Cnn14_mAP=0.431.pth")
    )
    assert models.source_of(["random"], "hf:a/b", ["hf", "beats"]) == Source("a/b", seed=0)


def test_plans_are_measured_only_where_there_is_much_to_do(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command) == 0
    assert not (tmp_path / "a" / "plans.json").exists()
    monkeypatch.setattr("extractors.engines.local._WORTH_MEASURING", 10)
    assert main([*command[:-3], "--backbone", "logmel", "--cache-dir", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "plans.json").exists()
    assert Extraction([], Store(tmp_path / "b")).run([]) == []
