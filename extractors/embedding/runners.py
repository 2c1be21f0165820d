"""The engines that run ONNX graphs: ONNX Runtime and OpenVINO, on the CPU."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cache.base.processors import cores
from extractors.request import ONNX, OPENVINO

Array = NDArray[np.float32]
Run = Callable[[Array], Sequence[Array]]  # a clip's input to what the layers make of it, in order
LIBRARIES = {ONNX: "onnxruntime", OPENVINO: "openvino"}


def runner(engine: str, data: bytes, threads: int = 1) -> Run:
    """Load a graph into an engine."""
    return RUNNERS[engine](data, threads)


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


RUNNERS: Mapping[str, Callable[[bytes, int], Run]] = {ONNX: _onnx, OPENVINO: _openvino}
