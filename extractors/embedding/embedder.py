"""Outputs, their recipes, and waveforms to the vectors of all in one pass: windows, format, memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.heard import AVERAGE
from cache.recipe import Recipe, Setting
from extractors.audio.decode import RESAMPLER
from extractors.audio.hearing import Hearing
from extractors.backbone import ArrayBackbone, Backbone, BackboneSpec
from extractors.device import Device, is_out_of_memory
from extractors.embedding.revisions import code_of
from extractors.pooling import Pooling
from extractors.request import DTYPES, GRAPHS, LOCAL

Samples = NDArray[np.float32]
_Pooled = tuple[list[Any], tuple[int, ...]]  # arrays, or tensors on the device; bands
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """One table asked for.

    Attributes
    ----------
    spec
        The backbone.
    layer
        One of ``spec.layers``.
    pooling, bands
        How frames become one vector.
    dtype
        What the network computes in; front ends and poolings always compute in float32.
    hearing
        Which channel, and what of long recordings.
    engine
        What runs the network; torch's are one.
    calibration
        Of 8-bit integers: the name of the ranges, see `extractors.embedding.ranges`.
    """

    spec: BackboneSpec
    layer: int
    pooling: Pooling
    bands: str
    dtype: str = DTYPES[0]
    hearing: Hearing = field(default_factory=Hearing)
    engine: str = LOCAL
    calibration: str = ""

    @property
    def recipe(self) -> Recipe:
        """What names the table."""
        settings: dict[str, Setting] = {
            **dict(self.spec.settings),
            "code": code_of(self.spec),
            "resampler": RESAMPLER,
            "window": self.spec.max_samples,
            **self.hearing.settings,
        }
        if self.dtype != DTYPES[0]:
            settings["dtype"] = self.dtype
        if self.engine in GRAPHS:
            settings["engine"] = self.engine
        if self.calibration:
            settings["calibration"] = self.calibration
        return Recipe(
            backbone=self.spec.name,
            layer=self.layer,
            pooling=self.pooling.name,
            bands=self.bands,
            sample_rate=self.spec.sample_rate,
            weights=self.spec.weights,
            settings=tuple(sorted(settings.items())),
        )

    def blocks(self, width: int, bands: int) -> dict[str, tuple[int, int]]:
        """Name the columns: one block, or one a part or band where these are kept apart."""
        channel = self.hearing.channel
        name = self.spec.name if channel == AVERAGE else f"{self.spec.name}.{channel}"
        if self.spec.parts and width == self.spec.dim:
            each = width // len(self.spec.parts)
            parts = enumerate(self.spec.parts)
            return {f"{name}.{part}": (i * each, (i + 1) * each) for i, part in parts}
        if self.bands == "merge" or bands == 1 or self.pooling.reduce is None:
            return {name: (0, width)}
        each = width // bands
        return {f"{name}/band{i}": (i * each, (i + 1) * each) for i in range(bands)}


def window_starts(samples: int, window: int) -> list[int]:
    """Place as few windows as cover a clip, evenly, so that they overlap rather than overhang.

    Parameters
    ----------
    samples
        Length of the clip.
    window
        Length of a window.

    Returns
    -------
    list of int
        First samples, from 0 to ``samples - window``; just 0 for a clip of one window or less.
    """
    count = -(-samples // window)
    if count <= 1:
        return [0]
    return [round(i * (samples - window) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class Vectors:
    """What one pass gives, output by output.

    Attributes
    ----------
    values
        (B, D) float32 each.
    bands
        Bands of the layer each was taken from.
    """

    values: tuple[NDArray[np.float32], ...]
    bands: tuple[int, ...]


@dataclass
class Forward:
    """A backbone and what is wanted of it.

    Attributes
    ----------
    backbone
        The loaded model.
    outputs
        What to take from one pass; all of one number format and one hearing.
    device
        Where the model is.
    limit
        Clips a pass at most; halved where the device's memory does not hold them.
    onednn
        Whether oneDNN multiplies what is float32 on a CPU; see `extractors.embedding.products`.
    """

    backbone: Backbone | ArrayBackbone
    outputs: Sequence[Output]
    device: Device
    limit: int | None = None
    onednn: bool = False

    @property
    def hearing(self) -> Hearing:
        """How its recordings are heard."""
        return self.outputs[0].hearing

    def __call__(self, samples: Samples) -> Vectors:
        """Embed clips of one length.

        Parameters
        ----------
        samples
            (B, T) in [-1, 1] at the backbone's rate. A clip longer than ``spec.max_samples`` is
            heard in windows, and its vector is the mean of theirs. (B, 2, T), near and far, where
            the hearing is ``residual:W``: the vector is near's less W times far's.

        Raises
        ------
        AsdError
            If the device's memory does not hold a single clip.
        """
        if (weight := self.hearing.residual) is not None and samples.ndim == 3:
            near, far = (self(samples[:, channel]) for channel in (0, 1))
            pairs = zip(near.values, far.values, strict=True)
            return Vectors(tuple(n - np.float32(weight) * f for n, f in pairs), near.bands)
        size = min(self.limit or len(samples), len(samples))
        try:
            parts = [self._pass(samples[i : i + size]) for i in range(0, len(samples), size)]
        except (RuntimeError, MemoryError) as error:
            self._halve(size, error)
            return self(samples)
        values = zip(*(part.values for part in parts), strict=True)
        return Vectors(tuple(np.concatenate(each) for each in values), parts[0].bands)

    def in_float32(self) -> Forward:
        """Return the same without a smaller number format."""
        return replace(self, outputs=[replace(output, dtype="float32") for output in self.outputs])

    def _halve(self, size: int, error: Exception) -> None:
        if not is_out_of_memory(error):
            raise error
        if size == 1:
            raise AsdError(
                f"{self.device}: no memory for a single clip ({str(error).splitlines()[0]}); "
                "choose another device or a smaller model"
            ) from error
        self.limit = size // 2
        if self.device.type == "cuda":
            import torch  # noqa: PLC0415 (loaded already)

            torch.cuda.empty_cache()
        text = "%s has no memory for %d clips at once; on with %d"
        _LOG.info(text, self.device, size, self.limit)

    def _pass(self, samples: Samples) -> Vectors:
        layers = sorted({output.layer for output in self.outputs})
        if self.backbone.spec.arrays:

            def from_arrays(window: Samples) -> _Pooled:
                return self._outputs(layers, self.backbone.features(window, layers))  # type: ignore[arg-type]

            values, bands = self.windows(samples, from_arrays)
            return Vectors(tuple(values), bands)
        import torch  # noqa: PLC0415 (loaded already: the network needs it)

        with torch.inference_mode():
            tensors, bands = self.windows(samples, self._from_tensors)
            return Vectors(tuple(each.cpu().numpy() for each in tensors), bands)

    def windows(self, samples: Any, pooled: Callable[[Any], _Pooled]) -> _Pooled:
        """Average the windows of each clip, (B, T) arrays or tensors, each made vectors by `pooled`."""
        window = self.backbone.spec.max_samples
        starts = window_starts(samples.shape[1], window)
        total, bands = pooled(samples[:, : starts[0] + window])
        for start in starts[1:]:
            more, _ = pooled(samples[:, start : start + window])
            total = [one + other for one, other in zip(total, more, strict=True)]
        return [one / len(starts) for one in total] if len(starts) > 1 else total, bands

    def _from_tensors(self, samples: Samples) -> _Pooled:
        """One window of each clip on the device: (B, D) and the bands, for each output."""
        import torch  # noqa: PLC0415 (as above)

        from extractors.embedding.precision import reduced  # noqa: PLC0415
        from extractors.embedding.products import multiplied  # noqa: PLC0415

        waveforms, here = torch.from_numpy(np.ascontiguousarray(samples)), self.device.type == "cuda"
        # From pinned memory the copy to a GPU can run beside the arithmetic.
        waveforms = (waveforms.pin_memory() if here else waveforms).to(str(self.device), non_blocking=here)
        dtype = DTYPES[0] if self.outputs[0].engine in GRAPHS else self.outputs[0].dtype
        with multiplied(self.onednn and dtype == DTYPES[0]), reduced(waveforms.device, getattr(torch, dtype)):
            return self.of_waveforms(waveforms)

    def of_waveforms(self, waveforms: Any) -> _Pooled:
        """One window of each clip, as a tensor on the device: (B, D) tensors and the bands."""
        layers = sorted({output.layer for output in self.outputs})
        return self._outputs(layers, self.backbone.features(waveforms, layers))

    def _outputs(self, layers: Sequence[int], features: Sequence[Any]) -> _Pooled:
        of = dict(zip(layers, features, strict=True))
        values = [output.pooling(of[output.layer], output.bands) for output in self.outputs]
        return values, tuple(int(of[output.layer].frames.shape[2]) for output in self.outputs)


def least_cosine(forward: Forward, samples: Samples) -> float:
    """Smallest cosine between a clip's vectors in the outputs' number format and in float32.

    Parameters
    ----------
    forward
        With outputs in another format.
    samples
        (B, T) to compare on.
    """
    found = []
    pairs = zip(forward(samples).values, forward.in_float32()(samples).values, strict=True)
    for ours, exact in pairs:
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
        found.append(np.sum(ours * exact, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny))
    return float(np.min(found))
