"""Paired timing: two ways of doing one thing, in turn, so that a machine's drift cancels."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import numpy as np


def machine() -> str:
    """One line about where this runs."""
    versions = [f"{name} {version(name)}" for name in ("torch", "faiss-cpu", "librosa")]
    python = f"Python {platform.python_version()}"
    return ", ".join([platform.machine(), f"{os.cpu_count()} cores", python, *versions])


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def in_turn(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time several actions A B A B ... after one warm-up round: name to seconds a round."""
    for action in actions.values():
        action()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            times[name].append(seconds(action))
    return times


def spread(values: list[float], unit: float = 1.0) -> str:
    """Median with minimum and maximum."""
    low, middle, high = np.percentile(np.array(values) * unit, [0, 50, 100])
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"
