"""What an extraction is asked for: backbones, loaded, and the outputs of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

from cache.base.errors import AsdError, needed
from cache.files.places import here
from cache.recipe import NETWORK, Recipe, Setting
from extractors import backbones, pooling
from extractors.audio.hearing import Hearing, hearing_of, hearings
from extractors.backbone import RANDOM, ArrayBackbone, Backbone, BackboneSpec, Source
from extractors.device import Device, Processor
from extractors.embedding.embedder import Forward, Output
from extractors.request import AUTO, DTYPES, GRAPHS, INT8, LOCAL, ExtractRequest
from extractors.weights.published import published

RANDOM_SEED = 0  # of `--weights random`
_USUAL = (DTYPES[0], LOCAL, "")  # of what `NETWORK` names


def chosen(values: Sequence[str], name: str, names: Sequence[str]) -> list[str]:
    """Pick what an option says of one backbone.

    Parameters
    ----------
    values
        ``VALUE``, meant for every backbone, or ``NAME=VALUE``. Only a backbone's name counts as
        one: a value may hold ``=`` itself.
    name
        The backbone.
    names
        All of this call.

    Returns
    -------
    list of str
        Its own values where there are any, else the common ones.

    Raises
    ------
    AsdError
        If a value is meant for a backbone that this call does not have.
    """
    own, common = [], []
    for value in values:
        before, equals, after = value.partition("=")
        if equals and before in backbones.names():
            if before not in names:
                raise AsdError(f"{value} is meant for {before}, this call has {', '.join(names)}")
            own += [after] if before == name else []
        else:
            common.append(value)
    return own or common


def source_of(values: Sequence[str], text: str, names: Sequence[str], accepted: Sequence[str] = ()) -> Source:
    """Read ``--weights`` for one backbone.

    Parameters
    ----------
    values
        ``FILE``, ``NAME=FILE``, ``random`` or ``NAME=random``.
    text
        The backbone as named in the call, with its variant.
    names
        The names of this call.
    accepted
        Files, by their SHA-256, that need not be what is published under their names.

    Raises
    ------
    AsdError
        If two files are meant for one backbone, or one for several.
    """
    name, variant = backbones.split_name(text)
    files = chosen(values, name, names)
    if files == ["random"]:
        return Source(variant, seed=RANDOM_SEED)
    shared = [file for file in files if file in values and file != "random"]
    if shared and len(names) > 1:
        raise AsdError(
            f"--weights {shared[0]}: of {len(names)} backbones, say which it is for: "
            f"--weights {names[0]}={shared[0]}"
        )
    if len(files) > 1:
        raise AsdError(f"--weights: {name} takes one file, given are {', '.join(files)}")
    sums = tuple(sha256.lower() for sha256 in accepted)
    return Source(variant, here(files[0]) if files else None, accepted=sums)


def numbers(values: Sequence[str], option: str) -> list[int]:
    """Read whole numbers.

    Raises
    ------
    AsdError
        If one is not.
    """
    wrong = [value for value in values if not value.isdigit()]
    if wrong:
        raise AsdError(f"{option} {wrong[0]}: expected a whole number, or NAME=NUMBER")
    return [int(value) for value in values]


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
    module = backbones.find(name)
    light = getattr(module, "without_torch", None)
    if light is not None and light(source) and device in ("auto", "cpu"):
        where: Device = Processor()
        return module.load(source, where), where
    try:
        from extractors.device import find_device  # noqa: PLC0415 (an extra, and two seconds)
        from extractors.embedding.finetuned import load_any  # noqa: PLC0415

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
    names = [backbones.split_name(text)[0] for text in request.backbone]
    for name in names:
        backbones.find(name)  # before any of them is loaded
    accepted = request.accept_weights
    sources = [source_of(request.weights, text, names, accepted) for text in request.backbone]
    where = "cpu" if request.engine in GRAPHS else request.device
    models = [load_model(name, source, where) for name, source in zip(names, sources, strict=True)]
    forwards = [
        Forward(
            run_by(m, request.engine),
            [replace(o, hearing=how) for o in _outputs(m.spec, request, names)],
            device,
        )
        for m, device in models
        for how in hearings(request.heard)
    ]
    for model, _ in models:
        if model.spec.weights == RANDOM:
            _LOG.info("%s has random weights: for timing, its scores mean nothing", model.spec.name)
    return forwards


def _outputs(spec: BackboneSpec, request: ExtractRequest, names: Sequence[str]) -> list[Output]:
    layers = numbers(chosen(request.layers, spec.name, names), "--layers")
    layers = list(dict.fromkeys(layers)) or [spec.layer]
    unknown = sorted(set(layers) - set(spec.layers))
    if unknown:
        offered = ", ".join(map(str, spec.layers))
        raise AsdError(f"{spec.name} has no layer {unknown[0]}; it has {offered}")
    wanted = chosen(request.pooling, spec.name, names) or [spec.pooling]
    poolings = [pooling.find(name, spec.tuned) for name in dict.fromkeys(wanted)]
    for layer, how in product(layers, poolings):
        if how.reduce is None and layer not in spec.native:
            own = ", ".join(map(str, spec.native)) or "none"
            raise AsdError(f"{spec.name} has no embedding of its own at layer {layer}, only: {own}")
    bands = dict.fromkeys(chosen(request.bands, spec.name, names) or [spec.banding])
    strange = [text for text in bands if text not in pooling.BANDS]
    if strange:
        raise AsdError(f"--bands {strange[0]}: expected {' or '.join(pooling.BANDS)}")
    combinations = product(layers, poolings, bands)
    # Of what is still to be measured or calibrated, the request names the wish, not yet the format.
    dtype = DTYPES[0] if request.dtype in (AUTO, INT8) else request.dtype
    return [
        Output(spec, layer, how, which, dtype, engine=request.engine) for layer, how, which in combinations
    ]


def run_by(
    backbone: Backbone | ArrayBackbone, engine: str, calibration: str = ""
) -> Backbone | ArrayBackbone:
    """Have an engine run a backbone's network; see `extractors.embedding.graphs.GraphBackbone`."""
    if engine not in GRAPHS:
        return backbone
    from extractors.embedding.graphs import GraphBackbone  # noqa: PLC0415 (extras)

    return GraphBackbone(backbone, engine, calibration)


def recipe_forwards(recipe: Recipe, weights: Sequence[str], device: str = "cpu") -> list[Forward]:
    """Load the models that a recipe was made with, each once.

    Parameters
    ----------
    recipe
        What a bank scores; a concatenation is made backbone by backbone.
    weights
        Checkpoints of the backbones that need one: ``FILE`` or ``NAME=FILE``. A published one is
        known by the recipe's hash and need not be given.
    device
        Where they compute.

    Raises
    ------
    AsdError
        If this installation cannot repeat the recipe, or weights are not to be had.
    """
    models: dict[tuple[str, str | None, Hearing, tuple[Setting, ...]], list[Recipe]] = {}
    for parent in recipe.parents or (recipe,):
        settings = dict(parent.settings)  # which model of the hub, or which variant
        named = f"{settings['model']}@{settings['revision']}" if "model" in settings else ""
        model = (
            f"{parent.backbone}:{named or settings.get('variant', '')}",
            parent.weights,
            hearing_of(parent),
            tuple(settings.get(n, "") for n in NETWORK),
        )
        models.setdefault(model, []).append(parent)
    # A plain FILE is clear where only one backbone has weights.
    names = list(dict.fromkeys(p.backbone for p, *_ in models.values() if p.weights))
    forwards = []
    for (text, sha256, *_), recipes in models.items():
        given = ["random"] if sha256 == RANDOM else weights if sha256 else ()
        source = source_of(given, text, names)
        if sha256 is not None and source.seed is None:
            # The very file that the recipe names, whatever is published under its name.
            checkpoint = published(sha256)
            if source.weights is None and checkpoint is not None and checkpoint.urls:
                source = replace(source, weights=Path(checkpoint.name))
            source = replace(source, accepted=(sha256,))
        forwards.append(_forward(recipes, source, device))
    return forwards


def _forward(recipes: Sequence[Recipe], source: Source, device: str) -> Forward:
    """Load the model of recipes that differ in layer, pooling and bands only."""
    settings = dict(recipes[0].settings)
    dtype, engine, calibration = (str(settings.get(n, d)) for n, d in zip(NETWORK, _USUAL, strict=True))
    plain, where = load_model(recipes[0].backbone, source, "cpu" if engine in GRAPHS else device)
    backbone = run_by(plain, engine, calibration)
    outputs = []
    for recipe in recipes:
        how = pooling.find(str(recipe.pooling), backbone.spec.tuned)
        layer, bands = int(recipe.layer or 0), str(recipe.bands)
        outputs.append(
            Output(backbone.spec, layer, how, bands, dtype, hearing_of(recipe), engine, calibration)
        )
        ours = outputs[-1].recipe
        pairs = [(item.name, getattr(ours, item.name), getattr(recipe, item.name)) for item in fields(Recipe)]
        differing = [f"{name} {one!r} instead of {two!r}" for name, one, two in pairs if one != two]
        if differing:
            raise AsdError(
                f"this installation makes other embeddings than the bank's ({recipe}): "
                f"{'; '.join(differing)}; install the versions the bank was built with, give its "
                "--weights, or build the bank anew"
            )
    return Forward(backbone, outputs, where)
