"""BEATs (Chen et al. 2023, arXiv 2212.09058): the strongest frozen model known for this task.

Weights: the published files ``{'cfg', 'model'}``, pre-trained or fine-tuned, MIT. Of a fine-tuned
one the encoder's tokens are taken, never the class probabilities. Input as in training: 16 kHz
scaled to 16-bit integers, 128 Kaldi mel bands, patches of 16 frames x 16 bands. The network in
PyTorch form is on no registry under the name ``beats-pytorch``; this is it.

The usual weights are ``BEATs_iter3.pt``: the file of every published frozen system but GenRep
(arXiv 2507.10264, 2509.10951, 2603.04605), and the best of its kind on the RMIS benchmark. With it
those systems take the last layer, 12, and all but the oldest keep the eight frequency bands apart
(8 x 768 values), so that is what is taken when nothing is said: on DCASE 2023 the same chain of
mean pooling reaches 60.1 / 62.4 % with bands merged (ASDKit, kNN) and 64.8 / 67.6 % with bands kept
(local density normalisation). Layer 4 is best for the fine-tuned file that GenRep uses.

OpenBEATs (Bharadwaj et al. 2025, arXiv 2507.14129, CC BY 4.0) is the same network of 90 or 300 M
parameters, trained on more than sound events; its files state the mean and the deviation of their own
filter bank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
from extractors.device import portions
from extractors.nets.beats import Beats, BeatsConfig, from_published
from extractors.nets.melspectrogram import KaldiFbank
from extractors.nets.vit import ATTENTION, lay_projections, use_attention
from extractors.weights.loading import (
    load_checkpoint,
    load_strictly,
    needed,
    random_parameters,
    sizes_only,
    tensors,
)
from extractors.weights.published import BEATS

SPEC = BackboneSpec(
    name="beats",
    sample_rate=KaldiFbank.RATE,
    layers=tuple(range(1, 13)),
    layer=12,
    dim=768,
    bands=8,
    min_samples=KaldiFbank.WINDOW + 15 * KaldiFbank.HOP,  # one patch
    max_samples=30 * KaldiFbank.RATE,  # 1496 tokens: attention grows with their square
    pooling="mean",
    banding="keep",
    tuned={"gwrp": (0.4,), "gem": (10,), "rdp": (19,), "rdp+gem": (3, 16)},  # arXiv 2603.04605
    batch={"cpu": 1, "cuda": 64},
    settings=(("mels", KaldiFbank.MELS),),
)
_SCALE = 2.0**15  # the network was trained on 16-bit integers
_MEAN, _DEVIATION = 15.41663, 6.55582  # of the training data's filter bank, dB-free log units
_UNUSED = (  # the classifier of a fine-tuned file; what lays out OpenBEATs' padding
    "predictor.", "patch_embedding_pad.", "raw2fbank_pad.",
)  # fmt: skip
_STATISTICS = ("fbank_mean", "fbank_std")  # as OpenBEATs' cfg calls them
# What the published code takes for a value that a file does not state.
_UNSTATED = BeatsConfig(
    relative_position_embedding=False, max_distance=1280, gru_rel_pos=False, deep_norm=False
)


class BeatsBackbone(NetworkBackbone):
    """Tokens of the BEATs encoder as a backbone; layers are its blocks from 1.

    Parameters
    ----------
    network
        With its weights.
    device
        Where to compute.
    weights
        SHA-256 of the checkpoint.
    statistics
        Mean and standard deviation of the filter bank in training.
    """

    def __init__(
        self,
        network: Beats,
        device: torch.device,
        weights: str,
        statistics: tuple[float, float] = (_MEAN, _DEVIATION),
    ) -> None:
        config = network.config
        layers = tuple(range(1, config.encoder_layers + 1))
        usual = statistics == (_MEAN, _DEVIATION)
        own = () if usual else tuple(zip(_STATISTICS, statistics, strict=True))
        self.spec = replace(
            SPEC,
            layers=layers,
            layer=layers[-1],
            dim=config.encoder_embed_dim,
            bands=KaldiFbank.MELS // config.patch,
            min_samples=KaldiFbank.WINDOW + (config.patch - 1) * KaldiFbank.HOP,
            weights=weights,
            settings=(*SPEC.settings, *own),
        )
        self._statistics = statistics
        self._frontend = KaldiFbank("povey").to(device)
        self.network = network.eval().to(device)

    kernels = ATTENTION

    def use(self, kernel: str) -> None:
        """Compute attention in one of the ways; see `Kernels`."""
        use_attention(self.network, kernel)

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Compute the normalised filter bank (B, frames, 128)."""
        spectrograms = self._frontend(waveforms * _SCALE)
        mean, deviation = self._statistics
        normalised = spectrograms.sub_(mean).div_(2 * deviation)
        return Inputs(normalised, waveforms.shape[1], time=1, frequency=2)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) tokens; see `Tunable.states`.

        One clip at a time through the network on a CPU: the attention of several falls out of its
        cache.
        """
        parts = [self.network(part, layers) for part in portions(inputs.values)]
        return [Features(torch.cat(tokens)) for tokens in zip(*parts, strict=True)]

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the queries and the values (Hu et al. 2021)."""
        front = ("patch_embedding.", "layer_norm.", "post_extract_proj.", "encoder.pos_conv.",
                 "encoder.layer_norm.", "encoder.relative_attention_bias.")  # fmt: skip
        layers = [(f"encoder.layers.{layer - 1}.",) for layer in self.spec.layers]
        lay = partial(lay_projections, self.network, "in_proj")
        return Trainable(
            self.network, (front, *layers), ("q_proj", "v_proj"),
            apart=lambda: lay(apart=True), together=lambda: lay(apart=False),
        )  # fmt: skip

    @property
    def blueprint(self) -> dict[str, Any]:
        """The ``cfg`` of a published file."""
        config = asdict(self.network.config)
        statistics = dict(zip(_STATISTICS, self._statistics, strict=True))
        return {"cfg": {"input_patch_size": config.pop("patch"), **config, **statistics}}


def load(source: Source, device: torch.device) -> BeatsBackbone:
    """Build the encoder of a published file; see `BackboneFile.load`."""
    if source.variant:
        raise AsdError(f"beats has no variants ({source.variant!r}): its weights file tells all")
    if source.seed is not None:
        network = random_parameters(lambda: Beats(BeatsConfig()), source.seed)
        return BeatsBackbone(network, device, RANDOM)
    file = needed(source, "beats", BEATS)
    path, content = file.path, load_checkpoint(file)
    if not isinstance(content, Mapping) or not {"cfg", "model"} <= content.keys():
        held: object = type(content).__name__
        if isinstance(content, Mapping):
            held = sorted(map(str, content))[:3]
        raise AsdError(
            f"{path} is no BEATs checkpoint: it holds {held} where 'cfg' and 'model' are "
            f"expected; bring {BEATS[0]}"
        )
    state = from_published(tensors(content["model"], path))
    network = _network(content["cfg"], state, path)
    return BeatsBackbone(network, device, file.sha256, _statistics(content["cfg"], path))


def rebuild(kept: ModelFile, device: torch.device) -> BeatsBackbone:
    """Build the encoder of a fine-tuned file; see `BackboneFile.rebuild`."""
    cfg = kept.blueprint.get("cfg")
    network = _network(cfg, kept.state, kept.path)
    return BeatsBackbone(network, device, kept.sha256, _statistics(cfg, kept.path))


def _statistics(cfg: Any, path: Path) -> tuple[float, float]:
    """Read the mean and the deviation of the filter bank, which Microsoft's files leave out."""
    mean, deviation = (cfg.get(n, u) for n, u in zip(_STATISTICS, (_MEAN, _DEVIATION), strict=True))
    if (
        not all(isinstance(value, float) and abs(value) < 1e3 for value in (mean, deviation))
        or deviation <= 0
    ):
        raise AsdError(f"{path}: cfg has a filter bank of mean {mean!r}, deviation {deviation!r}")
    return mean, deviation


def _network(cfg: object, state: Mapping[str, Tensor], path: Path) -> Beats:
    """Build what a checkpoint's ``cfg`` says, its sizes held against the tensors."""
    if not isinstance(cfg, Mapping):
        raise AsdError(f"{path}: its cfg is a {type(cfg).__name__} where a mapping is expected")
    stated = {"patch": cfg.get("input_patch_size", _UNSTATED.patch)}
    names = [field.name for field in fields(BeatsConfig) if field.name != "patch"]
    stated |= {name: cfg.get(name, getattr(_UNSTATED, name)) for name in names}
    for name, value in stated.items():
        wanted = type(getattr(_UNSTATED, name))
        if type(value) is not wanted:
            raise AsdError(f"{path}: cfg {name} is {value!r}, expected {wanted.__name__}")
    config = BeatsConfig(**stated)
    _check_sizes(config, state, path)
    with sizes_only():
        network = Beats(config)
    load_strictly(network, state, path, unused=_UNUSED)
    return network


def _check_sizes(config: BeatsConfig, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a cfg that its own tensors contradict, before any memory is taken."""
    patches = state.get("patch_embedding.weight")
    inner = state.get("encoder.layers.0.fc1.weight")
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    found = {
        "embed_dim": None if patches is None else patches.shape[0],
        "input_patch_size": None if patches is None else patches.shape[-1],
        "encoder_ffn_embed_dim": None if inner is None else inner.shape[0],
        "encoder_embed_dim": None if inner is None else inner.shape[1],
        "encoder_layers": len(layers),
    }
    stated = {name: getattr(config, name, config.patch) for name in found}
    for name, value in stated.items():
        if value != found[name]:
            raise AsdError(
                f"{path} does not fit its own cfg: {name} is {value}, its tensors have "
                f"{found[name]}; fetch it again from its publisher"
            )
    heads, width = config.encoder_attention_heads, config.encoder_embed_dim
    groups, kernel = config.conv_pos_groups, config.conv_pos
    if min(heads, groups) < 1 or width % heads or width % groups or not 0 < kernel <= 1024:
        raise AsdError(f"{path}: cfg has {heads} heads, {groups} groups, kernel {kernel}")
    if config.activation_fn not in ("gelu", "relu"):
        raise AsdError(f"{path}: cfg has activation {config.activation_fn!r}, not gelu or relu")
    if not 4 <= config.num_buckets <= 4096 or config.max_distance <= config.num_buckets // 4:
        raise AsdError(
            f"{path}: cfg has {config.num_buckets} buckets up to max_distance "
            f"{config.max_distance}; expected 4 to 4096, and a distance beyond the exact quarter"
        )
