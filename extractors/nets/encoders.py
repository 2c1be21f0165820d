"""Audio encoders of transformers: their hidden states, as frames over time and frequency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from cache.base.errors import AsdError

AST = "audio-spectrogram-transformer"
CLAP = "clap"
PE_AUDIO = "pe_audio_encoder"
_HEARS = ("input_values", "input_features")  # main inputs of models that take sound


@dataclass(frozen=True)
class Encoder:
    """What turns a feature extractor's output into hidden states.

    Attributes
    ----------
    network
        What is called, by keyword.
    stack
        Its layers; the state before the first is layer 0.
    dim, bands
        Channels and frequency bands of the topmost state.
    arrange
        A state and its layer to (B, time, band, C).
    native
        The output to the model's own embedding (B, D); ``None`` where there is none.
    beside
        What `native` needs beside `network`.
    """

    network: nn.Module
    stack: nn.ModuleList
    dim: int
    bands: int
    arrange: Callable[[Tensor, int], Tensor]
    native: Callable[[Any], Tensor] | None = None
    beside: nn.Module | None = None

    @property
    def whole(self) -> nn.Module:
        """All parameters."""
        if self.beside is None:
            return self.network
        return nn.ModuleDict({"network": self.network, "beside": self.beside})

    def __post_init__(self) -> None:
        for number, layer in enumerate(self.stack):
            layer.register_forward_pre_hook(partial(_note, number), with_kwargs=True)


class _EnoughError(Exception):
    """Nothing further up is wanted."""


@dataclass(frozen=True)
class _Taps:
    """Which layers one call wants, and what it has found of them."""

    layers: frozenset[int]
    found: dict[int, Tensor]


# Of the thread that asks: several may call one network at the same time.
_TAPS: ContextVar[_Taps | None] = ContextVar("taps", default=None)


def _note(layer: int, _: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Take down what a layer is given, and stop where nothing further up is wanted."""
    request = _TAPS.get()
    if request is not None and layer in request.layers:
        request.found[layer] = args[0] if args else named["hidden_states"]
        if layer == max(request.layers):
            raise _EnoughError


def hidden_states(
    encoder: Encoder, inputs: Mapping[str, Tensor], layers: Sequence[int]
) -> tuple[dict[int, Tensor], Any]:
    """Compute the states of several layers, and nothing above the highest.

    Parameters
    ----------
    encoder
        The model.
    inputs
        By name, as its feature extractor calls them.
    layers
        From 0, what the first layer is given, to ``len(stack)``, the model's last hidden state,
        after whatever normalisation follows the last layer.

    Returns
    -------
    dict
        Layer to state.
    object
        The whole output; ``None`` where the top was not asked for.
    """
    request, output = _Taps(frozenset(layers), {}), None
    token = _TAPS.set(request)
    try:
        with suppress(_EnoughError):
            output = encoder.network(**inputs)
    finally:
        _TAPS.reset(token)
    if output is not None:
        request.found[len(encoder.stack)] = output.last_hidden_state
    return request.found, output


def parts(config: Any) -> tuple[str, ...]:
    """Return beginnings of the names of the parameters that embedding a clip needs."""
    if config.model_type == CLAP:
        return ("audio_model.", "audio_projection.")
    return ("encoder.",) if config.is_encoder_decoder else ("",)


def encoder_of(model: Any, name: str) -> Encoder:
    """Find the audio encoder in a model of transformers.

    Parameters
    ----------
    model
        Of a bare class: AST, CLAP, an encoder, or an encoder with a decoder.
    name
        For the message.

    Raises
    ------
    AsdError
        If it takes no sound, or is no stack of layers.
    """
    config = model.config
    if config.model_type == CLAP:
        return _clap(model)
    if config.model_type == AST:
        return ast_encoder(model)
    if config.model_type == PE_AUDIO:  # a class token stands in front of the frames, but for the output
        top = len(model.layers)
        return Encoder(
            model,
            model.layers,
            config.hidden_size,
            1,
            lambda state, layer: (state if layer == top else state[:, 1:])[:, :, None],
            lambda output: output.pooler_output,
        )
    network = model.get_encoder() if config.is_encoder_decoder else model
    stack = _stack(network)
    if network.main_input_name not in _HEARS or stack is None:
        raise AsdError(
            f"{name} is a {type(model).__name__}, which is no audio encoder of layers; hf takes "
            "wav2vec2 and its kin, Whisper, CLAP, AST and the like"
        )
    width = config.output_hidden_size if getattr(config, "add_adapter", False) else None
    return Encoder(network, stack, width or config.hidden_size, 1, lambda state, _: state[:, :, None])


def ast_encoder(model: Any) -> Encoder:
    """Read an Audio Spectrogram Transformer: a grid of patches behind two tokens of its own."""
    bands, _ = model.embeddings.get_shape(model.config)
    return Encoder(
        model,
        model.layers,
        model.config.hidden_size,
        bands,
        lambda state, _: patches(state, bands),
        lambda output: output.pooler_output,
    )


def patches(tokens: Tensor, bands: int) -> Tensor:
    """Lay AST's tokens out.

    Parameters
    ----------
    tokens
        (B, 2 + band x time, C): classification, distillation, then band after band.
    bands
        Rows of patches.

    Returns
    -------
    Tensor
        (B, time, band, C).
    """
    batch, _, channels = tokens.shape
    return tokens[:, 2:].reshape(batch, bands, -1, channels).transpose(1, 2)


def _clap(model: Any) -> Encoder:
    """CLAP's audio tower, a Swin transformer on a spectrogram folded to a square."""
    tower, projection = model.audio_model.audio_encoder, model.audio_projection

    def arrange(state: Tensor, layer: int) -> Tensor:
        if layer == len(tower.layers):  # (B, C, band, time), unfolded by the model
            return state.permute(0, 3, 2, 1)
        # (B, folds x band x time, C): time is cut into folds that stand on top of each other.
        height, width = tower.input_resolutions[layer]
        folds = tower.freq_ratio
        folded = state.reshape(len(state), folds, height // folds, width, -1)
        return folded.transpose(2, 3).flatten(1, 2)

    bands = tower.input_resolutions[-1][0] // tower.freq_ratio
    return Encoder(
        model.audio_model,
        tower.layers,
        tower.num_features,
        bands,
        arrange,
        lambda output: nn.functional.normalize(projection(output.pooler_output)),
        projection,
    )


def _stack(network: Any) -> nn.ModuleList | None:
    """Find the list of as many layers as the configuration says; convolutions are called other."""
    count = getattr(network.config, "num_hidden_layers", None)
    for name, module in network.named_modules():
        is_layers = name.split(".")[-1] in ("layers", "layer")
        if is_layers and isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return None
