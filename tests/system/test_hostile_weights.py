"""Fine-tuned files that ask for more than they hold, or hold what they should not."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from cache.base.errors import AsdError
from eval.baselines.model import load_model
from extractors.backbone import Source
from extractors.embedding import finetuned as tuned
from extractors.embedding.finetuned import Embedding
from finetune.loop.state import resumed
from tests.extractors.test_loading import Payload
from tests.helpers.small_models import SMALL

CPU = torch.device("cpu")
ABSURD = 10**9


def written(name: str, folder: Path) -> Path:
    """A fine-tuned file of a small backbone."""
    backbone: Any = tuned.load_any(name, SMALL[name](folder), CPU)
    spec = backbone.spec
    embedding = Embedding(spec.layers[-1], "mean", spec.dim, spec.bands, 4)
    path = folder / "tuned.safetensors"
    tuned.write(path, backbone, embedding, embedding.pooling(), {})
    return path


def forged(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change record and tensors, and seal them again as whoever means harm would."""
    with safetensors.safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["finetune"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del record["sha256"]
    change(record, state)
    record["sha256"] = tuned._digest(record, state)
    save_file(state, path, {"finetune": json.dumps(record, sort_keys=True)})


def load(name: str, path: Path) -> object:
    return tuned.load_any(name, Source(weights=path), CPU)


@pytest.mark.parametrize(
    ("name", "place", "key", "message"),
    [
        ("ast", "config", "num_hidden_layers", "num_hidden_layers is 1000000000, and it has"),
        ("ast", "config", "intermediate_size", "asks for .* values, its tensors have"),
        ("ast", "config", "max_length", "asks for .* values, its tensors have"),
        ("ast", "input", "frames", "input has 1000000000 frames, its model takes"),
        ("hf", "config", "num_hidden_layers", "num_hidden_layers is 1000000000, and it has"),
        ("hf", "config", "intermediate_size", "asks for .* values, its tensors have"),
        ("hf", "extractor", "feature_size", "extractor's feature_size is 1000000000, more than"),
        ("beats", "cfg", "encoder_layers", "encoder_layers is 1000000000, its tensors have"),
        ("beats", "cfg", "encoder_ffn_embed_dim", "encoder_ffn_embed_dim is 1000000000, its"),
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(
    name: str, place: str, key: str, message: str, tmp_path: Path
) -> None:
    path = written(name, tmp_path)

    def change(record: dict[str, Any], _: dict[str, Any]) -> None:
        assert key in record["blueprint"][place]
        record["blueprint"][place][key] = ABSURD

    forged(path, change)
    with pytest.raises(AsdError, match=message):
        load(name, path)


def test_an_absurd_embedding_is_refused(tmp_path: Path) -> None:
    path = written("beats", tmp_path)
    forged(path, lambda record, _: record["embedding"].update(size=ABSURD))
    with pytest.raises(AsdError, match="does not fit StatisticsPooling: of another shape"):
        load("beats", path)


@pytest.mark.parametrize("name", ["ast", "beats", "efficientat", "hf"])
def test_tensors_of_another_shape_are_named(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    changed: list[str] = []

    def change(_: dict[str, Any], state: dict[str, Any]) -> None:
        last = max(key for key in state if key.startswith("network.") and state[key].dim() == 1)
        state[last] = torch.zeros(3)
        changed.append(last.removeprefix("network."))

    forged(path, change)
    with pytest.raises(AsdError, match=f"of another shape: {changed[0]}"):
        load(name, path)


def _pickled(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps({"model": payload}))


def _zipped(path: Path, payload: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))
        archive.writestr("archive/version", "3\n")


def _as_cfg(path: Path, payload: object) -> None:
    torch.save({"cfg": payload, "model": {"a": torch.ones(1)}}, path)


def _legacy(path: Path, payload: object) -> None:
    torch.save({"cfg": payload}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [_pickled, _zipped, _as_cfg, _legacy])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_no_loading_path_runs_code(write: Callable[[Path, object], None], name: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / name
    write(path, Payload(marker))
    for backbone in ("beats", "efficientat", "panns:Cnn6"):
        kind, _, variant = backbone.partition(":")
        with pytest.raises(AsdError, match=name):
            tuned.load_any(kind, Source(variant, path), CPU)
    state = path.rename(tmp_path / "m.training")
    with pytest.raises(AsdError, match="delete it to train from the start"):
        resumed(state, "a")
    path = state.rename(tmp_path / "ae.safetensors")
    with pytest.raises(AsdError, match="is damaged"):
        load_model(path, CPU)
    assert not marker.exists()
