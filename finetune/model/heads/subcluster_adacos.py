"""Sub-cluster AdaCos: a class is a set of centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cache.base.options import option
from finetune.data.mixture import Mixture
from finetune.model.head import HeadOptions, check_classes
from finetune.model.scale import ScaledHead, adapted_scale, angle


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


HEAD = SubclusterAdaCosOptions
