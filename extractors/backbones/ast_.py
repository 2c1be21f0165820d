"""AST (Gong et al. 2021, arXiv 2104.01778): a transformer on patches of a log-mel spectrogram.

Transformers' ``ASTModel`` with fused attention. The weights of AudioSet are the default, by their
id and revision on the hub; ``ast:ID[@REVISION]``, ``ast:FOLDER`` or ``--weights FOLDER`` name
others. Input as in training: 16 kHz in [-1, 1], 128 Kaldi mel bands in Hann windows of 25 ms, zeros
behind a shorter clip up to 1024 frames, then ``(x + 4.2677393) / (2 * 4.5689974)``.

A clip up to 10.26 s is heard whole, zeros included: its frames are always all 101 x 12. A longer
one would be cut off by the official feature extractor; here it is heard in overlapping windows.
The default is the mean over the patches of the top layer: they describe all of the sound, where the
two tokens (pooling ``native``) were trained for AudioSet's classes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cache.base.errors import AsdError
from extractors.backbone import (
    RANDOM,
    BackboneSpec,
    Features,
    Inputs,
    ModelFile,
    NetworkBackbone,
    Source,
    Trainable,
)
from extractors.device import portions, transformers
from extractors.nets.encoders import AST as TYPE
from extractors.nets.encoders import ast_encoder, hidden_states
from extractors.nets.melspectrogram import KaldiFbank
from extractors.nets.vit import ATTENTION
from extractors.weights.hub import Folder, locate
from extractors.weights.loading import load_strictly, random_parameters
from extractors.weights.pretrained import (
    Reading,
    as_json,
    build_model,
    load_config,
    load_extractor,
    load_model,
    readable,
)
from extractors.weights.published import AST, AST_MODEL, AST_REVISION

_MEAN, _STD = -4.2677393, 4.5689974  # of log mel on AudioSet, Gong et al. 2021, section 3.1
_HEAD = ("classifier.",)  # of AudioSet's 527 classes
# What of a configuration moves the numbers; the rest shows in the parameters' shapes.
_GEOMETRY = ("frequency_stride", "hidden_act", "layer_norm_eps", "max_length",
             "num_attention_heads", "num_mel_bins", "patch_size", "time_stride")  # fmt: skip


class Spectrogram(nn.Module):
    """The model's input: a log-mel spectrogram of fixed length.

    Parameters
    ----------
    frames
        Its length.
    mean, std
        Of the training data: the input is ``(x - mean) / (2 std)``.
    """

    def __init__(self, frames: int, mean: float, std: float) -> None:
        super().__init__()
        self.frames, self.mean, self.std = frames, mean, std
        self.bank = KaldiFbank("hanning")

    def forward(self, waveforms: Tensor) -> Tensor:
        """Compute (B, frames, 128) float32 from (B, T) in [-1, 1] at 16 kHz, T >= 400."""
        mel: Tensor = self.bank(waveforms)[:, : self.frames]
        padded = nn.functional.pad(mel, (0, 0, 0, self.frames - mel.shape[1]))
        return padded.sub_(self.mean).div_(2 * self.std)


class Ast(NetworkBackbone):
    """An Audio Spectrogram Transformer as a backbone.

    Layers are counted as in ``hidden_states``; the highest is the model's output, after its last
    normalisation, lower ones are what the next layer is given. ``native`` is the mean of the
    classification and the distillation token, at the top the model's ``pooler_output``.

    Parameters
    ----------
    network
        ``ASTModel`` with its weights, for inference.
    frontend
        Waveform to its input.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    """

    def __init__(self, network: Any, frontend: Spectrogram, device: torch.device, weights: str) -> None:
        self.network = network.to(device)
        self._frontend = frontend.to(device)
        self._encoder = ast_encoder(self.network)
        layers = tuple(range(1, len(network.layers) + 1))
        geometry = {name: getattr(network.config, name) for name in _GEOMETRY}
        self.spec = BackboneSpec(
            name="ast",
            sample_rate=KaldiFbank.RATE,
            layers=layers,
            layer=layers[-1],
            dim=self._encoder.dim,
            bands=self._encoder.bands,
            min_samples=KaldiFbank.WINDOW,
            # One sample more would make another frame.
            max_samples=KaldiFbank.WINDOW + KaldiFbank.HOP * frontend.frames - 1,
            pooling="mean",
            native=layers,
            batch={"cpu": 1, "cuda": 32},
            weights=weights,
            settings=tuple((geometry | {"mean": frontend.mean, "std": frontend.std}).items()),
        )

    kernels = ATTENTION

    def use(self, kernel: str) -> None:
        """Compute attention in one of the ways; see `Kernels`."""
        names = dict(zip(ATTENTION, ("sdpa", "eager"), strict=True))
        self.network.set_attn_implementation(names[kernel or ATTENTION[0]])

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the normalised filter bank (B, frames, 128)."""
        return Inputs(self._frontend(waveforms), waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) patches; see `Tunable.states`.

        One clip at a time on a CPU, as in `extractors.backbones.beats`.
        """
        parts = [
            hidden_states(self._encoder, {"input_values": p}, layers)[0] for p in portions(inputs.values)
        ]
        states = {n: torch.cat([part[n] for part in parts]) for n in layers}  # (B, tokens, C) each
        return [Features(self._encoder.arrange(states[n], n), states[n][:, :2].mean(1)) for n in layers]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the queries and the values (Hu et al. 2021)."""
        layers: list[tuple[str, ...]] = [(f"layers.{layer - 1}.",) for layer in self.spec.layers]
        layers[-1] = (*layers[-1], "layernorm.")
        return Trainable(self.network, (("embeddings.",), *layers), ("q_proj", "v_proj"))

    @property
    def blueprint(self) -> dict[str, Any]:
        """The model's configuration and the front end's figures."""
        frontend = self._frontend
        input_ = {"frames": frontend.frames, "mean": frontend.mean, "std": frontend.std}
        return {"config": as_json(self.network.config), "input": input_}


def load(source: Source, device: torch.device) -> Ast:
    """Load AST of the hub or of a folder, or with random parameters; see `BackboneFile.load`."""
    if source.seed is not None and not source.variant:
        config = transformers().ASTConfig()
        return Ast(_random(config, source.seed), Spectrogram(1024, _MEAN, _STD), device, RANDOM)
    folder = locate("ast", source, f"{AST_MODEL}@{AST_REVISION}")
    with folder.steady():
        frontend = _frontend(folder)
        if source.seed is not None:
            return Ast(_random(load_config(folder), source.seed), frontend, device, RANDOM)
        sha256 = folder.weights_sha256()
        if (folder.model, folder.revision) == (AST_MODEL, AST_REVISION) and sha256 != AST.sha256:
            raise AsdError(
                f"{folder.weights()[0]} has SHA-256 {sha256}, the published file {AST.sha256}: delete "
                "it, so that it is fetched again; --weights FOLDER takes any file as it is"
            )
        return Ast(load_model(folder, "ASTModel", Reading(heads=_HEAD)), frontend, device, sha256)


def rebuild(kept: ModelFile, device: torch.device) -> Ast:
    """Build the model of a fine-tuned file; see `BackboneFile.rebuild`."""
    network = build_model(kept, "ASTModel")
    load_strictly(network, kept.state, kept.path)
    frontend = Spectrogram(**kept.blueprint["input"])
    if frontend.frames != network.config.max_length:
        raise AsdError(
            f"{kept.path}: its input has {frontend.frames} frames, its model takes "
            f"{network.config.max_length}"
        )
    return Ast(network, frontend, device, kept.sha256)


def _random(config: Any, seed: int) -> nn.Module:
    network: nn.Module = random_parameters(lambda: transformers().ASTModel(config), seed)
    return network.eval()


def _frontend(folder: Folder) -> Spectrogram:
    """Read the front end's figures, and refuse what it cannot do."""
    config, extractor = load_config(folder), load_extractor(folder)
    if config.model_type != TYPE:
        raise AsdError(f"{folder.name} is a {config.model_type}, no AST; --backbone hf takes others")
    with readable(folder):
        given = {
            "sampling_rate": (extractor.sampling_rate, KaldiFbank.RATE),
            "num_mel_bins": (extractor.num_mel_bins, KaldiFbank.MELS),
            "num_mel_bins of the model": (config.num_mel_bins, KaldiFbank.MELS),
            "max_length": (extractor.max_length, config.max_length),
        }
    for what, (value, expected) in given.items():
        if value != expected:
            raise AsdError(f"{folder.name}: {what} is {value}, and only {expected} is known to ast")
    if not extractor.do_normalize:
        return Spectrogram(extractor.max_length, 0.0, 0.5)
    return Spectrogram(extractor.max_length, extractor.mean, extractor.std)
