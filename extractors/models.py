"""What an extraction is asked for: backbones, loaded, and the outputs of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from cache.base.errors import AsdError, needed
from extractors import choices, pooling, registry
from extractors.audio.hearing import hearings
from extractors.backbone import RANDOM, ArrayBackbone, Backbone, BackboneSpec, Source
from extractors.device import Device, Processor
from extractors.embedder import Forward
from extractors.output import Output
from extractors.request import ExtractRequest

_LOG = logging.getLogger(__name__)


def load_model(name: str, source: Source, device: str) -> tuple[Backbone | ArrayBackbone, Device]:
    """Load a backbone, fine-tuned where its weights say so; torch only where it needs that.

    Parameters
    ----------
    name, source
        Which, with which parameters.
    device
        Where it is to compute, as on the command line; a front end in NumPy does on the processor.

    Raises
    ------
    AsdError
        As `BackboneFile.load`; if there is no such device; if torch is needed and not installed.
    """
    module = registry.find(name)
    light = getattr(module, "without_torch", None)
    if light is not None and light(source) and device in ("auto", "cpu"):
        where: Device = Processor()
        return module.load(source, where), where
    try:
        from extractors.device import find_device  # noqa: PLC0415 (an extra, and two seconds)
        from extractors.finetuned import load_any  # noqa: PLC0415

        where = find_device(device)
    except ImportError as error:
        raise needed(
            f"backbone {name}" if device in ("auto", "cpu") else f"--device {device}", error
        ) from error
    if light is not None and light(source):
        where = Processor()
        return module.load(source, where), where
    return load_any(name, source, where), where


def load_forwards(request: ExtractRequest) -> list[Forward]:
    """Load every backbone of the call on its device and work out what is wanted of it.

    Parameters
    ----------
    request
        What is wanted.

    Raises
    ------
    AsdError
        If an option names something that there is not, or weights cannot be had.
    """
    names = [choices.split_name(text)[0] for text in request.backbone]
    for name in names:
        registry.find(name)  # before any of them is loaded
    accepted = request.accept_weights
    sources = [choices.source(request.weights, text, names, accepted) for text in request.backbone]
    models = [load_model(name, source, request.device) for name, source in zip(names, sources, strict=True)]
    forwards = [
        Forward(m, [replace(o, hearing=how) for o in _outputs(m.spec, request, names)], device)
        for m, device in models
        for how in hearings(request.heard)
    ]
    if request.concat and (len(forwards) < 2 or any(len(f.outputs) > 1 for f in forwards)):
        raise AsdError("--concat joins several backbones, with one layer and one pooling of each")
    for model, _ in models:
        if model.spec.weights == RANDOM:
            _LOG.info("%s has random weights: for timing, its scores mean nothing", model.spec.name)
    return forwards


def _outputs(spec: BackboneSpec, request: ExtractRequest, names: Sequence[str]) -> list[Output]:
    layers = choices.numbers(choices.chosen(request.layers, spec.name, names), "--layers")
    layers = list(dict.fromkeys(layers)) or [spec.layer]
    unknown = sorted(set(layers) - set(spec.layers))
    if unknown:
        offered = ", ".join(map(str, spec.layers))
        raise AsdError(f"{spec.name} has no layer {unknown[0]}; it has {offered}")
    wanted = choices.chosen(request.pooling, spec.name, names) or [spec.pooling]
    poolings = [pooling.find(name, spec.tuned) for name in dict.fromkeys(wanted)]
    for layer, how in product(layers, poolings):
        if how.reduce is None and layer not in spec.native:
            own = ", ".join(map(str, spec.native)) or "none"
            raise AsdError(f"{spec.name} has no embedding of its own at layer {layer}, only: {own}")
    bands = dict.fromkeys(choices.chosen(request.bands, spec.name, names) or [spec.banding])
    strange = [text for text in bands if text not in pooling.BANDS]
    if strange:
        raise AsdError(f"--bands {strange[0]}: expected {' or '.join(pooling.BANDS)}")
    chosen = product(layers, poolings, bands)
    return [Output(spec, layer, how, which, request.dtype) for layer, how, which in chosen]
