"""Checkpoints: refused where they are not what they should be, and nothing of them run."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from extractors import backbones
from extractors.backbone import Source
from extractors.backbones.efficientat import MobileNet
from extractors.embedding.finetuned import load_any
from extractors.weights import loading
from extractors.weights.hub import Folder
from extractors.weights.loading import load_state, load_strictly, random_parameters


class Payload:
    """Unpickled, it would make a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_checkpoint_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pt")
    assert load_state(tmp_path / "w.pt")["a"].tolist() == [1, 1]
    assert len(file_sha256(tmp_path / "w.pt")) == 64


@pytest.mark.parametrize("form", ["pickle", "torch", "inside"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, form: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "w.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
    elif form == "torch":
        torch.save(Payload(marker), path)
    else:
        torch.save({"a": torch.ones(2), "cfg": Payload(marker)}, path)
    with pytest.raises(AsdError, match="nothing of it was run"):
        load_state(path)
    assert not marker.exists()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(AsdError, match="no such file"):
        load_state(path)
    torch.save({"a": torch.ones(2000)}, path)
    whole = path.read_bytes()
    for content in (b"", b"hello, I am text", whole[: len(whole) // 2], whole[:10]):
        path.write_bytes(content)
        with pytest.raises(AsdError, match="no checkpoint"):
            load_state(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not a checkpoint")
    with pytest.raises(AsdError, match="no checkpoint"):
        load_state(path)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 3}, {1: torch.ones(1)}])
def test_other_contents_are_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(AsdError, match="where a mapping of names to tensors is expected"):
        load_state(tmp_path / "w.pt")


def test_damage_is_found_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.arange(500.0)}, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(whole), 60, replace=False):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            state = load_state(path)
        except AsdError:
            continue
        assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_only_the_first_keys_of_a_long_list_are_named() -> None:
    network = nn.Linear(2, 2)
    state = {f"x{i}": torch.zeros(1) for i in range(9)}
    with pytest.raises(AsdError, match="unexpected: x0, x1, x2 and 6 more"):
        load_strictly(network, state, Path("w.pt"))
    load_strictly(network, network.state_dict() | {"head.a": torch.zeros(1)}, Path("w"), ["head."])


def test_a_file_that_unpacks_to_more_than_torch_packs_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2**22)}, tmp_path / "w.pt")
    bomb = tmp_path / "bomb.pt"
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as whole,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    assert bomb.stat().st_size < 2**16
    tracemalloc.start()
    try:
        with pytest.raises(AsdError, match=r"its \d+ bytes unpack to 1677\d+, where torch.save"):
            load_state(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**12),
        torch.sparse_coo_tensor(torch.zeros(1, 1), torch.ones(1), (10**9,), check_invariants=True),
        torch.empty(10**12, device="meta"),
    ],
    ids=["expanded", "sparse", "meta"],
)
def test_tensors_that_claim_values_the_file_does_not_hold(value: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"a": value}, tmp_path / "w.pt")
    with pytest.raises(AsdError, match=r"w.pt: a claims \(1000000000\d*,\) .* does not hold"):
        load_state(tmp_path / "w.pt")


def test_the_hash_is_that_of_the_bytes_that_were_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "w.pt", tmp_path / "other.pt"]
    for seed, path in enumerate(paths):
        torch.save(random_parameters(lambda: MobileNet(0.1), seed).state_dict(), path)
    expected, read = file_sha256(paths[0]), torch.load

    def replaced(*args: object, **how: object) -> object:
        content = read(*args, **how)  # type: ignore[arg-type]
        paths[1].replace(paths[0])
        return content

    monkeypatch.setattr(loading.torch, "load", replaced)
    backbone = backbones.find("efficientat").load(Source(weights=paths[0]), torch.device("cpu"))
    assert backbone.spec.weights == expected != file_sha256(paths[0])
    paths[1].write_bytes(paths[0].read_bytes())
    with pytest.raises(AsdError, match="w.pt changed while it was read: run the same command"):
        load_any("efficientat", Source(weights=paths[0]), torch.device("cpu"))


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes(b"{}")
    folder = Folder(tmp_path, "mine")
    with folder.steady():
        folder.weights_sha256()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "new").write_bytes(b"{}")
        with (
            pytest.raises(AsdError, match="mine changed while it was read: run the same"),
            folder.steady(),
        ):
            (tmp_path / "new").replace(tmp_path / name)
