"""How a table was made: the recipe, its canonical JSON and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json

Setting = str | int | float | bool

# Settings that say what of a recording was heard, each only where it is not all of it.
HEARING = ("channel", "window_s", "hop_s", "length", "rate", "column", "dc")
NETWORK = ("dtype", "engine", "calibration")  # how the network computed, where not in torch's float32


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an embedding's value beside the clip itself.

    Attributes
    ----------
    backbone
        Name of the pre-trained model; ``a+b`` for a concatenation.
    layer
        Layer the frames are taken from, 0 where there is only one.
    pooling
        Canonical name of the pooling with its parameter, e.g. ``gwrp:0.7``.
    bands
        ``merge`` (one vector over all bands) or ``keep`` (one vector a band).
    sample_rate
        Rate of the waveform the model hears, Hz.
    weights
        SHA-256 of the weights file; ``None`` where there are none.
    settings
        Name and value of whatever else moves the numbers: front end, resampler and its version.
    parents
        The recipes concatenated; every field above but `backbone` is ``None`` then.
    """

    backbone: str
    layer: int | None = None
    pooling: str | None = None
    bands: str | None = None
    sample_rate: int | None = None
    weights: str | None = None
    settings: tuple[tuple[str, Setting], ...] = ()
    parents: tuple[Recipe, ...] = ()

    @cached_property
    def canonical(self) -> str:
        """JSON with sorted keys and no spaces: equal recipes, equal text."""
        return json.dumps(_to_dict(self), sort_keys=True, separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of `canonical`."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    @property
    def named(self) -> str:
        """The backbone as on the command line: ``NAME``, or ``NAME:VARIANT``."""
        variant = dict(self.settings).get("variant")
        return f"{self.backbone}:{variant}" if variant else self.backbone

    @property
    def heard_rate(self) -> int | None:
        """Highest rate that a model of it hears, Hz: nothing above half of it counts."""
        return max((each.sample_rate or 0 for each in self.parents or (self,)), default=0) or None

    def __str__(self) -> str:
        if self.parents:
            return " + ".join(str(parent) for parent in self.parents)
        settings = dict(self.settings)
        heard = "".join(f" {name}={settings[name]}" for name in (*HEARING, *NETWORK) if name in settings)
        weights = f" weights={self.weights[:12]}" if self.weights else ""
        return f"{self.named} layer={self.layer} pooling={self.pooling} bands={self.bands}{weights}{heard}"


def concatenation(parents: Sequence[Recipe]) -> Recipe:
    """Return the recipe of tables joined side by side; a single parent is returned as it is.

    Parameters
    ----------
    parents
        Recipes in column order.
    """
    if len(parents) == 1:
        return parents[0]
    return Recipe(backbone="+".join(p.backbone for p in parents), parents=tuple(parents))


def from_json(text: str) -> Recipe:
    """Read a recipe back from its canonical JSON.

    Parameters
    ----------
    text
        What `Recipe.canonical` gave.

    Raises
    ------
    AsdError
        If the text is not a recipe.
    """
    try:
        return _from_dict(parse_json(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AsdError(f"not a recipe: {text[:80]!r} ({error})") from error


def _to_dict(recipe: Recipe) -> dict[str, Any]:
    return asdict(recipe) | {
        "settings": dict(recipe.settings),
        "parents": [_to_dict(parent) for parent in recipe.parents],
    }


def _from_dict(fields: Mapping[str, Any]) -> Recipe:
    settings = tuple(sorted(fields["settings"].items()))
    parents = tuple(_from_dict(parent) for parent in fields["parents"])
    return Recipe(**{**fields, "settings": settings, "parents": parents})
