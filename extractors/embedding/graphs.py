"""Networks as ONNX graphs: exported once, kept by hash, run by ONNX Runtime or OpenVINO, held against torch.

A graph is of one network, the layers asked for and one length of clips: attention's tables of positions
stand in it as numbers. The front end stays in torch and the pooling too, so that only the network is
another. Clips go through one by one, so that none depends on its batch.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cache.base.errors import AsdError, needed
from cache.base.processors import cores
from cache.files.atomic import scratch_folder, write_atomic
from extractors.backbone import ArrayBackbone, Backbone, Features, Inputs, NetworkBackbone
from extractors.embedding.embedder import Forward
from extractors.embedding.ranges import Ranges, folder, keep, ranges_of
from extractors.embedding.revisions import code_of
from extractors.request import ONNX, OPENVINO
from extractors.weights.loading import tensors_sha256

Array = NDArray[np.float32]
Run = Callable[[Array], Sequence[Array]]  # a clip's input to what the layers make of it, in order
LIBRARIES = {ONNX: "onnxruntime", OPENVINO: "openvino"}
_OPSET = 20
_NEAR = 1e-4  # of a layer's largest value: what a graph in float32 may differ by from torch
_HELD = 4  # lengths whose graphs stay loaded; each holds all weights
_TRACING = threading.Lock()  # the exporter's state is the process's
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
        self._modules = _modules(backbone)
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

    def _kept(self, settings: Mapping[str, object], make: Callable[[], bytes]) -> bytes:
        made_of = {**settings, "network": self.sha256, "torch": torch.__version__, "opset": _OPSET}
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
                run = _RUNNERS[self.engine](self.graph(inputs, layers), threads)
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


def _modules(backbone: object) -> nn.ModuleDict:
    """Collect a backbone's networks, those of a backbone inside it too."""
    found = nn.ModuleDict()
    for name, value in vars(backbone).items():
        if isinstance(value, nn.Module):
            found[name.strip("_")] = value
        elif isinstance(value, NetworkBackbone):
            found[name.strip("_")] = _modules(value)
    return found


class _Traced(nn.Module):
    """What is exported: a function, and the modules it calls, registered as what has parameters."""

    def __init__(self, modules: nn.ModuleDict, function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.held, self._function = modules, function

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        return self._function(values)


def exported(
    name: str, modules: nn.ModuleDict, function: Callable[[Tensor], tuple[Tensor, ...]], values: Tensor
) -> bytes:
    """Export a function of one tensor as ONNX, for values of this shape.

    With gradients on, networks compute as they are defined, without what pays on a CPU of torch alone
    (convolutions by spectra or in Winograd's way, clip by clip). The exporter that traces is used: the one
    that goes through torch.export gives the same graph and takes ten times as long.

    Parameters
    ----------
    name
        Of the backbone, for messages.
    modules
        That the function calls.
    function
        Its tensors are the graph's outputs.
    values
        An example.
    """
    with ExitStack() as stack:
        path = stack.enter_context(scratch_folder()) / "network.onnx"
        for state in (
            _TRACING, torch.inference_mode(mode=False), torch.enable_grad(), warnings.catch_warnings(),
        ):  # fmt: skip
            stack.enter_context(state)
        warnings.simplefilter("ignore")  # of shapes that become constants, which is what is wanted
        example = values.detach().cpu().clone()
        # A constant array stays one.
        torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]
            "aten::lift_fresh", lambda _, value: value, _OPSET
        )
        try:
            traced = _Traced(modules, function).eval()
            torch.onnx.export(
                traced, (example,), path, dynamo=False, opset_version=_OPSET, input_names=["input"]
            )
            return path.read_bytes()
        except (RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise AsdError(f"{name} cannot be exported as ONNX ({reason}); use --engine local") from error


class _Spectrum:
    """A complex tensor as its two parts: ONNX has no complex numbers."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    def abs(self) -> Tensor:
        return (self.real.square() + self.imag.square()).sqrt()


class _FrontEnds(TorchFunctionMode):
    """Lets front ends be exported: transforms as products, in float64, and frames by one lookup."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.fft.rfft:
            frames = args[0]
            angles = torch.arange(frames.shape[-1])[:, None] * torch.arange(frames.shape[-1] // 2 + 1)
            turns = angles.double() * (2 * torch.pi / frames.shape[-1])
            return _Spectrum(*((frames.double() @ wave).float() for wave in (turns.cos(), -turns.sin())))
        if func is Tensor.unfold:
            signal, _, size, step = args  # along the last axis
            count = (signal.shape[-1] - size) // step + 1
            return signal[..., torch.arange(count)[:, None] * step + torch.arange(size)]
        return func(*args, **(kwargs or {}))


class _Exportable(NetworkBackbone):
    """A backbone whose front end can be exported."""

    def __init__(self, backbone: NetworkBackbone) -> None:
        self.spec, self._backbone = backbone.spec, backbone

    def inputs(self, waveforms: Tensor) -> Inputs:
        with _FrontEnds():
            return self._backbone.inputs(waveforms)

    def states(self, inputs: Inputs, layers: Sequence[int]) -> list[Features]:
        return self._backbone.states(inputs, layers)


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
    plain = replace(forward, backbone=_Exportable(backbone))
    noise = torch.randn((1, samples), generator=torch.Generator().manual_seed(0)) * 0.1
    graph = exported(
        backbone.spec.name, _modules(backbone),
        lambda waveforms: tuple(plain.windows(waveforms, plain.of_waveforms)[0]), noise,
    )  # fmt: skip
    if not onnx.load_from_string(graph).graph.input:
        raise AsdError(f"{backbone.spec.name} cannot be exported: its front end is not of torch")
    return graph


def runner(engine: str, data: bytes, threads: int = 1) -> Run:
    """Load a graph into an engine."""
    return _RUNNERS[engine](data, threads)


def _onnx(data: bytes, threads: int) -> Run:
    import onnxruntime  # noqa: PLC0415 (an extra)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # neighbours need the core
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda values: session.run(None, {"input": values})


def _openvino(data: bytes, threads: int) -> Run:
    import openvino  # noqa: PLC0415 (an extra)

    core, streams = openvino.Core(), max(1, cores() // threads)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "NUM_STREAMS": streams,  # clips under way at once
        "INFERENCE_NUM_THREADS": streams * threads,
    }
    compiled = core.compile_model(core.read_model(io.BytesIO(data)), "CPU", settings)
    own = threading.local()

    def run(values: Array) -> Sequence[Array]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer([values])
        return [np.array(found[output]) for output in compiled.outputs]

    return run


_RUNNERS: Mapping[str, Callable[[bytes, int], Run]] = {ONNX: _onnx, OPENVINO: _openvino}


def calibrated(backbone: GraphBackbone, samples: Sequence[Array], layers: Sequence[int]) -> str:
    """Learn the ranges of a network's values from clips, and keep them.

    Parameters
    ----------
    backbone
        In float32.
    samples
        (T,) or, of two channels, (2, T) each, of one length.
    layers
        As in `GraphBackbone.graph`.

    Returns
    -------
    str
        The name that `GraphBackbone` takes, see `keep`.
    """
    import onnx  # noqa: PLC0415 (an extra)

    window = backbone.spec.max_samples
    with torch.inference_mode():
        rows = [row for each in samples for row in np.atleast_2d(each)[:, None, :window]]
        inputs = [backbone.backbone.inputs(torch.from_numpy(np.ascontiguousarray(row))) for row in rows]
    graph = onnx.load_from_string(backbone.graph(inputs[0], layers))
    wanted = sorted({name for node in _products(graph) for name in (node.input[0], node.output[0])})
    given = {value.name for value in graph.graph.input}
    outputs = [name for name in wanted if name not in given]
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    run = _onnx(graph.SerializeToString(), cores())
    ends: dict[str, list[float]] = {}
    for each in inputs:
        values = each.values.numpy()
        for name, found in zip((*given, *outputs), (values, *run(values)), strict=True):
            ends.setdefault(name, []).extend((float(found.min()), float(found.max())))
    ranges = {name: (min(both), max(both)) for name, both in ends.items()}
    return keep(ranges)


def _products(graph: Any) -> list[Any]:
    """Products and convolutions with weights: what pays in integers; attention stays in float32."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    kinds = ("MatMul", "Gemm", "Conv")
    return [n for n in graph.graph.node if n.op_type in kinds and n.input[1] in weights]


def quantised(graph: bytes, ranges: Ranges) -> bytes:
    """Turn the products of a graph into 8-bit integers, weights channel by channel.

    Weights take 7 bits: with 8, processors without VNNI add up two products beyond 16 bits, and would give
    other numbers than those that have it.
    """
    import onnx  # noqa: PLC0415 (an extra)
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData  # noqa: PLC0415
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer  # noqa: PLC0415
    from onnxruntime.quantization.quant_utils import QuantType  # noqa: PLC0415

    model = onnx.load_from_string(graph)
    products = _products(model)
    unknown = [node.input[0] for node in products if node.input[0] not in ranges]
    if unknown:
        raise AsdError(
            f"no range is known of {unknown[0]}: the network was exported otherwise; calibrate anew"
        )
    known = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model, per_channel=True, reduce_range=True,
        weight_qType=QuantType.QInt8, activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, known),
        nodes_to_quantize=[node.name for node in products], nodes_to_exclude=[], extra_options={},
        op_types_to_quantize=["MatMul", "Gemm", "Conv"],
    )  # fmt: skip
    logging.getLogger().addFilter(_quiet)
    try:
        quantizer.quantize_model()
    finally:
        logging.getLogger().removeFilter(_quiet)
    return bytes(quantizer.model.model.SerializeToString())


def _quiet(record: logging.LogRecord) -> bool:
    """Keep the quantiser's advice on models it would rather see preprocessed to itself."""
    return record.levelno >= logging.ERROR
