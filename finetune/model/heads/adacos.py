"""AdaCos: scaled cosines whose scale follows from the number of classes or from the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cache.base.options import option
from finetune.data.mixture import Mixture
from finetune.model.head import HeadOptions, check_classes
from finetune.model.scale import ScaledHead, adapted_scale, angle


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


HEAD = AdaCosOptions
