"""Networks as ONNX graphs: exported once, kept by hash, run by ONNX Runtime or OpenVINO, held against torch.

A graph is of one network, the layers asked for and one length of clips: attention's tables of positions
stand in it as numbers. The front end stays in torch and the pooling too, so that only the network is
another. Clips go through one by one, so that none depends on its batch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from cache.base.errors import AsdError, needed
from cache.files.atomic import write_atomic
from extractors.backbone import ArrayBackbone, Backbone, Features, Inputs, NetworkBackbone
from extractors.embedding.embedder import Forward
from extractors.embedding.export import OPSET, Exportable, exported, modules_of
from extractors.embedding.integers import calibrated, quantised
from extractors.embedding.ranges import folder, ranges_of
from extractors.embedding.revisions import code_of
from extractors.embedding.runners import LIBRARIES, Array, Run, runner
from extractors.weights.loading import tensors_sha256

_NEAR = 1e-4  # of a layer's largest value: what a graph in float32 may differ by from torch
_HELD = 4  # lengths whose graphs stay loaded; each holds all weights
_SHA256 = 32  # bytes at a kept graph's end
_LOG = logging.getLogger(__name__)


class GraphBackbone:
    """A backbone whose network another engine runs.

    Parameters
    ----------
    backbone
        The network in torch, on the CPU, with its front end.
    engine
        ``onnx`` or ``openvino``.
    calibration
        Name of `Ranges` that were kept, for 8-bit integers; empty for float32.

    Raises
    ------
    AsdError
        If the backbone is no network, or the engine is not installed.
    """

    def __init__(self, backbone: Backbone | ArrayBackbone, engine: str, calibration: str = "") -> None:
        if not isinstance(backbone, NetworkBackbone):
            raise AsdError(
                f"--engine {engine}: {backbone.spec.name} is no network that could be exported; leave it out"
            )
        for library in (LIBRARIES[engine], "onnx"):
            try:
                import_module(library)
            except ImportError as error:
                raise needed(f"--engine {engine}", error, engine) from error
        self.spec = replace(backbone.spec, batch={"cpu": 1})
        self.backbone, self.engine, self.calibration = backbone, engine, calibration
        self._modules = modules_of(backbone)
        with torch.inference_mode():
            self.sha256 = tensors_sha256(self._modules.state_dict(), code_of(backbone.spec))
        self._loaded: OrderedDict[tuple[object, ...], Run] = OrderedDict()
        self._lock = threading.Lock()

    def features(self, waveforms: Tensor, layers: Sequence[int]) -> list[Features]:
        """Compute features; see `Backbone.features`."""
        inputs = self.backbone.inputs(waveforms)
        run = self._run(inputs, tuple(layers))
        clips = [run(clip.numpy()) for clip in torch.split(inputs.values, 1)]
        together = [torch.from_numpy(np.concatenate(parts)) for parts in zip(*clips, strict=True)]
        owners = [layer for layer in layers for _ in range(1 + (layer in self.spec.native))]
        of = {n: [t for t, owner in zip(together, owners, strict=True) if owner == n] for n in layers}
        return [Features(*of[layer]) for layer in layers]

    def graph(self, inputs: Inputs, layers: Sequence[int]) -> bytes:
        """Give the graph of one length: the kept one, where its digest is right, or a new one.

        Parameters
        ----------
        inputs
            Of clips of this length; of the first one the graph is made.
        layers
            What it gives: the frames of each, and its own embedding behind them where it has one.
        """

        def states(values: Tensor) -> tuple[Tensor, ...]:
            return tuple(flat(self.backbone.states(replace(inputs, values=values), layers)))

        exact = self._kept(
            {"length": inputs.samples, "shape": list(inputs.values.shape[1:]), "layers": list(layers)},
            lambda: exported(self.spec.name, self._modules, states, inputs.values[:1]),
        )
        if not self.calibration:
            return exact
        sha256, ranges = hashlib.sha256(exact).hexdigest(), ranges_of(self.calibration)
        settings = {"graph": sha256, "ranges": self.calibration, "onnxruntime": version("onnxruntime")}
        return self._kept(settings, lambda: quantised(exact, ranges))

    def calibrated(self, samples: Sequence[Array], layers: Sequence[int]) -> str:
        """Learn the ranges of the network's values from clips, and keep them.

        Parameters
        ----------
        samples
            (T,) or, of two channels, (2, T) each, of one length.
        layers
            As in `graph`.

        Returns
        -------
        str
            The calibration's name, see `extractors.embedding.integers.calibrated`.
        """
        rows = [row for each in samples for row in np.atleast_2d(each)[:, None, : self.spec.max_samples]]
        with torch.inference_mode():
            inputs = [self.backbone.inputs(torch.from_numpy(np.ascontiguousarray(row))) for row in rows]
        return calibrated(self.graph(inputs[0], layers), [each.values.numpy() for each in inputs])

    def _kept(self, settings: Mapping[str, object], make: Callable[[], bytes]) -> bytes:
        made_of = {**settings, "network": self.sha256, "torch": torch.__version__, "opset": OPSET}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
        path = folder() / f"{self.spec.name}-{key}.onnx"
        if path.exists():
            data = path.read_bytes()
            if hashlib.sha256(data[:-_SHA256]).digest() == data[-_SHA256:]:
                return data[:-_SHA256]
            _LOG.warning("%s is damaged: its SHA-256 is another; it is made anew", path)
        _LOG.info("%s: exporting its network for %s", self.spec.name, path)
        data = make()
        write_atomic(path, data + hashlib.sha256(data).digest())
        return data

    def _run(self, inputs: Inputs, layers: tuple[int, ...]) -> Run:
        """Load the graph of a length for as many threads as this worker has, and try it."""
        threads = torch.get_num_threads()
        key = (inputs.samples, *inputs.values.shape[1:], layers, threads)
        with self._lock:
            run = self._loaded.get(key)
            if run is None:
                if len(self._loaded) == _HELD:
                    _LOG.warning(
                        "%s: clips of more than %d lengths, each with a graph of its own; bring them to one "
                        "with --length", self.spec.name, _HELD,
                    )  # fmt: skip
                run = runner(self.engine, self.graph(inputs, layers), threads)
                if not self.calibration:
                    self._check(run, first_of(inputs), layers)
                self._loaded[key] = run
                while len(self._loaded) > _HELD:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
        return run

    def _check(self, run: Run, inputs: Inputs, layers: Sequence[int]) -> None:
        """Hold a graph against torch on a clip at hand, before it is trusted."""
        expected = flat(self.backbone.states(inputs, layers))
        for found, right in zip(run(inputs.values.numpy()), expected, strict=True):
            wrong = np.abs(found - right.numpy()).max() / max(float(right.abs().max()), 1e-30)
            if not wrong <= _NEAR:
                raise AsdError(
                    f"--engine {self.engine}: {self.spec.name} differs by {wrong:.1e} of its largest value "
                    f"from torch, at most {_NEAR:.0e} is expected; use --engine local"
                )


def first_of(inputs: Inputs) -> Inputs:
    """Give the first clip alone."""
    return replace(inputs, values=inputs.values[:1].contiguous())


def flat(features: Sequence[Features]) -> list[Tensor]:
    """List what layers give: the frames, and the own embedding behind them, layer by layer."""
    return [t for each in features for t in (each.frames, each.native) if t is not None]


def whole(forward: Forward, samples: int) -> bytes:
    """Export front end, network and pooling as one graph: a (1, T) waveform to a (1, D) vector an output.

    Parameters
    ----------
    forward
        A backbone in torch, or a `GraphBackbone`, whose network is exported in float32.
    samples
        T.

    Raises
    ------
    AsdError
        If the backbone is no network, or its front end is not of torch.
    """
    import onnx  # noqa: PLC0415 (an extra)

    backbone = forward.backbone
    if isinstance(backbone, GraphBackbone):
        backbone = backbone.backbone
    if not isinstance(backbone, NetworkBackbone):
        raise AsdError(f"{backbone.spec.name} is no network that could be exported")
    plain = replace(forward, backbone=Exportable(backbone))
    noise = torch.randn((1, samples), generator=torch.Generator().manual_seed(0)) * 0.1
    graph = exported(
        backbone.spec.name, modules_of(backbone),
        lambda waveforms: tuple(plain.windows(waveforms, plain.of_waveforms)[0]), noise,
    )  # fmt: skip
    if not onnx.load_from_string(graph).graph.input:
        raise AsdError(f"{backbone.spec.name} cannot be exported: its front end is not of torch")
    return graph
