"""Sounds from text: small pipelines saved to disk and loaded from there, prompts, refusals."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cache.base.errors import AsdError
from cache.base.options import parse
from extractors.audio.decode import decode_file, mono
from extractors.audio.waves import rms
from extractors.device import transformers
from finetune.synthesis.method import Material, find
from finetune.synthesis.text_to_audio import TextToAudio, parse_phrases, prompt, shipped_phrases
from finetune.synthesise import main
from tests.conftest import write_root
from tests.helpers.text_pipelines import write_audioldm, write_audioldm2

ErrorOf = Callable[..., str]
WRITERS = {"audioldm2": write_audioldm2, "audioldm": write_audioldm}
# What the libraries say of the small models or of each other, none of it about our use of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write(folder / name) for name, write in WRITERS.items()}


def text_method(name: str, model: Path | str, steps: int = 2) -> TextToAudio:
    method = parse(f"{name}:steps={steps}:device=cpu", find)
    assert isinstance(method, TextToAudio)
    return replace(method, model=str(model))


@pytest.mark.parametrize("name", WRITERS)
def test_a_saved_pipeline_makes_clips_of_the_right_rate_and_length(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    root, made = write_root(tmp_path / "data"), tmp_path / "made"
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("# mine\n\nwith a loose wheel\n")
    command = ["--data", str(root), "--as", "anomalies", "--per-section", "3", "--method"]
    command += [f"{name}:steps=2:device=cpu", "--model", str(models[name])]
    command += ["--phrases", str(phrases)]
    for folder in (made, tmp_path / "again"):
        assert main([*command, "--to", str(folder)]) == 0
    with (made / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        source = decode_file(root / row["sources"])
        clip = decode_file(made / row["path"])
        assert (clip.sample_rate, len(clip.samples)) == (16_000, len(source.samples))
        assert rms(mono(clip.samples)) == pytest.approx(rms(mono(source.samples)), rel=0.01)
        assert "the sound of a fan running with a loose wheel, speed " in row["parameters"]
        again = (tmp_path / "again" / row["path"]).read_bytes()
        assert (made / row["path"]).read_bytes() == again


@pytest.mark.parametrize("name", WRITERS)
def test_another_seed_or_rate_gives_another_sound_of_the_same_length(
    models: dict[str, Path], name: str
) -> None:
    method = text_method(name, models[name])
    waves = {}
    for seed, rate in ((0, 16_000), (1, 16_000), (0, 44_100)):
        material = Material((np.ones(rate),), rate, "fan")
        waves[seed, rate] = method.apply(np.random.default_rng(seed), material).wave
        assert len(waves[seed, rate]) == rate
    assert not np.allclose(waves[0, 16_000], waves[1, 16_000])
    state = torch.random.get_rng_state()
    again = method.apply(np.random.default_rng(0), Material((np.ones(16_000),), 16_000, "fan"))
    assert np.array_equal(again.wave, waves[0, 16_000])
    assert torch.equal(state, torch.random.get_rng_state())  # nobody else's randomness is touched


def test_the_language_model_is_the_saved_one(models: dict[str, Path]) -> None:
    """Loaded with a head, it gives the hidden states of the GPT2Model that was saved."""
    folder = models["audioldm2"]
    saved = transformers().GPT2Model.from_pretrained(folder, subfolder="language_model")
    ours = text_method("audioldm2", folder)._pipe.language_model
    inputs = torch.randn(1, 5, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = saved(inputs_embeds=inputs).last_hidden_state
        found = ours(inputs_embeds=inputs, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found, expected)


def test_prompts_say_what_is_known() -> None:
    attributes = {"speed": "1200", "noise": "factory", "mic": "", "synthetic": "audioldm2"}
    assert prompt("ToyCar", attributes, "with a loose screw") == (
        "the sound of a toy car running with a loose screw, speed 1200, noise factory"
    )
    assert prompt("big_pump", {}, "") == "the sound of a big pump running smoothly"
    assert len(shipped_phrases()) == 10
    assert parse_phrases("\n# no\n one \ntwo\n") == ("one", "two")


def test_a_normal_clip_gets_no_fault(models: dict[str, Path]) -> None:
    method = text_method("audioldm", models["audioldm"], steps=1)
    material = Material((np.ones(3_200),), 16_000, "fan", "normal")
    said = method.apply(np.random.default_rng(0), material).parameters["prompt"]
    assert said == "the sound of a fan running smoothly"


def test_a_model_of_the_hub_is_named_with_its_commit_and_licence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    asked: list[tuple[str, object, object]] = []

    class Pipeline:
        @classmethod
        def from_pretrained(cls, name: str, **how: object) -> None:
            asked.append((name, how["revision"], how["use_safetensors"]))
            assert "CC BY-NC-SA 4.0" in caplog.text  # told before it is fetched
            raise OSError("no connection\nand more")

    transformers()
    monkeypatch.setattr(import_module("diffusers"), "AudioLDMPipeline", Pipeline, raising=False)
    material = Material((np.ones(3_200),), 16_000, "fan")
    with pytest.raises(AsdError, match=r"cannot be loaded \(no connection\); bring the model's"):
        find("audioldm")().apply(np.random.default_rng(0), material)
    assert asked == [("cvssp/audioldm-m-full", "77e8492b2710bf733ffaf1dfdbeb8b9347cc0bd4", True)]
    for name in ("cvssp/audioldm-m-full", "cvssp/audioldm-m-full@main"):
        with pytest.raises(AsdError, match="neither a folder nor OWNER/NAME@COMMIT"):
            text_method("audioldm", name).apply(np.random.default_rng(0), material)


def test_weights_that_could_run_code_are_not_opened(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(models["audioldm"], folder)
    weights = next((folder / "unet").glob("*.safetensors"))
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    material = Material((np.ones(3_200),), 16_000, "fan")
    with pytest.raises(AsdError, match="cannot be loaded"):
        text_method("audioldm", folder).apply(np.random.default_rng(0), material)


def test_missing_libraries_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    material = Material((np.ones(3_200),), 16_000, "fan")
    bare = ModuleType("diffusers")
    bare.__version__ = "9.9"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diffusers", bare)
    with pytest.raises(AsdError, match="diffusers 9.9 has no AudioLDM2Pipeline"):
        text_method("audioldm2", tmp_path).apply(np.random.default_rng(0), material)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(AsdError, match=r"pip install 'machine-asd\[synthesis\]'"):
        text_method("audioldm2", tmp_path).apply(np.random.default_rng(0), material)


def test_a_model_that_cannot_be_loaded_stops_the_command(
    root: Path, tmp_path: Path, error_of: ErrorOf
) -> None:
    (tmp_path / "empty").mkdir()
    common = ["--data", root, "--to", tmp_path / "made", "--as", "anomalies"]
    said = error_of(main, *common, "--method", "audioldm2", "--model", tmp_path / "empty")
    assert said.count("cannot be loaded") == 1


def test_a_file_without_phrases_is_refused(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    empty = tmp_path / "none.txt"
    empty.write_text("# nothing\n")
    common = ["--data", root, "--to", tmp_path / "made", "--as", "anomalies"]
    said = error_of(main, *common, "--method", "audioldm2", "--phrases", empty)
    assert "holds no phrase" in said
    said = error_of(main, *common, "--method", "audioldm2", "--phrases", tmp_path / "gone.txt")
    assert "gone.txt: No such file or directory" in said


def test_listing_methods_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom contextlib import suppress\nfrom finetune.synthesise import main\n"
        "with suppress(SystemExit):\n    main(['--help'])\n"
        "from finetune.synthesis.method import find\nfind('audioldm2')\n"
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
