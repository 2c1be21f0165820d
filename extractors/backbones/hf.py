"""Any audio encoder of transformers: ``hf:ID[@REVISION]`` of the hub, or ``hf:FOLDER``.

wav2vec2, HuBERT, WavLM, data2vec-audio and their kin, Whisper's encoder, CLAP's audio tower, AST,
PE-Audio's encoder and whatever else is a stack of layers behind a feature extractor. The model hears
what its own extractor makes of a clip, one clip at a time; its code is transformers' own, never the
hub's, and only safetensors are opened.

Layer 0 is what the first layer is given, the highest the model's output after its last
normalisation; it is the default, because the other layers' scales differ from model to model. A
model that pads a clip to a fixed length is heard as it is used: Whisper's frames behind the end of
the clip are silence and are dropped, CLAP repeats a clip until it fills 10 s and AST's grid of
patches is fixed, so theirs all stay. Longer clips are heard in windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from cache.base.errors import AsdError
from cache.recipe import Setting
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
from extractors.device import transformers
from extractors.nets.encoders import AST, Encoder, encoder_of, hidden_states, parts
from extractors.weights.hub import Folder, locate
from extractors.weights.loading import load_strictly, random_parameters
from extractors.weights.pretrained import (
    Reading,
    as_json,
    build_extractor,
    build_model,
    load_config,
    load_extractor,
    load_model,
    readable,
)

_SECONDS = 60  # heard in one piece by a model that takes any length
CLAP_AUDIO = "clap_audio_model"
# What models of transformers call their projections of queries and values.
_QUERY_AND_VALUE = {"q_proj", "v_proj", "query", "value"}
_MASK = ("masked_spec_embed",)  # what training puts in the place of masked frames


class Hf(NetworkBackbone):
    """An audio encoder of transformers as a backbone.

    Parameters
    ----------
    encoder
        With its weights, for inference, on its device.
    extractor
        The model's own feature extractor.
    config
        Of the whole model.
    spec
        Facts of the model.
    """

    def __init__(self, encoder: Encoder, extractor: Any, config: Any, spec: BackboneSpec) -> None:
        self.spec = spec
        self._config = config
        self.network: Any = encoder.network
        self._encoder = encoder
        self._extractor = extractor

    def inputs(self, waveforms: Tensor) -> Inputs:
        """Run the extractor on the CPU; clips of one length share what padding it appends."""
        clips = list(waveforms.cpu().numpy())
        rate = self.spec.sample_rate
        made = self._extractor(clips, sampling_rate=rate, return_tensors="pt")
        values, mask = made[self.network.main_input_name], made.get("attention_mask")
        if mask is not None and mask.shape[1] == values.shape[1]:
            values = values[:, : int(mask[0].sum())]
        moved = values.to(waveforms.device, torch.float32)
        return Inputs(moved, waveforms.shape[1], *self._axes(moved))

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        """Compute (B, time, band, C) states; see `Tunable.states`."""
        named = {str(self.network.main_input_name): inputs.values}
        if self.network.config.model_type == CLAP_AUDIO:
            # Its extractor calls a clip longer than it hears at random; none is.
            shape = (len(inputs.values), 1)
            named["is_longer"] = torch.zeros(shape, dtype=torch.bool, device=inputs.values.device)
        states, output = hidden_states(self._encoder, named, layers)
        # Frames behind the end of a clip that the extractor filled up with silence are dropped.
        full, found = getattr(self._extractor, "n_samples", None), []
        for n in layers:
            frames = self._encoder.arrange(states[n], n)
            heard = math.ceil(frames.shape[1] * inputs.samples / full) if full else None
            own = self._encoder.native(output) if self._encoder.native and n in self.spec.native else None
            found.append(Features(frames[:, :heard], own))
        return found

    @property
    def trainable(self) -> Trainable:
        """What can be trained; adapters join the queries and the values (Hu et al. 2021)."""
        whole, stack = self._encoder.whole, self._encoder.stack
        name = next(name for name, module in whole.named_modules() if module is stack)
        blocks = [(f"{name}.{number}.",) for number in range(len(stack))]
        others = {n for n, _ in whole.named_parameters() if not n.startswith(f"{name}.")}
        ends = {n.split(".")[-1] for n, _ in whole.named_modules()}
        lora = tuple(sorted(ends & _QUERY_AND_VALUE))
        return Trainable(whole, (tuple(sorted(others)), *blocks), lora)

    @property
    def blueprint(self) -> dict[str, Any]:
        """The configurations of the model and its extractor, and which model it was."""
        return {
            "config": as_json(self._config),
            "extractor": as_json(self._extractor),
            "settings": dict(self.spec.settings),
        }

    def _axes(self, values: Tensor) -> tuple[int, int] | tuple[None, None]:
        """Time and frequency of a spectrogram: the axis as long as there are bands is frequency."""
        bands = getattr(self._extractor, "num_mel_bins", None) or self._extractor.feature_size
        last = values.ndim - 1
        if last < 2 or bands == 1 or bands not in values.shape[-2:]:
            return None, None
        return (last - 1, last) if values.shape[last] == bands else (last, last - 1)


def load(source: Source, device: torch.device) -> Hf:
    """Load a model of the hub or of a folder; see `BackboneFile.load`."""
    if not source.variant and source.weights is None:
        raise AsdError("hf needs a model: --backbone hf:OWNER/NAME[@REVISION] or hf:FOLDER")
    folder = locate("hf", source)
    major = ("transformers", int(version("transformers").split(".")[0]))
    with folder.steady():
        config, extractor = load_config(folder), load_extractor(folder)
        if source.seed is None:
            model: Any = load_model(folder, "AutoModel", Reading(parts(config), optional=_MASK))
        else:
            model = random_parameters(lambda: _build(folder, config), source.seed).eval()
        encoder = encoder_of(model.to(device), folder.name)
        weights = RANDOM if source.seed is not None else folder.weights_sha256()
        settings: tuple[tuple[str, Setting], ...] = (("config", folder.config_sha256()), major)
        if folder.model:
            settings = (("model", folder.model), ("revision", folder.revision), major)
        return Hf(encoder, extractor, config, _spec(encoder, extractor, settings, weights))


def rebuild(kept: ModelFile, device: torch.device) -> Hf:
    """Build the model of a fine-tuned file; see `BackboneFile.rebuild`."""
    model, extractor = build_model(kept, "AutoModel"), build_extractor(kept)
    encoder = encoder_of(model.to(device), str(kept.path))
    load_strictly(encoder.whole, kept.state, kept.path)
    settings = tuple(kept.blueprint["settings"].items())
    spec = _spec(encoder, extractor, settings, kept.sha256)
    return Hf(encoder, extractor, model.config, spec)


def _build(folder: Folder, config: Any) -> Any:
    with readable(folder):
        return transformers().AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)


def _spec(
    encoder: Encoder, extractor: Any, settings: tuple[tuple[str, Setting], ...], weights: str
) -> BackboneSpec:
    top = len(encoder.stack)
    return BackboneSpec(
        name="hf",
        sample_rate=extractor.sampling_rate,
        layers=tuple(range(top + 1)),
        layer=top,
        dim=encoder.dim,
        bands=encoder.bands,
        min_samples=max(_span(encoder.network.config), extractor.sampling_rate // 40),
        max_samples=_longest(encoder, extractor),
        pooling="mean",
        native=(top,) if encoder.native else (),
        batch={"cpu": 1, "cuda": 32},
        weights=weights,
        settings=settings,
    )


def _span(config: Any) -> int:
    """Count the samples that one frame's convolutions on a waveform span."""
    span = 1
    if hasattr(config, "conv_kernel") and hasattr(config, "conv_stride"):
        steps = zip(config.conv_kernel, config.conv_stride, strict=True)
        for kernel, stride in reversed(list(steps)):
            span = (span - 1) * stride + kernel
    return span


def _longest(encoder: Encoder, extractor: Any) -> int:
    """Count the samples that the extractor takes without cutting any off."""
    config: Any = encoder.network.config
    if config.model_type == AST:  # Kaldi's frames of 25 ms, one each 10 ms
        hop, window = (extractor.sampling_rate * ms // 1000 for ms in (10, 25))
        return int(window + hop * extractor.max_length - 1)
    for name in ("n_samples", "nb_max_samples"):
        if hasattr(extractor, name):
            return int(getattr(extractor, name))
    return int(_SECONDS * extractor.sampling_rate)
