"""Lengths that clips are brought to: each policy against arrays by hand; tables never mixed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from cache.heard import Length, read_channel, read_length
from cache.select import Selection, choose
from cache.store import Store
from cache.table import Section
from eval.run import main as evaluate
from extractors.audio.hearing import Hearing, hearing_of
from extractors.run import main as extract
from finetune.data.waveforms import MemoryRoom, read_waveforms
from index.run import main as build
from tests.conftest import make_recipe

ErrorOf = Callable[..., str]
RATE = 100
LOGMEL = ("--backbone", "logmel")


@pytest.mark.parametrize("seconds", [6, 10, 12, 18])
def test_policies_by_hand(seconds: int) -> None:
    clip = np.arange(1, seconds * RATE + 1, dtype=np.float32)
    found = {p: Length(10, p).fit(clip, RATE).tolist() for p in ("zero", "tile", "cut")}
    first = list(range(1, 1001))
    if seconds >= 10:
        assert found == dict.fromkeys(("zero", "tile", "cut"), first)
    else:
        assert found["zero"] == first[:600] + [0] * 400
        assert found["tile"] == first[:600] + first[:400]
        assert found["cut"] == first[:600]
    long = Length(18, "tile").fit(clip, RATE)
    assert long.tolist() == (clip.tolist() * 3)[: 18 * RATE]


def test_two_rows_and_odd_lengths() -> None:
    pair = np.stack([np.arange(1, 8), -np.arange(1, 8)]).astype(np.float32)
    tiled = Length(2.0, "tile").fit(pair, 8)
    assert tiled.tolist() == [(row.tolist() * 3)[:16] for row in pair]
    assert Length(0.126, "zero").fit(pair[0], 16).tolist() == [1, 2]
    assert Length(6.5, "cut").fit(np.ones(16_000 * 7, np.float32), 16_000).shape == (104_000,)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10", "10:cut"),
        ("10.0:zero", "10:zero"),
        ("7.90225:tile", "7.90225:tile"),
        ("1e1", "10:cut"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    assert str(read_length(text)) == canonical
    assert read_length(canonical) == read_length(text)


@pytest.mark.parametrize("text", ["", "ten", "10:", "10:loop", "0", "-1:zero", "nan", "inf:cut", ":zero"])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(AsdError, match="expected whole, or SECONDS"):
        read_length(text)


def test_channels() -> None:
    known = ["average", "near", "far", "cancel", "0", "12"]
    assert [read_channel(text) for text in known] == known
    assert {read_channel(text) for text in ("residual", "residual:.5", "residual:0.50")} == {"residual:0.5"}


def test_the_recipe_holds_it_and_gives_it_back() -> None:
    hearing = Hearing("residual:.5", length=Length(10, "zero"))
    assert hearing.settings == {"channel": "residual:0.5", "length": "10:zero"}
    recipe = make_recipe(settings=tuple(sorted(hearing.settings.items())))
    assert hearing_of(recipe) == hearing
    assert "length=10:zero" in str(recipe)
    assert Hearing().settings == {}
    with pytest.raises(AsdError, match="give one of them"):
        Hearing(window=5, hop=5, length=Length(10))


def write(root: Path) -> Path:
    """Clips of 0.6, 1.0, 1.2 and 1.8 s, all different."""
    rng = np.random.default_rng(3)
    for i in range(8):
        split, seconds = ("train" if i < 4 else "test"), (0.6, 1.0, 1.2, 1.8)[i % 4]
        path = root / "fan" / split / f"section_00_source_{split}_normal_{i:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(0, 0.1, int(seconds * 16_000)), 16_000)
    return root


def by_hand(root: Path, to: Path, policy: str) -> Path:
    """The same clips, brought to 1 s before they are written."""
    for path in sorted(root.rglob("*.wav")):
        clip = soundfile.read(path, dtype="int16")[0]
        if policy == "zero":
            clip = np.concatenate([clip, np.zeros(16_000, np.int16)])[:16_000]
        elif policy == "tile":
            clip = np.concatenate([clip, clip])[:16_000]
        else:
            clip = clip[:16_000]
        made = to / path.relative_to(root)
        made.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(made, clip, 16_000, subtype="PCM_16")
    return to


def test_tables_are_those_of_clips_made_by_hand_and_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write(tmp_path / "data")
    for policy in ("zero", "tile", "cut"):
        assert extract(["--data", "data", *LOGMEL, "--length", f"1:{policy}"]) == 0
        made = by_hand(root, tmp_path / policy, policy)
        assert extract(["--data", str(made), *LOGMEL, "--cache-dir", f"{policy}-cache"]) == 0
    assert extract(["--data", "data", *LOGMEL]) == 0
    store, section = Store(tmp_path / "artifacts"), Section("fan", 0)
    assert len(store.recipes()) == 4
    for policy in ("zero", "tile", "cut"):
        wanted = Selection(("logmel",), length=f"1.0:{policy}")
        found = store.read(choose(store, wanted), section, "test")
        other = Store(tmp_path / f"{policy}-cache")
        expected = other.read(other.recipes()[0], section, "test")
        np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-6)
        assert len(found) == 4
    assert "4 recipes fit; choose with" in error_of(build, "--backbone", "logmel")
    chain = ["--backbone", "logmel", "--scorer", "min-distance"]
    for length in ("whole", "1:zero"):
        banks = ["--bank", f"bank-{length[0]}"]
        assert build([*chain, *banks, "--length", length]) == 0
        assert evaluate([*chain, *banks, "--length", length, "--out", f"o-{length[0]}"]) == 0
    names = ("o-w", "o-1")
    scores = [Path(n, "anomaly_score_fan_section_00_test.csv").read_text() for n in names]
    assert scores[0] != scores[1]
    for name, text in zip(names, scores, strict=True):
        bank = ["--bank", name.replace("o", "bank"), "--cache-dir", f"new-{name}"]
        assert evaluate([*bank, "--data", "data", "--out", f"fresh-{name}"]) == 0
        assert Path(f"fresh-{name}", "anomaly_score_fan_section_00_test.csv").read_text() == text


def test_a_clip_too_short_for_a_model_fits_when_it_is_padded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / "fan" / "train" / "a.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.full(160, 0.1), 16_000)
    where = ["--data", str(tmp_path / "data"), *LOGMEL, "--cache-dir", str(tmp_path / "c")]
    assert extract(where) == 1
    assert "too short" in capsys.readouterr().err
    assert extract([*where, "--length", "1:tile"]) == 0


def test_an_experiment_says_its_length(tmp_path: Path, error_of: ErrorOf) -> None:
    write(tmp_path / "data")
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\nlength = "1:tile"\n[backbones.logmel]\n[scorer]\nname="ldn"\n')
    where = ["--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "artifacts")]
    run = [str(path), *where, "--no-report", "--out", str(tmp_path / "out")]
    for changed in ([], ["--set", "length=0.5"], ["--length", "0.5:cut"]):
        assert evaluate([*run, *changed]) == 0
    lengths = {dict(r.settings)["length"] for r in Store(tmp_path / "artifacts").recipes()}
    assert lengths == {"1:tile", "0.5:cut"}
    assert "expected whole, or SECONDS" in error_of(evaluate, *run, "--set", "length=long")
    assert "expected whole, or SECONDS" in error_of(evaluate, *run, "--length", "long")


def test_fine_tuning_hears_the_same(tmp_path: Path) -> None:
    from extractors.clips.listing import list_clips  # noqa: PLC0415

    clips = list_clips([write(tmp_path / "data")]).only([], ["train"]).clips
    room = MemoryRoom(2**30, tmp_path)
    whole = read_waveforms(clips, 16_000, room)
    tiled = read_waveforms(clips, 16_000, room, Hearing(length=Length(1, "tile")))
    for row in range(len(clips)):
        np.testing.assert_array_equal(tiled.held[row], np.resize(whole.held[row], 16_000))
