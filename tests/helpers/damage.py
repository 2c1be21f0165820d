"""Artefacts of every kind, damaged at random: detected, harmless, or used as if nothing were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache.base.errors import AsdError
from cache.parquet import read_keys, read_recipe
from cache.store import Store
from cache.table import Section
from eval.baselines.model import Autoencoder, Model, load_model
from eval.results.description import SystemDescription, read_description, write_description
from eval.results.folder import ResultsFolder
from eval.results.submission import Submission, read_submission, write_submission
from eval.scoring.maps import read_columns, write_map
from extractors.backbone import Source
from extractors.embedding import finetuned as tuned
from extractors.embedding.finetuned import Embedding
from finetune.loop.state import State, resumed
from index.bank import Bank, find_bank
from index.run import main as build
from tests.conftest import make_recipe, make_table
from tests.helpers.small_models import write_beats, write_mobilenet

CPU = torch.device("cpu")
FAN = Section("fan", 0)
DETECTED, HARMLESS, WRONG, UNNAMED = "detected", "harmless", "wrong", "unnamed"


@dataclass(frozen=True)
class Artefact:
    """A file, and what reading it gives: equal digests stand for equal scores."""

    kind: str
    path: Path
    read: Callable[[], str]


def artefacts(folder: Path) -> list[Artefact]:
    """One of every kind, small."""
    return [
        *_table(folder / "store"),
        *_bank(folder / "bank"),
        *_weights(folder),
        *_training(folder),
        *_results(folder / "results"),
    ]


def outcome(artefact: Artefact, damaged: bytes) -> str:
    """What reading a damaged artefact comes to; it is whole again afterwards."""
    expected, whole = artefact.read(), artefact.path.read_bytes()
    artefact.path.write_bytes(damaged)
    try:
        return HARMLESS if artefact.read() == expected else WRONG
    except AsdError as error:
        return DETECTED if artefact.path.name in str(error) else f"{UNNAMED}: {error}"
    finally:
        artefact.path.write_bytes(whole)


def _hash(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()


def _state(module: torch.nn.Module) -> str:
    return _hash(*((name, value.numpy().tobytes()) for name, value in module.state_dict().items()))


def _table(folder: Path) -> Iterator[Artefact]:
    store, recipe = Store(folder), make_recipe()
    values = np.random.default_rng(0).normal(size=(40, 8))
    path = store.write(make_table(values, ["source"] * 35 + ["target"] * 5), recipe)

    def read() -> str:
        read_recipe(path), read_keys(path)  # what a run asks first; the whole is read last
        table = store.read(recipe, FAN, "train")
        return _hash(table.keys, dict(table.blocks), table.embeddings)

    yield Artefact("embedding table", path, read)


def _bank(folder: Path) -> Iterator[Artefact]:
    store, recipe = Store(folder), make_recipe()
    rng = np.random.default_rng(1)
    store.write(make_table(rng.normal(size=(40, 8)), ["source"] * 35 + ["target"] * 5), recipe)
    build(["--backbone", "logmel", "--cache-dir", str(folder), "--scorer", "domain-scale"])
    root = find_bank(folder, recipe, "domain-scale").root
    points = rng.normal(size=(20, 8)).astype(np.float32)

    def read() -> str:
        bank = Bank(root)
        fitted = bank.read(FAN, bank.recipe())
        return _hash(fitted.scorer.score(points), fitted.threshold, fitted.train_scores())

    kinds = {".json": "bank's record", ".faiss": "bank's index", ".npz": "bank's arrays"}
    for path in sorted((root / str(FAN)).iterdir()):
        yield Artefact(kinds[path.suffix], path, read)


def _weights(folder: Path) -> Iterator[Artefact]:
    def loader(name: str, path: Path) -> Callable[[], str]:
        def read() -> str:
            backbone: Any = tuned.load_any(name, Source(weights=path), CPU)
            network = _state(getattr(backbone, "backbone", backbone).network)
            pooling = getattr(backbone, "_pooling", None)
            return network if pooling is None else _hash(network, _state(pooling))

        return read

    beats, mobilenet = write_beats(folder / "b.pt"), write_mobilenet(folder / "mn01_as.pt")
    yield Artefact("checkpoint", beats, loader("beats", beats))
    yield Artefact("checkpoint", mobilenet, loader("efficientat", mobilenet))
    path = folder / "tuned.safetensors"
    backbone: Any = tuned.load_any("beats", Source(weights=beats), CPU)
    embedding = Embedding(2, "mean", 32, 8, 4)
    tuned.write(path, backbone, embedding, embedding.pooling(), {"seed": 0})
    yield Artefact("fine-tuned file", path, loader("beats", path))


def _training(folder: Path) -> Iterator[Artefact]:
    path = folder / "m.training"
    moments = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(50)}}}
    State(3, 1, [{"loss": 1.0}], [0.5], {"w": torch.randn(60)}, moments).save(path, "a")
    yield Artefact("training state", path, lambda: _hash(vars(resumed(path, "a") or State())))
    model = folder / "ae.safetensors"
    Model(Autoencoder(0).eval(), (1.0, 0.5), CPU).save(model)

    def read() -> str:
        found = load_model(model, CPU)
        return _hash(found.losses, _state(found.network))

    yield Artefact("autoencoder", model, read)


def _results(folder: Path) -> Iterator[Artefact]:
    rng = np.random.default_rng(2)
    names = tuple(f"section_00_{i:04d}.wav" for i in range(20))
    scores = rng.normal(size=20)
    results = ResultsFolder(folder)
    described = SystemDescription("logmel", facts={"recipe": "x"}, thresholds={str(FAN): 0.5})
    with results.run():
        files = write_submission(results, Submission(FAN, names, scores, scores > 0.5))
        files.append(write_description(results, described))
        table = make_table(rng.normal(size=(20, 4)), split="test")
        maps = [write_map(results, None, lambda: [table], "pca")]
        others = [results.write(name, rng.bytes(500)) for name in ("results.json", "report.html")]

    def read() -> str:
        found = read_submission(folder, FAN)
        return _hash(found.files, found.scores, found.decisions, read_description(folder, "results"))

    for path in [*files, folder / "SHA256SUMS"]:
        yield Artefact("experiment's results", path, read)
    for path in maps:
        yield Artefact("map of clips", path, lambda path=path: _hash(read_columns(path, {"x"})))
    for path in others:
        yield Artefact(
            "result tables and page", path, lambda path=path: _hash(ResultsFolder(folder).read(path.name))
        )
