"""Our networks as `asd extract` runs them: what was measured to be fastest here, in either number format."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.timing import has_bfloat16
from extractors import pooling
from extractors.backbone import Backbone
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.throughput import Plan, candidates, fastest, use

CPU = torch.device("cpu")


def formats() -> tuple[str, ...]:
    """Name the number formats that the processor has instructions for."""
    return ("float32", "bfloat16") if has_bfloat16() else ("float32",)


def embedder(backbone: Backbone, layer: int, dtype: str = "float32") -> Forward:
    """Make of a backbone what embeds clips by one of its layers."""
    output = Output(backbone.spec, layer, pooling.find(backbone.spec.pooling, {}), "merge", dtype)
    return Forward(backbone, [output], CPU)


def measured(forward: Forward, seconds: float) -> Plan:
    """Measure how clips of a length are embedded best, and use it; the plan is printed."""
    spec = forward.backbone.spec
    clip = np.random.default_rng(0).normal(0, 0.1, round(seconds * spec.sample_rate)).astype(np.float32)
    plan = fastest(forward, candidates(spec, CPU), clip)
    use(forward, plan)
    print(f"{spec.name}, {forward.outputs[0].dtype}, measured as `asd extract` does it: {plan}", flush=True)
    return plan


def as_extracted(forward: Forward, plan: Plan, clips: np.ndarray) -> object:
    """Embed clips as `asd extract` does."""
    use(forward, plan)
    parts = [clips[i : i + plan.batch] for i in range(0, len(clips), plan.batch)]
    with plan.pool() as pool:
        return list(pool.map(forward, parts))


def at_once(forward: Forward, plan: Plan, clips: np.ndarray) -> object:
    """Embed clips in one pass, in the plan's ways to compute."""
    use(forward, plan)
    return forward(clips)
