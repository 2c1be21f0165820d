"""What an installation has, what is wrong with it, and what helps."""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cache.base.console import Console
from cache.base.errors import AsdError
from cache.base.processors import processors
from cache.files import objects
from cache.files.places import is_remote
from extractors import backbones, pooling
from extractors.backbone import RANDOM, Source
from extractors.device import torchaudio, transformers
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.formats import verdicts_in
from extractors.embedding.models import load_model
from extractors.embedding.throughput import plans_in
from extractors.fetching.download import free_space, megabytes
from extractors.fetching.offline import VARIABLE, home, is_offline
from extractors.weights.published import AST_REVISION, CHECKPOINTS, Checkpoint, path_of
from extractors.weights.store import is_intact

_PROJECT = "machine-asd"
_INSTALL = "install the project anew: pip install -c constraints.txt -e ."
_EXTRAS = ("torch", "finetune")  # whose libraries are looked at where they are installed
_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
_SECONDS = 10  # of the clip that is tried
_CONSOLE = Console()
_LITTLE = 1_000_000_000  # bytes free below which a set of embeddings may not fit


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    what, seen
        The thing and its state.
    remedy
        What helps; empty where nothing is wrong.
    """

    what: str
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        if not self.remedy:
            return f"ok     {self.what}: {self.seen}"
        return f"FAULT  {self.what}: {self.seen}\n       remedy: {self.remedy}"


def diagnose(device: str, cache_dir: Path, console: Console = _CONSOLE) -> int:
    """Look at everything and write down what was found, line by line.

    Parameters
    ----------
    device
        As on the command line.
    cache_dir
        Where embeddings are to lie.
    console
        Where it is written.

    Returns
    -------
    int
        0; 1 where something is wrong.
    """
    faults = 0
    for finding in examine(device, cache_dir):
        faults += bool(finding.remedy)
        console.made(str(finding), what=finding.what, seen=finding.seen, remedy=finding.remedy)
    told = f"faults: {faults}" if faults else "nothing is wrong"
    console.made(told, faults=faults)
    return 1 if faults else 0


def examine(device: str, cache_dir: Path) -> Iterator[Finding]:
    """Look at Python, libraries, processors, device, folders, what was measured, weights, backbones."""
    yield from installation()
    yield from _imports()
    yield Finding("processors", str(processors()))
    if find_spec("torch") is None:
        device = "cpu"
        yield Finding("device", "cpu")
    else:
        try:
            seen = _described(device)
        except AsdError as error:
            yield Finding("device", device, str(error))
            device = "cpu"
            seen = _described(device)
        yield Finding("device", seen)
    yield Finding("fetching", f"off, by {VARIABLE}" if is_offline() else "on first use")
    for what, folder in (("cache folder", cache_dir), ("folder of weights", home())):
        yield from folder_findings(what, folder)
    for kept in (plans_in(cache_dir), verdicts_in(cache_dir)):
        for key, choice in kept.items():
            yield Finding("measured", f"{key}: {choice}")
    here = [each for each in CHECKPOINTS if _is_here(each)]
    yield from _weights(here)
    for name in backbones.names():
        yield backbone_finding(name, here, device)


def installation() -> Iterator[Finding]:
    """Hold Python and the libraries against what the project asks for."""
    python = platform.python_version()
    try:
        wanted = metadata(_PROJECT)["Requires-Python"] or ""
        lines = requires(_PROJECT) or []
    except PackageNotFoundError:
        yield Finding("python", python)
        yield Finding(_PROJECT, "not installed", _INSTALL)
        return
    fits = SpecifierSet(wanted).contains(python, prereleases=True)
    yield Finding("python", python, "" if fits else f"install Python {wanted}")
    asked = [Requirement(line) for line in lines]
    yield from libraries(filter(_is_wanted, asked))


def _is_wanted(asked: Requirement) -> bool:
    """Tell whether a library must be there, or belongs to an extra and is there."""
    if not asked.marker or asked.marker.evaluate({"extra": ""}):
        return True
    if asked.name == _PROJECT or not any(asked.marker.evaluate({"extra": one}) for one in _EXTRAS):
        return False
    try:
        return bool(version(asked.name))
    except PackageNotFoundError:
        return False


def libraries(asked: Iterable[Requirement]) -> Iterator[Finding]:
    """Hold installed versions against requirements: a line for all that fit, one for each other."""
    fitting = []
    for each in asked:
        try:
            found = version(each.name)
        except PackageNotFoundError:
            yield Finding(each.name, "not installed", _INSTALL)
            continue
        if each.specifier.contains(found, prereleases=True):
            fitting.append(f"{each.name} {found}")
        else:
            yield Finding(each.name, f"{found}, where {each.specifier} is needed", _INSTALL)
    yield Finding("libraries", ", ".join(sorted(fitting)))


def folder_findings(what: str, folder: Path) -> Iterator[Finding]:
    """See whether a folder, or the one it would be made in, can be written, and how far."""
    if is_remote(folder):
        probe = folder / f".doctor-{secrets.token_hex(4)}"
        try:
            objects.put(probe, b"0")
            objects.remove(probe)
        except AsdError as error:
            yield Finding(what, str(error), "choose a place that can be written")
        else:
            yield Finding(what, f"{folder}, can be written")
        return
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=there) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        yield Finding(what, f"{folder}: {error.strerror}", "choose a folder that can be written")
        return
    free = free_space(folder)
    seen = f"{folder}, can be written, {megabytes(free)} free"
    yield Finding(what, seen, "free space, or choose another folder" if free < _LITTLE else "")


def backbone_finding(name: str, here: Iterable[Checkpoint], device: str) -> Finding:
    """Put a clip through a backbone, with weights that are here or else random ones.

    Parameters
    ----------
    name
        Of the registry.
    here
        Checkpoints at hand.
    device
        Where to compute.
    """
    own = next((each for each in here if each.backbone == name), None)
    source = Source(seed=0)
    if own is not None:
        source = Source() if own.model else Source(weights=path_of(own))
    try:
        light = getattr(backbones.find(name), "without_torch", None)
        if light is not None and light(Source()):
            source = Source()
        return Finding(f"backbone {name}", _timed(name, source, device))
    except AsdError as error:
        if own is None:
            return Finding(f"backbone {name}", f"not tried: {error}")
        return Finding(f"backbone {name}", "does not work", str(error))
    except Exception as error:  # noqa: BLE001  whatever breaks it is what is looked for
        reason = (str(error).splitlines() or [""])[0]
        return Finding(f"backbone {name}", f"{type(error).__name__}: {reason}", _INSTALL)


def _timed(name: str, source: Source, device: str) -> str:
    backbone, where = load_model(name, source, device)
    spec = backbone.spec
    output = Output(spec, spec.layer, pooling.find(spec.pooling, spec.tuned), spec.banding)
    forward = Forward(backbone, [output], where)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, _SECONDS * spec.sample_rate))
    samples = noise.astype(np.float32)
    forward(samples)  # the first pass prepares what later ones use
    begin = time.perf_counter()
    values = forward(samples).values[0]
    took = time.perf_counter() - begin
    if not np.isfinite(values).all():
        raise AsdError(f"{name} gives values that are not finite on {device}; try --device cpu")
    kind = ", random weights: none are here" if spec.weights == RANDOM else ""
    return f"{took:.2f} s for a clip of {_SECONDS} s, {values.shape[1]} values{kind}"


def _imports() -> Iterator[Finding]:
    """Libraries that bring compiled parts of their own, which may not fit this machine."""
    loaders: dict[str, Callable[[], str]] = {
        "torch": lambda: str(import_module("torch").__version__),
        "torchaudio": lambda: str(torchaudio().__version__),
        "transformers": lambda: str(transformers().__version__),
        "libsndfile": _libsndfile,
        "onnxruntime": lambda: f"{import_module('onnxruntime').__version__}, for --engine onnx",
        "openvino": lambda: f"{import_module('openvino').__version__}, for --engine openvino",
    }
    for name, load in loaders.items():
        if name != "libsndfile" and find_spec(name) is None:
            extra = {"onnxruntime": "onnx", "openvino": "openvino"}.get(name, "torch")
            what = "backbones that are networks need" if extra == "torch" else f"--engine {extra} needs"
            yield Finding(name, f"not installed: {what} it, pip install 'machine-asd[{extra}]'")
            continue
        try:
            yield Finding(name, load())
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            yield Finding(name, f"cannot be loaded: {reason}", _INSTALL)


def _libsndfile() -> str:
    import soundfile  # noqa: PLC0415  where it fails, that is what is reported

    missing = [form for form in _FORMATS if form not in soundfile.available_formats()]
    if missing:
        raise OSError(f"libsndfile {soundfile.__libsndfile_version__} reads no {missing[0]}")
    return f"{soundfile.__libsndfile_version__}, reads {', '.join(_FORMATS)}"


def _described(name: str) -> str:
    import torch  # noqa: PLC0415 (an extra)

    from extractors.device import find_device  # noqa: PLC0415

    device = find_device(name)
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{device}, {facts.name}, {megabytes(facts.total_memory)}"
    return f"{device}, {torch.get_num_threads()} threads"


def _is_here(checkpoint: Checkpoint) -> bool:
    if not checkpoint.model:
        return path_of(checkpoint).is_file()
    try:
        from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 (an extra)
    except ImportError:
        return False
    found = try_to_load_from_cache(checkpoint.model, checkpoint.file, revision=AST_REVISION)
    return isinstance(found, str)


def _weights(here: list[Checkpoint]) -> Iterator[Finding]:
    """Name what is here, and check it; what is missing is fetched when it is needed."""
    for each in here:
        intact = bool(each.model) or is_intact(path_of(each), each) is not False
        seen = "here, checked" if intact else f"{path_of(each)} is not the published file"
        remedy = f"delete it; python -m extractors.weights fetch {each.name} brings it again"
        yield Finding(f"weights {each.name}", seen, "" if intact else remedy)
    missing = len(CHECKPOINTS) - len(here)
    yield Finding("weights", f"{len(here)} here, {missing} others known: asd weights list")
