"""What a run is asked to make: a layer of a backbone, pooled one way, and its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from cache.heard import AVERAGE
from cache.recipe import Recipe, Setting
from extractors.audio.decode import RESAMPLER
from extractors.audio.hearing import Hearing
from extractors.backbone import BackboneSpec
from extractors.pooling import Pooling
from extractors.request import DTYPES, GRAPHS, LOCAL


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
        Of 8-bit integers: the name of the ranges, see `extractors.embedding.graphs`.
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
        from extractors.embedding.revisions import code_of  # noqa: PLC0415 -- torch comes with it

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
