"""Paired timing: two ways of doing one thing, in turn, so that a machine's drift cancels."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from cache.base.processors import cores, model_name

HEAD = "| what | ours | peer | the peer's | ratio | goal |\n| --- | ---: | --- | ---: | ---: | ---: |"


def machine() -> str:
    """One line about where this runs."""
    versions = [f"{name} {version(name)}" for name in ("torch", "faiss-cpu", "librosa")]
    python = f"Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f}"
    return ", ".join([model_name(), f"{cores()} cores", python, *versions, load])


def has_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16."""
    return "_bf16" in model_name()


def in_bfloat16(action: Callable[[], Any]) -> Callable[[], Any]:
    """Have a peer's network compute in bfloat16, by torch's autocast."""

    def reduced() -> Any:
        import torch  # noqa: PLC0415 (not all that is timed needs it)

        with torch.autocast("cpu", torch.bfloat16):
            return action()

    return reduced


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


def spread(values: Sequence[float], unit: float = 1.0) -> str:
    """Median with minimum and maximum."""
    low, middle, high = np.percentile(np.array(values) * unit, [0, 50, 100])
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


@dataclass(frozen=True)
class Row:
    """Ours beside a peer's, timed in turn: a line of the table below `HEAD`.

    Attributes
    ----------
    what
        Was computed.
    ours, theirs
        Seconds of each round.
    peer
        Its name.
    work
        What a round does, in the unit.
    goal
        The ratio to reach, if there is one.
    unit
        Of the work.
    """

    what: str
    ours: Sequence[float]
    peer: str
    theirs: Sequence[float]
    work: float = 1.0
    goal: float | None = None
    unit: str = "clips"

    @property
    def ratios(self) -> list[float]:
        """How many times as fast ours was, round by round."""
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]

    def __str__(self) -> str:
        rates = [
            f"{spread([self.work / t for t in times])} {self.unit}/s" for times in (self.ours, self.theirs)
        ]
        goal = "" if self.goal is None else f"{self.goal:.3g}"
        if self.goal is not None and float(np.median(self.ratios)) < self.goal:
            goal += ", missed"
        return f"| {self.what} | {rates[0]} | {self.peer} | {rates[1]} | {spread(self.ratios)} | {goal} |"
