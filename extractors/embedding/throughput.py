"""How many clips, threads and workers: measured on the machine at hand, once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cache.base.processors import cores, model_name
from cache.base.text import parse_json
from cache.files import places
from cache.files.atomic import write_atomic
from extractors.backbone import BackboneSpec
from extractors.device import Device
from extractors.embedding.embedder import Forward, Samples
from extractors.request import GRAPHS

PLANS = "plans.json"  # in the cache folder
_DEFAULT_BATCH = 32
_BUDGET = 20.0  # seconds that measuring may take before the best so far is taken
_GAIN = 1.03  # a later candidate must be better by more than the noise


@dataclass(frozen=True)
class Plan:
    """How to use a device.

    Attributes
    ----------
    batch
        Clips a forward pass.
    workers
        Passes under way at once: on a CPU as many as its cores feed, on CUDA two, so that one is
        prepared while the other computes.
    threads
        Of torch, a worker.
    """

    batch: int
    workers: int
    threads: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"batches of {self.batch}, {workers} of {threads}"

    def pool(self) -> ThreadPoolExecutor:
        """Make the workers."""
        torch = sys.modules.get("torch")  # loaded where a network is
        if torch is None:
            return ThreadPoolExecutor(self.workers, "forward")
        return ThreadPoolExecutor(
            self.workers, "forward", initializer=torch.set_num_threads, initargs=(self.threads,)
        )


def usual(spec: BackboneSpec, device: Device) -> Plan:
    """Return what is known to be good without measuring."""
    batch = spec.batch.get(device.type, _DEFAULT_BATCH)
    if device.type != "cpu":
        return Plan(batch, _workers(device), cores())
    threads = min(spec.cpu_threads or cores(), cores())
    return Plan(batch, max(1, cores() // threads), threads)


def _workers(device: Device) -> int:
    return 2 if device.type == "cuda" else 1


def candidates(spec: BackboneSpec, device: Device) -> list[Plan]:
    """List plans worth a measurement, the usual one first."""
    count = cores()
    if device.type == "cpu":
        shapes = {(1, count), (count, 1), (max(1, count // 4), min(4, count))}
        plans = [Plan(batch, *shape) for batch in (1, 4) for shape in sorted(shapes)]
    else:
        plans = [Plan(batch, _workers(device), count) for batch in (8, 32, 128, 512)]
    first = usual(spec, device)
    return [first, *(plan for plan in plans if plan != first)]


def rate(forward: Forward, plan: Plan, clip: Samples) -> float:
    """Clips a second of a plan.

    Parameters
    ----------
    forward
        What to run.
    plan
        How.
    clip
        (T,) of the usual length.
    """
    batch = np.repeat(clip[None], plan.batch, axis=0)
    with plan.pool() as pool:
        list(pool.map(forward, [batch[:1]] * plan.workers))  # first calls allocate and compile
        begin = time.perf_counter()
        list(pool.map(forward, [batch] * plan.workers))
        taken = time.perf_counter() - begin
    return plan.batch * plan.workers / taken


def fastest(forward: Forward, plans: Sequence[Plan], clip: Samples) -> Plan:
    """Measure plans in turn until the time for it is spent, and return the best.

    A plan that the device's memory does not hold ends the measuring: those after it are larger.
    """
    begin = time.perf_counter()
    best, best_rate = plans[0], 0.0
    for plan in plans:
        if best_rate and time.perf_counter() - begin > _BUDGET:
            break
        found = rate(forward, plan, clip)
        if forward.limit is not None:
            forward.limit = None
            break
        if found > best_rate * _GAIN:
            best, best_rate = plan, found
    return best


def remembered(folder: Path, forward: Forward, clip: Samples) -> Plan:
    """Return the plan measured before for this machine, model and length, or measure it now.

    Parameters
    ----------
    folder
        The cache; the measurement is kept in its ``plans.json``.
    forward
        What to run.
    clip
        (T,) of the usual length.
    """
    path = folder / PLANS
    known = plans_in(folder)
    key = _key(forward, len(clip))
    if key not in known:
        spec = forward.backbone.spec
        known[key] = fastest(forward, candidates(spec, forward.device), clip)
        text = json.dumps({name: asdict(plan) for name, plan in known.items()}, indent=1)
        write_atomic(path, text.encode())
    return known[key]


def machine_key(forward: Forward) -> str:
    """Name what a measurement is of: processor, cores, library, model, layer and number format."""
    spec, device = forward.backbone.spec, forward.device
    chip, library = model_name(), f"numpy {np.__version__}"
    if not spec.arrays:
        import torch  # noqa: PLC0415 (loaded already)

        library = f"torch {torch.__version__}"
        if device.type == "cuda":
            chip = torch.cuda.get_device_name(str(device))
    top = max(output.layer for output in forward.outputs)
    weight = f"{spec.dim}x{top}, {forward.outputs[0].dtype}"
    if (engine := forward.outputs[0].engine) in GRAPHS:
        weight += f", {engine}"
    return f"{chip}, {cores()} cores, {library}: {spec.name} {weight}"


def _key(forward: Forward, samples: int) -> str:
    return f"{machine_key(forward)}, {samples / forward.backbone.spec.sample_rate:.1f} s"


def plans_in(folder: Path) -> dict[str, Plan]:
    """Read the plans that a cache folder keeps; none where the file is missing or not ours."""
    try:
        stored = parse_json(places.read_bytes(folder / PLANS))
        plans = {name: Plan(**values) for name, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {name: plan for name, plan in plans.items() if min(asdict(plan).values()) >= 1}
