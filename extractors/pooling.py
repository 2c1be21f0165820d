"""Frames to one vector: the poolings of the field, over time, per band or over all bands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, overload

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError, needed
from cache.base.options import nearest, parse, text_of
from cache.base.plugins import Plugins, part
from extractors.backbone import ArrayFeatures, Features

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]

BANDS = ("merge", "keep")
_TANH = "tanh+"  # stands before the name of a pooling of bounded frames
_TINY = 1e-12  # stands for the largest value where all are 0


@dataclass(frozen=True)
class Pooling:
    """A pooling with its parameters.

    Attributes
    ----------
    name
        Canonical text, e.g. ``mean`` or ``gwrp:0.7``; stands in the recipe.
    reduce
        (B, time, C) to (B, D); ``None`` takes the model's own embedding.
    whole
        Whether a frame is all its bands together, so that they share one weight.
    """

    name: str
    reduce: Callable[[Tensor], Tensor] | None
    whole: bool = False

    @overload
    def __call__(self, features: Features, bands: str) -> Tensor: ...
    @overload
    def __call__(self, features: ArrayFeatures, bands: str) -> Array: ...
    def __call__(self, features: Features | ArrayFeatures, bands: str) -> Tensor | Array:
        """Reduce features to one vector a clip.

        Parameters
        ----------
        features
            Of one layer.
        bands
            ``merge`` pools over all time-band tokens, ``keep`` over time band by band; the model's
            own embedding knows no bands. Of whole frames, ``merge`` is the mean of what ``keep``
            puts side by side.

        Returns
        -------
        Tensor or ndarray
            (B, D) float32, or (B, band x D), band after band.
        """
        if self.reduce is None and features.native is None:
            raise AsdError("this layer has no embedding of its own: choose another pooling")
        if isinstance(features, ArrayFeatures):
            return self._of_arrays(features, bands)
        if self.reduce is None:
            return cast("Tensor", features.native).float()
        frames = features.frames.float()
        if self.whole:
            kept = self.reduce(frames.flatten(2))
            return kept if bands == "keep" else kept.reshape(len(frames), *frames.shape[2:]).mean(1)
        if bands == "merge":
            return self.reduce(frames.flatten(1, 2))
        per_band = frames.transpose(1, 2).flatten(0, 1)  # (B x band, time, C)
        return self.reduce(per_band).reshape(len(frames), -1)

    def _of_arrays(self, features: ArrayFeatures, bands: str) -> Array:
        """Clip by clip, so that no clip depends on its batch."""
        if self.reduce is None:
            return cast(Array, features.native)
        frames = features.frames  # (B, time, band, C)
        by_band = (
            frames.swapaxes(1, 2) if bands == "keep" else frames.reshape(len(frames), 1, -1, frames.shape[3])
        )
        if self.whole:
            by_band = frames.reshape(len(frames), 1, frames.shape[1], -1)
        rows = by_band.reshape(-1, *by_band.shape[2:])  # (B x band, time, C)
        if self.name in IN_NUMPY:
            pooled = np.stack([IN_NUMPY[self.name](row) for row in rows])
        else:
            try:
                import torch  # noqa: PLC0415 (an extra)
            except ImportError as error:
                raise needed(f"pooling {self.name}", error) from error
            pooled = self.reduce(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        if self.whole and bands == "merge":
            pooled = pooled.reshape(len(frames), *frames.shape[2:]).mean(1)
        return pooled.reshape(len(frames), -1)


def array_mean(frames: Array) -> Array:
    """Arithmetic mean over time: (time, C) to (C,)."""
    return np.asarray(frames.mean(0, dtype=np.float64), dtype=np.float32)


def array_mean_std(frames: Array) -> Array:
    """Mean and population standard deviation over time: (time, C) to (2 C,)."""
    values = frames.astype(np.float64)
    return np.concatenate([values.mean(0), values.std(0)], dtype=np.float32)


# Poolings that need no torch; the others take arrays through it.
IN_NUMPY: Mapping[str, Callable[[Array], Array]] = {
    "mean": array_mean,
    "max": lambda frames: frames.max(0),
    "mean+std": array_mean_std,
}


def mean_std(frames: Tensor) -> Tensor:
    """Mean and population standard deviation over time: (B, time, C) to (B, 2 C)."""
    import torch  # noqa: PLC0415

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
    import torch  # noqa: PLC0415

    ranked = frames.sort(dim=1, descending=True).values
    steps = torch.arange(frames.shape[1], device=frames.device, dtype=frames.dtype)
    weights = torch.pow(r, steps)
    return (ranked * (weights / weights.sum())[None, :, None]).sum(1)


def rdp_weights(frames: Tensor, gamma: float) -> Tensor:
    """Weigh frames by their deviation from the mean: relative deviation pooling, arXiv 2603.04605.

    Parameters
    ----------
    frames
        (B, time, C).
    gamma
        0 weighs all alike; the more, the more the deviating frames count.

    Returns
    -------
    Tensor
        (B, time, 1), sum 1 over time: ``(1 + d_t / max d)^gamma`` normalised, d_t the Euclidean
        distance of frame t to the mean frame; equal weights where no frame deviates.
    """
    import torch  # noqa: PLC0415

    deviation = torch.linalg.vector_norm(frames - frames.mean(1, keepdim=True), dim=2, keepdim=True)
    relative = deviation / deviation.amax(1, keepdim=True).clamp_min(_TINY)
    # Divided by the largest base first: 2^gamma alone would leave no digits for a large gamma.
    weights: Tensor = ((1 + relative) / 2) ** gamma
    return weights / weights.sum(1, keepdim=True)


def rdp(frames: Tensor, gamma: float) -> Tensor:
    """Relative deviation pooling (arXiv 2603.04605): (B, time, C) to (B, C); see `rdp_weights`."""
    return (rdp_weights(frames, gamma) * frames).sum(1)


def gem(frames: Tensor, p: float) -> Tensor:
    """Generalised mean pooling (Radenovic et al. 2019, eq. 3) of the positive part.

    Parameters
    ----------
    frames
        (B, time, C).
    p
        At least 1: 1 is the mean of the positive parts, infinity their maximum.

    Returns
    -------
    Tensor
        (B, C): ``(mean_t max(x_t, 0)^p)^(1/p)``.
    """
    import torch  # noqa: PLC0415

    return _power_mean(frames, torch.full_like(frames[:, :, :1], 1 / frames.shape[1]), p)


def rdp_gem(frames: Tensor, p: float, gamma: float) -> Tensor:
    """RDP's weights in GeM's mean (arXiv 2603.04605).

    Parameters
    ----------
    frames
        (B, time, C).
    p, gamma
        See `gem` and `rdp_weights`.

    Returns
    -------
    Tensor
        (B, C): ``(sum_t w_t max(x_t, 0)^p)^(1/p)``.
    """
    return _power_mean(frames, rdp_weights(frames, gamma), p)


def bounded(frames: Tensor) -> Tensor:
    """Bound values before they are pooled: below 0.1 to 0, above 0.5 to their tanh (arXiv 2603.04605)."""
    import torch  # noqa: PLC0415

    return torch.where(frames > 0.5, frames.tanh(), torch.where(frames < 0.1, 0.0, frames))


def _power_mean(frames: Tensor, weights: Tensor, p: float) -> Tensor:
    """(B, time, C) and (B, time, 1) to (B, C), scaled so that no power leaves float32's range."""
    positive = frames.clamp_min(0)
    top = positive.amax(1, keepdim=True).clamp_min(_TINY)
    return top[:, 0] * (weights * (positive / top) ** p).sum(1) ** (1 / p)


@dataclass(frozen=True)
class _Parameter:
    """A pooling's parameter: its value for a backbone without its own tuning, and its bounds."""

    name: str
    default: float
    low: float
    high: float

    def read(self, text: str, pooling: str) -> float:
        """Read a value, which lies in (low, high]."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self.low < value <= self.high:
            raise AsdError(f"pooling {pooling!r}: {self.name} must be in ({self.low:g}, {self.high:g}]")
        return value


_PLAIN: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "mean": lambda frames: frames.mean(1),
    "max": lambda frames: frames.amax(1),
    "mean+std": mean_std,
    "native": None,
}
_R = _Parameter("r", 0.7, 0, 1)  # these values: arXiv 2603.04605, for an untuned backbone
_GAMMA = _Parameter("gamma", 10, -1e-9, 1000)
_P = _Parameter("p", 6, 0, 1000)
_WITH_PARAMETERS: Mapping[str, tuple[Callable[..., Tensor], tuple[_Parameter, ...]]] = {
    "gwrp": (gwrp, (_R,)),
    "rdp": (rdp, (_GAMMA,)),
    "gem": (gem, (_P,)),
    "rdp+gem": (rdp_gem, (replace(_P, default=9), _GAMMA)),
}
# One weight a frame, by the deviation of all its bands together, where `rdp` weighs each band's
# own frames, as kasahart/dcase-asd-toolkit does (MIT). arXiv 2603.04605 leaves open which is meant.
_WHOLE = {"rdp-frames": "rdp", "rdp-frames+gem": "rdp+gem"}
_OWN = sorted({*_PLAIN, *_WITH_PARAMETERS, *_WHOLE})
_OTHERS = Plugins("", "pooling", "machine_asd.poolings")


def names() -> list[str]:
    """Names to choose from; parameters stand behind a colon: ``rdp+gem:p=3:gamma=16``.

    ``tanh+`` before any of them but ``native`` bounds the frames' values first, see `bounded`.
    """
    return sorted([*_OWN, *_OTHERS.offered(_OWN)])


def find(text: str, tuned: Mapping[str, tuple[float, ...]]) -> Pooling:
    """Read a pooling's name.

    Parameters
    ----------
    text
        A name, with or without ``:parameter=value`` for each parameter that is not left as it is.
        As earlier versions wrote it, ``:value,value`` gives all of them in their order.
    tuned
        The backbone's own parameters by name.

    Returns
    -------
    Pooling
        Under its canonical name, which recipes hold: ``rdp+gem:3,16``.

    Raises
    ------
    AsdError
        If the name is unknown or a parameter is not one it takes.
    """
    if text.startswith(_TANH):
        inner = find(text.removeprefix(_TANH), tuned)
        if (reduce := inner.reduce) is None:
            raise AsdError(f"pooling {text}: a model's own embedding has no frames to bound")
        return replace(inner, name=f"{_TANH}{inner.name}", reduce=lambda frames: reduce(bounded(frames)))
    name, colon, given = text.partition(":")
    if name in _PLAIN and not colon:
        return Pooling(name, _PLAIN[name])
    if (base := _WHOLE.get(name, name)) in _WITH_PARAMETERS:
        function, parameters = _WITH_PARAMETERS[base]
        own = tuned.get(base, tuple(parameter.default for parameter in parameters))
        values = _values(text, given, parameters, own) if colon else own
        canonical = f"{name}:{','.join(f'{value:g}' for value in values)}"
        return Pooling(canonical, lambda frames: function(frames, *values), name in _WHOLE)
    if name in _PLAIN:
        raise AsdError(f"pooling {text!r}: {name} has no parameter")
    if name not in _OTHERS.offered(_OWN):
        raise AsdError(
            f"unknown pooling {text!r}; known are {', '.join(names())}, and {_TANH} before any but native"
            f"{nearest(name, names())}"
        )
    made: object = parse(text, lambda name: cast(type, part(_OTHERS.find(name), "POOLING", "pooling")))
    return Pooling(text_of(name, made), cast(Callable[["Tensor"], "Tensor"], made))


def _values(text: str, given: str, parameters: Sequence[_Parameter], own: Sequence[float]) -> list[float]:
    """Read what stands behind a pooling's name: ``name=value`` each, or all values in order."""
    known = [parameter.name for parameter in parameters]
    if "=" not in given:
        texts = given.split(",")
        if len(texts) != len(known):
            wanted = ":".join(f"{name}=..." for name in known)
            raise AsdError(f"pooling {text!r}: expected {text.partition(':')[0]}:{wanted}")
    else:
        chosen = dict(zip(known, map(repr, own), strict=True))
        for assignment in given.split(":"):
            key, _, value = assignment.partition("=")
            if key not in known:
                raise AsdError(f"pooling {text!r} has no parameter {key!r}, only {', '.join(known)}")
            chosen[key] = value
        texts = list(chosen.values())
    return [one.read(value, text) for one, value in zip(parameters, texts, strict=True)]
