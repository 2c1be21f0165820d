"""ArcFace: the own class must win by an angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cache.base.options import option
from finetune.data.mixture import Mixture
from finetune.model.head import Head, HeadOptions, check_classes, cosines, unit_centres

_SMALLEST = 1e-7  # of a squared sine: the slope of the root stays finite


@dataclass(frozen=True)
class ArcFaceOptions(HeadOptions):
    """Deng et al. 2019, section 3.1: s = 64, m = 0.5."""

    scale: float = option(64.0, "factor s of the cosines", least=1e-3, most=1e4)
    margin: float = option(0.5, "angle m added to the own class, radians", least=0.0, most=1.5)

    def build(self, dimension: int, classes: int) -> ArcFace:
        """See `HeadOptions.build`."""
        return ArcFace(dimension, classes, self)


class ArcFace(Head):
    """``softmax(s cos(theta_j + m [j = y]))``: Deng et al. 2019, eq. 3.

    theta_j is the angle between an embedding and the trainable centre of class j. Where
    theta + m passes pi the paper's cosine would rise again and pull a clip away from its class;
    there the logit is ``cos(theta) - (1 - cos(m))``, which joins it at -1 and goes on falling.

    A mixture's loss is the mean of the losses for its two classes, each with the margin on that
    class alone, weighted as the label.

    Parameters
    ----------
    dimension
        D of the embeddings.
    classes
        K, at least 2.
    options
        Scale and margin.
    """

    def __init__(self, dimension: int, classes: int, options: ArcFaceOptions) -> None:
        super().__init__()
        check_classes(classes)
        self.options = options
        self.centres = nn.Parameter(unit_centres(classes, dimension))

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """See `Head.log_probabilities`; no margin."""
        return (self.options.scale * cosines(embeddings, self.centres)).log_softmax(1)

    def losses(self, embeddings: Tensor, mixture: Mixture) -> Tensor:
        """See `Head.losses`; with the margin."""
        found = cosines(embeddings, self.centres)
        first = self._losses(found, mixture.first)
        second = self._losses(found, mixture.second)
        return torch.lerp(second, first, mixture.weight)

    def _losses(self, found: Tensor, classes: Tensor) -> Tensor:
        """Losses (B,) of cosines (B, K) for one class a clip."""
        own = found.gather(1, classes[:, None])
        logits = self.options.scale * found.scatter(1, classes[:, None], self._with_margin(own))
        return nn.functional.cross_entropy(logits, classes, reduction="none")

    def _with_margin(self, cosine: Tensor) -> Tensor:
        """``cos(theta + m)`` of a cosine, and what stands for it beyond pi."""
        margin = self.options.margin
        sine = (1 - cosine.square()).clamp_min(_SMALLEST).sqrt()
        inside = cosine > math.cos(math.pi - margin)
        shifted = cosine * math.cos(margin) - sine * math.sin(margin)
        return torch.where(inside, shifted, cosine - (1 - math.cos(margin)))


HEAD = ArcFaceOptions
