"""Graphs in 8-bit integers: ranges of their values, learnt from clips, and products in them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from cache.base.errors import AsdError
from cache.base.processors import cores
from extractors.embedding.ranges import Ranges, keep
from extractors.embedding.runners import Array, runner
from extractors.request import ONNX


def calibrated(exact: bytes, inputs: Sequence[Array]) -> str:
    """Learn the ranges of a graph's values from inputs, and keep them.

    Parameters
    ----------
    exact
        The graph, in float32.
    inputs
        Of one clip each.

    Returns
    -------
    str
        Their name, see `keep`.
    """
    import onnx  # noqa: PLC0415 (an extra)

    graph = onnx.load_from_string(exact)
    wanted = sorted({name for node in _products(graph) for name in (node.input[0], node.output[0])})
    given = {value.name for value in graph.graph.input}
    outputs = [name for name in wanted if name not in given]
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    run = runner(ONNX, graph.SerializeToString(), cores())
    ends: dict[str, list[float]] = {}
    for values in inputs:
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
