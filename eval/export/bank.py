"""A bank as a folder that scores clips with NumPy and onnxruntime alone."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cache.base.errors import AsdError, needed
from cache.base.options import options_of
from cache.files.atomic import write_atomic
from cache.heard import CANCEL, RESIDUAL, WHOLE
from cache.recipe import Recipe
from eval.export.modules import OURS, ROOT, closure, modules_of
from eval.request import ExportRequest
from extractors import pooling
from extractors.audio.hearing import hearing_of
from extractors.embedding.embedder import Forward
from extractors.embedding.models import recipe_forwards
from index.bank import locate
from index.fitted import FittedSection
from index.knn import NearestNeighbours
from index.scorer import names, parse_member

FORMAT = 1
_NEAR = 1e-4  # of the largest value: what a network's vector may differ by from torch's
_README = """# A bank that scores clips

`python score.py [--section MACHINE/section_00] CLIP.wav ...` prints `clip,score,decision`, a line a clip;
the decision is 1 where the score is above the section's threshold. It needs Python 3.11 and NumPy 2{network};
soundfile (other files than WAV) and soxr (other rates) are used where they are installed.
`bank.json` says what it was made of, and has the SHA-256 of every file.
"""


@dataclass(frozen=True)
class ExportResult:
    """What was written: the folder, its sections, and the backbones of their vectors."""

    folder: Path
    sections: tuple[str, ...]
    parts: tuple[str, ...]


def export(request: ExportRequest) -> ExportResult:
    """Write a bank as a folder of its own.

    Raises
    ------
    AsdError
        If the folder is not empty; if a scorer, a network or the way recordings are heard cannot be
        exported, with what can.
    """
    bank, folder = locate(request.bank), request.out
    if folder.exists() and any(folder.iterdir()):
        raise AsdError(f"{folder} is not empty; name a new folder")
    recipe = bank.recipe()
    sections = {str(each): bank.read(each, recipe) for each in bank.sections()}
    files: dict[str, bytes] = {}
    told = {name: _section(name, fitted, files) for name, fitted in sections.items()}
    modules = {"index.scorer", "index.knn", "cache.heard", "cache.base.options"}
    modules |= {module for fitted in sections.values() for module in modules_of(fitted.scorer)}
    parts = [_part(each, number, request, files) for number, each in enumerate(recipe.parents or (recipe,))]
    if any("network" not in part for part in parts):
        modules |= {"extractors.pooling"}
        modules |= {f"extractors.backbones.{part['backbone']}" for part in parts if "network" not in part}
    files |= {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in closure(modules)}
    files["score.py"] = (ROOT / "eval" / "export" / "standalone.py").read_bytes()
    network = ", and onnxruntime" if any("network" in part for part in parts) else ""
    files["README.md"] = _README.format(network=network).encode()
    record = {
        "format": FORMAT, "recipe": json.loads(recipe.canonical), "fingerprint": recipe.fingerprint,
        "parts": parts, "sections": told,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }  # fmt: skip
    for name, data in files.items():
        write_atomic(folder / name, data)
    write_atomic(folder / "bank.json", json.dumps(record, indent=1).encode())
    return ExportResult(folder, tuple(told), tuple(part["backbone"] for part in parts))


def _section(name: str, fitted: FittedSection, files: dict[str, bytes]) -> dict[str, Any]:
    """Put a section's arrays among the files, and say what else it is."""
    foreign = type(fitted.scorer).__module__.partition(".")[0] not in OURS
    if fitted.scorer.transductive or foreign:
        ours = [each for each in names() if not getattr(each, "origin", "")]
        can = [each for each in ours if not parse_member(each).transductive]
        why = "it is of another package" if foreign else "its scores depend on the other clips of a call"
        raise AsdError(
            f"{name}: scorer {fitted.scorer_name} cannot be exported: {why}; these can: {', '.join(can)}"
        )
    state = fitted.scorer.state()
    neighbours = [key for key, value in state.items() if isinstance(value, NearestNeighbours)]
    arrays: dict[str, Any] = {}
    for key, value in state.items():
        arrays[key] = value.vectors if isinstance(value, NearestNeighbours) else value
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    file = f"{name.replace('/', '_')}.npz"
    files[file] = buffer.getvalue()
    limit = fitted.limit()
    return {
        "file": file, "neighbours": neighbours, "scorer": fitted.scorer_name,
        "options": options_of(fitted.scorer), "threshold": limit if np.isfinite(limit) else None,
        "clips": dict(fitted.clips),
    }  # fmt: skip


def _part(recipe: Recipe, number: int, request: ExportRequest, files: dict[str, bytes]) -> dict[str, Any]:
    """Say how the vectors of one recipe are made; a network's graph is put among the files."""
    hearing, settings = hearing_of(recipe), dict(recipe.settings)
    several = hearing.channel == CANCEL or hearing.channel.startswith(RESIDUAL)
    if several or hearing.window or hearing.signal.settings:
        heard = ", ".join(f"{key}={value}" for key, value in hearing.settings.items())
        raise AsdError(
            f"{recipe.backbone}: recordings heard as {heard} cannot be exported; a channel by its name or "
            "number, their average, and --length can"
        )
    (forward,) = recipe_forwards(recipe, request.weights)
    spec = forward.backbone.spec
    told = {
        "backbone": recipe.backbone, "variant": str(settings.get("variant", "")), "layer": recipe.layer,
        "pooling": recipe.pooling, "bands": recipe.bands, "rate": spec.sample_rate,
        "channel": hearing.channel, "length": str(hearing.length or WHOLE),
        "least": spec.min_samples, "most": spec.max_samples,
    }  # fmt: skip
    if spec.arrays:
        if recipe.pooling not in ("native", *pooling.IN_NUMPY):
            raise AsdError(
                f"pooling {recipe.pooling} of {recipe.backbone} cannot be exported: it needs torch; these "
                f"can: {', '.join(('native', *pooling.IN_NUMPY))}"
            )
        return told
    seconds = hearing.length.seconds if hearing.length else request.seconds
    samples = round(seconds * spec.sample_rate)
    file = f"network-{number}.onnx"
    files[file] = _graph(forward, samples)
    return {**told, "network": file, "least": samples, "most": samples}


def _graph(forward: Forward, samples: int) -> bytes:
    """Export front end, network and pooling as one graph, and hold it against torch on another sound."""
    try:
        from extractors.embedding import graphs, runners  # noqa: PLC0415 (torch)

        import_module("onnxruntime")
        import_module("onnx")
    except ImportError as error:
        raise needed("the export of a network", error, "onnx") from error
    graph = graphs.whole(forward, samples)
    noise = np.random.default_rng(1).normal(0, 0.1, (1, samples)).astype(np.float32)
    (found,), expected = runners.runner("onnx", graph)(noise), forward(noise).values[0]
    wrong = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not wrong <= _NEAR:
        raise AsdError(
            f"{forward.backbone.spec.name} cannot be exported: its graph differs by {wrong:.1e} of the "
            f"largest value from torch, at most {_NEAR:.0e} is expected"
        )
    return graph
