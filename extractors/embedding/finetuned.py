"""Fine-tuned models as files: a backbone's network and the embedding trained on top of it.

A safetensors file holds both under ``network.`` and ``pooling.``, and one record as JSON in its
metadata: which backbone, how to build it, and what the training was. Nothing else is needed to
read it; the weights it was made from are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import unchanged, write_atomic
from extractors import backbones
from extractors.backbone import (
    OWN,
    Backbone,
    Features,
    Inputs,
    Kernels,
    Kind,
    ModelFile,
    NetworkBackbone,
    Source,
    Tunable,
)
from extractors.embedding.statistics import StatisticsPooling
from extractors.weights.loading import (
    WeightsFile,
    load_state,
    load_strictly,
    read_weights,
    tensors_sha256,
)

_KEY = "finetune"  # of the metadata
_FORMAT = 2
_UNSEALED = 1  # an earlier format, without a digest: read, and not checked
_DIGEST = "sha256"  # of the tensors and of all else that the record says
_NETWORK, _POOLING = "network.", "pooling."


@dataclass(frozen=True)
class Embedding:
    """The embedding that was trained.

    Attributes
    ----------
    layer
        Where it stands on the backbone.
    kind
        How frames become one vector: of `extractors.embedding.statistics.KINDS`, or `OWN`.
    channels, bands
        Of the layer's frames.
    size
        Its values.
    """

    layer: int
    kind: str
    channels: int
    bands: int
    size: int

    def pooling(self) -> StatisticsPooling | None:
        """Build the module that makes it, its parameters as initialised; ``None`` for `OWN`."""
        if self.kind == OWN:
            return None
        return StatisticsPooling(self.channels, self.size, cast(Kind, self.kind))


def embed(pooling: StatisticsPooling | None, features: Features) -> Tensor:
    """Compute (B, D) embeddings from the features of the embedding's layer."""
    if pooling is not None:
        embedding: Tensor = pooling(features.frames)
        return embedding
    if features.native is None:
        raise AsdError("this layer has no embedding of its own")
    return features.native


class FinetunedBackbone(NetworkBackbone):
    """A fine-tuned backbone: every layer as before, and the trained embedding as ``native``.

    Parameters
    ----------
    backbone
        With the trained network.
    embedding, pooling
        What was trained on top of it.
    """

    def __init__(self, backbone: Tunable, embedding: Embedding, pooling: StatisticsPooling | None) -> None:
        self.spec = replace(
            backbone.spec,
            layer=embedding.layer,
            dim=embedding.channels,
            bands=embedding.bands,
            native=tuple(sorted({*backbone.spec.native, embedding.layer})),
            pooling="native",
        )
        self.backbone = backbone
        self.kernels = backbone.kernels if isinstance(backbone, Kernels) else ()
        self._embedding = embedding
        self._pooling = pooling

    def use(self, kernel: str) -> None:
        """Compute in one of the backbone's ways; see `Kernels`."""
        if isinstance(self.backbone, Kernels):
            self.backbone.use(kernel)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute what the network is given; see `Tunable.inputs`."""
        return self.backbone.inputs(waveforms)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Run the network and the embedding behind it; see `Tunable.states`."""
        found = self.backbone.states(inputs, layers)
        return [
            replace(each, native=embed(self._pooling, each).float())
            if layer == self._embedding.layer
            else each
            for layer, each in zip(layers, found, strict=True)
        ]


def is_tuned(path: Path) -> bool:
    """Tell whether a file was written by `write`; only its header is read."""
    return _metadata(path) is not None


def record_of(file: Path | WeightsFile) -> dict[str, Any]:
    """Read what a fine-tuned file says of itself.

    Returns
    -------
    dict
        ``backbone``, ``blueprint``, ``embedding`` and ``training``.

    Raises
    ------
    AsdError
        If it is none, or of a later version of this project.
    """
    text = _metadata(file)
    try:
        record: Any = parse_json(text or "")
        number = record["format"]
        complete = {"backbone", "blueprint", "embedding", "training"} <= record.keys()
    except (ValueError, TypeError, KeyError, AttributeError):
        number, complete = None, False
    if number not in (_FORMAT, _UNSEALED) or not complete:
        raise AsdError(
            f"{file} is no fine-tuned file of format {_FORMAT}, or damaged (format {number!r}); "
            "make it anew with python -m finetune.run"
        )
    return dict(record)


def write(
    path: Path,
    backbone: Tunable,
    embedding: Embedding,
    pooling: StatisticsPooling | None,
    training: Mapping[str, Any],
) -> None:
    """Write a model to a file, whole or not at all.

    Parameters
    ----------
    path
        Ends in ``.safetensors``.
    backbone
        With the trained network; projections that were laid apart are together again.
    embedding, pooling
        What was trained on top of it.
    training
        How it was made, as JSON.
    """
    network = backbone.trainable.network
    tensors = _prefixed(network, _NETWORK)
    if pooling is not None:
        tensors |= _prefixed(pooling, _POOLING)
    record = {
        "format": _FORMAT,
        "backbone": backbone.spec.name,
        "blueprint": backbone.blueprint,
        "embedding": asdict(embedding),
        "training": dict(training),
    }
    record[_DIGEST] = _digest(record, tensors)
    write_atomic(path, save(tensors, {_KEY: json.dumps(record, sort_keys=True)}))


def load(name: str, source: Source, device: torch.device) -> FinetunedBackbone:
    """Build the model of a fine-tuned file.

    Parameters
    ----------
    name
        The backbone asked for.
    source
        Its ``weights`` are the file.
    device
        Where to compute.

    Raises
    ------
    AsdError
        If it is a fine-tuned file of another backbone, or damaged: its tensors and its record do
        not match its SHA-256, or its parts do not fit each other.
    """
    path = source.weights or Path()
    file = read_weights(path)
    record = record_of(file)
    if record["backbone"] != name:
        raise AsdError(f"{path} is a fine-tuned {record['backbone']}, not {name}")
    try:
        embedding = Embedding(**record["embedding"])
        with torch.device("meta"):  # sizes only: the file's own tensors take their places
            pooling = embedding.pooling()
        state = load_state(file)
        _check_whole(path, record, state)
        kept = ModelFile(path, file.sha256, record["blueprint"], _part(state, _NETWORK))
        backbone = backbones.find(name).rebuild(kept, device)
    except (KeyError, TypeError, AttributeError) as error:
        raise AsdError(f"{path}: its record is damaged ({error!r}); make it anew") from error
    if pooling is not None:
        load_strictly(pooling, _part(state, _POOLING), path)
        pooling = pooling.eval().to(device)
    return FinetunedBackbone(backbone, embedding, pooling)


def load_any(name: str, source: Source, device: torch.device) -> Backbone:
    """Load a network, fine-tuned where its weights say so; see `BackboneFile.load`."""
    path = source.weights
    with unchanged(str(path), lambda: [path] if path else []):
        if path is not None and is_tuned(path):
            return load(name, source, device)
        return cast(Backbone, backbones.find(name).load(source, device))


def _check_whole(path: Path, record: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse a file whose tensors or record changed since it was written."""
    if record["format"] == _UNSEALED and _DIGEST not in record:
        return
    told = {name: value for name, value in record.items() if name != _DIGEST}
    if record.get(_DIGEST) != _digest(told, state):
        raise AsdError(
            f"{path} is damaged: its tensors and record do not match their SHA-256; make it anew "
            "with python -m finetune.run"
        )


def _digest(record: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    return tensors_sha256(state, json.dumps(record, sort_keys=True))


def _metadata(file: Path | WeightsFile) -> str | None:
    path = file if isinstance(file, Path) else file.path
    if path.suffix != ".safetensors":
        return None
    try:
        if isinstance(file, WeightsFile):
            header = file.data[8 : 8 + int.from_bytes(file.data[:8], "little")]
            told = parse_json(header).get("__metadata__")
        else:
            with safetensors.safe_open(path, framework="pt") as opened:
                told = opened.metadata()
        return dict(told or {}).get(_KEY)
    except (safetensors.SafetensorError, OSError, ValueError, AttributeError, TypeError):
        return None  # whoever opens it as weights says what is wrong


def _prefixed(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    state = module.state_dict()
    return {f"{prefix}{name}": value.detach().cpu().contiguous() for name, value in state.items()}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): value for n, value in state.items() if n.startswith(prefix)}
