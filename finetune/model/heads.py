"""The heads there are: linear, ArcFace, AdaCos, sub-cluster AdaCos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cache.base.options import option
from finetune.data.augmentation import Mixture
from finetune.model.head import (
    Head,
    HeadOptions,
    ScaledHead,
    adapted_scale,
    angle,
    check_classes,
    cosines,
    unit_centres,
)


class Linear(Head):
    """``p = softmax(W x + b)``.

    Parameters
    ----------
    dimension
        D of the embeddings.
    classes
        K, at least 2.
    """

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        check_classes(classes)
        self.linear = nn.Linear(dimension, classes)

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """See `Head.log_probabilities`."""
        logits: Tensor = self.linear(embeddings)
        return logits.log_softmax(1)


@dataclass(frozen=True)
class LinearOptions(HeadOptions):
    """There are none."""

    def build(self, dimension: int, classes: int) -> Linear:
        """See `HeadOptions.build`."""
        return Linear(dimension, classes)


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
        logits = self.options.scale * found.scatter(1, classes[:, None], self.with_margin(own))
        return nn.functional.cross_entropy(logits, classes, reduction="none")

    def with_margin(self, cosine: Tensor) -> Tensor:
        """``cos(theta + m)`` of a cosine, and what stands for it beyond pi."""
        margin = self.options.margin
        sine = (1 - cosine.square()).clamp_min(_SMALLEST).sqrt()
        inside = cosine > math.cos(math.pi - margin)
        shifted = cosine * math.cos(margin) - sine * math.sin(margin)
        return torch.where(inside, shifted, cosine - (1 - math.cos(margin)))


@dataclass(frozen=True)
class AdaCosOptions(HeadOptions):
    """Zhang et al. 2019; the dynamic scale is the paper's proposal."""

    scale: Literal["dynamic", "fixed"] = option("dynamic", "measured on each batch, or constant")

    def build(self, dimension: int, classes: int) -> AdaCos:
        """See `HeadOptions.build`."""
        return AdaCos(dimension, classes, self)


class AdaCos(ScaledHead):
    """``softmax(s cos(theta_j))``: Zhang et al. 2019; theta_j as in ArcFace, no margin.

    The fixed scale is ``sqrt(2) log(K - 1)``, see `fixed_scale`. For the dynamic one, see
    `adapted_scale`: B_avg sums over the classes that are not in the clip's label, theta_med is
    the median angle to the own class (of a mixture: the weighted mean of both angles).

    Parameters
    ----------
    dimension
        D of the embeddings.
    classes
        K, at least 2.
    options
        Which scale.
    """

    def __init__(self, dimension: int, classes: int, options: AdaCosOptions) -> None:
        check_classes(classes)
        super().__init__((classes, dimension), dynamic=options.scale == "dynamic")

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """See `Head.log_probabilities`."""
        return self.log_shares(embeddings)

    def measured(self, found: Tensor, mixture: Mixture) -> Tensor:
        """See `ScaledHead.measured`."""
        own = torch.stack([mixture.first, mixture.second], dim=1)
        logits = (self.scale * found).scatter(1, own, -torch.inf)
        return adapted_scale(logits, mixture.average(angle(found)))


@dataclass(frozen=True)
class SubclusterAdaCosOptions(HeadOptions):
    """Wilkinghoff 2021: 16 trainable centres a class, dynamic scale."""

    centres: int = option(16, "centres a class, C", least=1, most=1024)
    trainable: bool = option(True, "whether centres are learnt, or stay as drawn")
    scale: Literal["dynamic", "fixed"] = option("dynamic", "measured on each batch, or constant")

    def build(self, dimension: int, classes: int) -> SubclusterAdaCos:
        """See `HeadOptions.build`."""
        return SubclusterAdaCos(dimension, classes, self)


class SubclusterAdaCos(ScaledHead):
    """Softmax over all K C centres, probabilities summed over the C of a class.

    ``p_j = sum_l exp(s cos(theta_jl)) / sum_k sum_l exp(s cos(theta_kl))``: Wilkinghoff 2021,
    "Sub-Cluster AdaCos: Learning Representations for Anomalous Sound Detection". The fixed scale
    is ``sqrt(2) log(K C - 1)``. The dynamic scale differs from AdaCos as in that paper, which
    trains on mixtures: B_avg sums over the centres of all classes, the own ones too. A clip's own
    angle is taken to the nearest centre of its class (of a mixture: the weighted mean of both
    angles).

    Parameters
    ----------
    dimension
        D of the embeddings.
    classes
        K, at least 2.
    options
        Number and kind of centres, which scale.
    """

    def __init__(self, dimension: int, classes: int, options: SubclusterAdaCosOptions) -> None:
        check_classes(classes)
        super().__init__(
            (classes * options.centres, dimension),
            dynamic=options.scale == "dynamic",
            trainable=options.trainable,
        )
        self.classes = classes

    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """See `Head.log_probabilities`."""
        return self._by_class(self.log_shares(embeddings)).logsumexp(2)

    def measured(self, found: Tensor, mixture: Mixture) -> Tensor:
        """See `ScaledHead.measured`."""
        nearest = self._by_class(found).amax(2)
        return adapted_scale(self.scale * found, mixture.average(angle(nearest)))

    def _by_class(self, values: Tensor) -> Tensor:
        """(B, K C) to (B, K, C)."""
        return values.reshape(len(values), self.classes, -1)


CHOICES = {
    "adacos": AdaCosOptions,
    "arcface": ArcFaceOptions,
    "linear": LinearOptions,
    "subcluster-adacos": SubclusterAdaCosOptions,
}
