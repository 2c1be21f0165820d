"""Frames to one vector: the poolings of the field, over time, per band or over all bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cache.errors import AsdError

BANDS = ("merge", "keep")


@dataclass(frozen=True)
class Pooling:
    """A pooling with its parameter.

    Attributes
    ----------
    name
        Canonical text, e.g. ``mean`` or ``gwrp:0.7``; stands in the recipe.
    reduce
        (B, time, C) to (B, D).
    """

    name: str
    reduce: Callable[[Tensor], Tensor]

    def __call__(self, frames: Tensor, bands: str) -> Tensor:
        """Pool frames to one vector a clip.

        Parameters
        ----------
        frames
            (B, time, band, C).
        bands
            ``merge`` pools over all time-band tokens, ``keep`` over time band by band.

        Returns
        -------
        Tensor
            (B, D), or (B, band x D), band after band.
        """
        if bands == "merge":
            return self.reduce(frames.flatten(1, 2))
        per_band = frames.transpose(1, 2).flatten(0, 1)  # (B x band, time, C)
        return self.reduce(per_band).reshape(frames.shape[0], -1)


def mean(frames: Tensor) -> Tensor:
    """Arithmetic mean over time: (B, time, C) to (B, C)."""
    return frames.mean(1)


def maximum(frames: Tensor) -> Tensor:
    """Maximum over time: (B, time, C) to (B, C)."""
    return frames.amax(1)


def mean_std(frames: Tensor) -> Tensor:
    """Mean and population standard deviation over time: (B, time, C) to (B, 2 C)."""
    return torch.cat([frames.mean(1), frames.std(1, correction=0)], dim=1)


def gwrp(frames: Tensor, r: float) -> Tensor:
    """Global weighted rank pooling (Kolesnikov and Lampert 2016, eq. 6).

    Parameters
    ----------
    frames
        (B, time, C).
    r
        Decay in (0, 1]: 1 is the mean, towards 0 the maximum.

    Returns
    -------
    Tensor
        (B, C): ``sum_t r^t x_(t) / sum_t r^t`` with x_(t) descending over time.
    """
    ranked = frames.sort(dim=1, descending=True).values
    steps = torch.arange(frames.shape[1], device=frames.device, dtype=frames.dtype)
    weights = r**steps
    return (ranked * (weights / weights.sum())[None, :, None]).sum(1)


_PLAIN: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": mean,
    "max": maximum,
    "mean+std": mean_std,
}
# name -> (function, parameter for a backbone without its own tuning, what it may be)
_WITH_PARAMETER: Mapping[str, tuple[Callable[[Tensor, float], Tensor], float, str]] = {
    "gwrp": (gwrp, 0.7, "0 < r <= 1"),  # arXiv 2603.04605
}


def names() -> list[str]:
    """Names to choose from; those with a parameter take it behind a colon, ``gwrp:0.4``."""
    return sorted({*_PLAIN, *_WITH_PARAMETER})


def find(text: str, tuned: Mapping[str, float]) -> Pooling:
    """Read a pooling's name.

    Parameters
    ----------
    text
        A name, with or without ``:parameter``.
    tuned
        The backbone's own parameters by name.

    Returns
    -------
    Pooling
        Under its canonical name.

    Raises
    ------
    AsdError
        If the name is unknown or the parameter is not one it takes.
    """
    name, _, given = text.partition(":")
    if name in _PLAIN and not given:
        return Pooling(name, _PLAIN[name])
    if name not in _WITH_PARAMETER:
        raise AsdError(f"unknown pooling {text!r}; known are {', '.join(names())}")
    function, default, valid = _WITH_PARAMETER[name]
    try:
        value = float(given) if given else tuned.get(name, default)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise AsdError(f"pooling {text!r}: its parameter must be {valid}")
    return Pooling(f"{name}:{value:g}", lambda frames: function(frames, value))
