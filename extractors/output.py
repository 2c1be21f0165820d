"""What a run is asked to make: a layer of a backbone, pooled one way, and its recipe."""

from __future__ import annotations

from dataclasses import dataclass

from cache.recipe import Recipe, Setting
from extractors.audio import RESAMPLER
from extractors.backbone import BackboneSpec
from extractors.pooling import Pooling

DTYPES = ("float32", "bfloat16", "float16")


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
    """

    spec: BackboneSpec
    layer: int
    pooling: Pooling
    bands: str
    dtype: str = DTYPES[0]

    @property
    def recipe(self) -> Recipe:
        """What names the table."""
        settings: dict[str, Setting] = {
            **dict(self.spec.settings),
            "resampler": RESAMPLER,
            "window": self.spec.max_samples,
        }
        if self.dtype != DTYPES[0]:
            settings["dtype"] = self.dtype
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
        """Name the columns: one block, or one a band where the bands are kept apart."""
        name = self.spec.name
        if self.bands == "merge" or bands == 1 or self.pooling.reduce is None:
            return {name: (0, width)}
        each = width // bands
        return {f"{name}/band{i}": (i * each, (i + 1) * each) for i in range(bands)}
