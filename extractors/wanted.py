"""What a command line of the extraction asks for: backbones, loaded, and the outputs of each."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch

from cache.errors import AsdError
from cache.store import Store
from extractors import choices, pooling, registry
from extractors.backbone import BackboneSpec
from extractors.extract import Extraction
from extractors.forward import Forward
from extractors.hearing import hearings
from extractors.loading import RANDOM
from extractors.output import Output
from extractors.tuned import load_any


def load_forwards(args: Namespace, device: torch.device) -> list[Forward]:
    """Load every backbone of the call and work out what is wanted of it.

    Parameters
    ----------
    args
        What `extractors.run` parsed.
    device
        Where the backbones are to compute.

    Raises
    ------
    AsdError
        If an option names something that there is not, or weights cannot be had.
    """
    names = [choices.split_name(text)[0] for text in args.backbone]
    for name in names:
        registry.find(name)  # before any of them is loaded
    accepted = args.accept_weights
    sources = [choices.source(args.weights, text, names, accepted) for text in args.backbone]
    models = [load_any(n, source, device) for n, source in zip(names, sources, strict=True)]
    forwards = [
        Forward(m, [replace(o, hearing=how) for o in _outputs(m.spec, args, names)], device)
        for m in models
        for how in hearings(args)
    ]
    if args.concat and (len(forwards) < 2 or any(len(f.outputs) > 1 for f in forwards)):
        raise AsdError("--concat joins several backbones, with one layer and one pooling of each")
    for model in models:
        if model.spec.weights == RANDOM:
            sys.stderr.write(
                f"note: {model.spec.name} has random weights: for timing, its scores mean nothing\n"
            )
    return forwards


def extraction(args: Namespace, forwards: Sequence[Forward]) -> Extraction:
    """Make the extraction that a command line asks for, of backbones loaded for it."""
    return Extraction(forwards, Store(args.cache_dir), args.batch_size, args.strict, args.longest)


def _outputs(spec: BackboneSpec, args: Namespace, names: Sequence[str]) -> list[Output]:
    layers = choices.numbers(choices.chosen(args.layers, spec.name, names), "--layers")
    layers = list(dict.fromkeys(layers)) or [spec.layer]
    unknown = sorted(set(layers) - set(spec.layers))
    if unknown:
        offered = ", ".join(map(str, spec.layers))
        raise AsdError(f"{spec.name} has no layer {unknown[0]}; it has {offered}")
    wanted = choices.chosen(args.pooling, spec.name, names) or [spec.pooling]
    poolings = [pooling.find(name, spec.tuned) for name in dict.fromkeys(wanted)]
    for layer, how in product(layers, poolings):
        if how.reduce is None and layer not in spec.native:
            own = ", ".join(map(str, spec.native)) or "none"
            raise AsdError(f"{spec.name} has no embedding of its own at layer {layer}, only: {own}")
    bands = dict.fromkeys(choices.chosen(args.bands, spec.name, names) or [spec.banding])
    strange = [text for text in bands if text not in pooling.BANDS]
    if strange:
        raise AsdError(f"--bands {strange[0]}: expected {' or '.join(pooling.BANDS)}")
    chosen = product(layers, poolings, bands)
    return [Output(spec, layer, how, which, args.dtype) for layer, how, which in chosen]
