"""How many clips, threads and workers: measured on the machine at hand, once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cache.base.processors import cores, model_name
from cache.base.text import parse_json
from cache.files import places
from cache.files.atomic import write_atomic
from extractors.backbone import BackboneSpec, Kernels
from extractors.device import Device
from extractors.embedding.embedder import Forward, Samples
from extractors.request import DTYPES, GRAPHS

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
    kernel
        How the network computes, of the backbone's `Kernels`; empty for the usual way.
    onednn
        Whether oneDNN multiplies its matrices; see `Forward`.
    """

    batch: int
    workers: int
    threads: int
    kernel: str = ""
    onednn: bool = False

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        kernel = f", {self.kernel}" if self.kernel else ""
        products = ", products by oneDNN" if self.onednn else ""
        return f"batches of {self.batch}, {workers} of {threads}{kernel}{products}"

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


def use(forward: Forward, plan: Plan) -> None:
    """Have a model compute as a plan says."""
    forward.onednn = plan.onednn
    if isinstance(forward.backbone, Kernels):
        forward.backbone.use(plan.kernel if plan.kernel in forward.backbone.kernels else "")


def as_measured(plan: Plan, folder: Path, forward: Forward) -> Plan:
    """Return a plan with the ways to compute that were best where clips of any length were measured."""
    if forward.backbone.spec.arrays:
        return plan  # there is one way, and nothing to look up
    key = f"{machine_key(forward)}, "
    known = next((kept for name, kept in plans_in(folder).items() if name.startswith(key)), plan)
    return replace(plan, kernel=known.kernel, onednn=known.onednn)


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
    use(forward, plan)
    batch = np.repeat(clip[None], plan.batch, axis=0)
    with plan.pool() as pool:
        list(pool.map(forward, [batch[:1]] * plan.workers))  # first calls allocate and compile
        begin = time.perf_counter()
        list(pool.map(forward, [batch] * plan.workers))
        taken = time.perf_counter() - begin
    return plan.batch * plan.workers / taken


def fastest(forward: Forward, plans: Sequence[Plan], clip: Samples) -> Plan:
    """Measure plans in turn until the time for it is spent, and return the best.

    The ways in which the network can compute are tried first, and the others as the best of these. A plan
    that the device's memory does not hold ends the measuring: those after it are larger.
    """
    begin = time.perf_counter()
    best, best_rate = plans[0], 0.0

    def tried() -> Iterator[Plan]:
        products = (False, True) if _can_use_onednn(forward) else (False,)
        kernels = forward.backbone.kernels if isinstance(forward.backbone, Kernels) else ()
        for onednn in products:
            yield from (replace(plans[0], kernel=kernel, onednn=onednn) for kernel in kernels or ("",))
        yield from (replace(plan, kernel=best.kernel, onednn=best.onednn) for plan in plans[1:])

    for plan in tried():
        if best_rate and time.perf_counter() - begin > _BUDGET:
            break
        found = rate(forward, plan, clip)
        if forward.limit is not None:
            forward.limit = None
            break
        if found > best_rate * _GAIN:
            best, best_rate = plan, found
    return best


def _can_use_onednn(forward: Forward) -> bool:
    """Whether there is another library to multiply what a model computes."""
    output = forward.outputs[0]
    if forward.device.type != "cpu" or forward.backbone.spec.arrays or output.engine in GRAPHS:
        return False
    from extractors.embedding.products import has_onednn  # noqa: PLC0415 (torch is loaded already)

    return output.dtype == DTYPES[0] and has_onednn()


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
    spec = forward.backbone.spec
    key = f"{machine_key(forward)}, {len(clip) / spec.sample_rate:.1f} s"
    if key not in known:
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
            if (part := torch.cuda.get_per_process_memory_fraction()) < 1:
                chip += f", {part:.2g} of its memory"  # of several actors on it
    top = max(output.layer for output in forward.outputs)
    settings = dict(spec.settings)
    model = ":".join([spec.name, *(str(settings[name]) for name in ("variant", "model") if name in settings)])
    weight = f"{spec.dim}x{top}, {forward.outputs[0].dtype}"
    if (engine := forward.outputs[0].engine) in GRAPHS:
        weight += f", {engine}"
    return f"{chip}, {cores()} cores, {library}: {model} {weight}"


def plans_in(folder: Path) -> dict[str, Plan]:
    """Read the plans that a cache folder keeps; none where the file is missing or not ours."""
    try:
        stored = parse_json(places.read_bytes(folder / PLANS))
        plans = {name: Plan(**values) for name, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {
        name: plan
        for name, plan in plans.items()
        if min(plan.batch, plan.workers, plan.threads) >= 1
        and (type(plan.kernel), type(plan.onednn)) == (str, bool)
    }
