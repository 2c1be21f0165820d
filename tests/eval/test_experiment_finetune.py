"""An experiment that fine-tunes first: one run a seed, their mean, nothing made twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cache.store import Store
from eval.experiments.chain import train_request
from eval.experiments.file import parse
from eval.request import EvaluateRequest
from eval.run import main
from extractors.embedding.finetuned import record_of
from tests.conftest import write_clip

TEXT = """title = "fine-tuned"
[backbones."logmel:cnn"]
[finetune]
seeds = [2, 5]
epochs = 1
size = 8
batch_size = 4
head = "linear"
augment = []
[scorer]
name = "min-distance"
"""


def test_seeds_are_trained_scored_and_averaged(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):  # two clips a kind, so that areas can be computed
        for domain in ("source", "target"):
            for kind in ("normal", "anomaly"):
                name = f"section_00_{domain}_test_{kind}_{number:04d}_speed_0.wav"
                write_clip(root / "fan" / "test" / name, 100 + number)
    (tmp_path / "x.toml").write_text(TEXT)
    where = [
        "--data",
        str(root),
        "--cache-dir",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([str(tmp_path / "x.toml"), *where]) == 0
    out = tmp_path / "out"
    for seed in (2, 5):
        path = out / "models" / f"logmel_cnn_seed_{seed}.safetensors"
        record = record_of(path)["training"]
        assert (record["seed"], record["head"], record["augment"]) == (seed, "linear", [])
        assert (out / "finetuned" / f"seed_{seed}" / "results.csv").is_file()
    experiment = json.loads((out / "experiment.json").read_text())
    assert len(experiment["recipes"]) == len({r["weights"] for r in experiment["recipes"]}) == 2
    assert {recipe.pooling for recipe in Store(tmp_path / "cache").recipes()} == {"native"}
    told = capsys.readouterr().out
    assert "±" in told
    monkeypatch.setattr("finetune.loop.optimising.Optimising.step", None)  # nothing may be trained again
    assert main([str(tmp_path / "x.toml"), *where]) == 0


def test_no_name_of_a_backbone_leads_out_of_the_folder(tmp_path: Path) -> None:
    experiment = parse(TEXT.replace("logmel:cnn", "hf:../../up"), "x.toml")
    wanted = EvaluateRequest(out=tmp_path / "out", audio=(tmp_path,), cache_dir=tmp_path / "cache")
    asked = train_request(experiment, "hf:../../up", 5, wanted)
    assert asked.path(5).parent == tmp_path / "out" / "models"
    assert (asked.seeds, asked.settings.head, asked.settings.augment) == ((5,), "linear", ())
