"""Mixup: two clips become one, with both labels or with a class of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor

from cache.base.errors import AsdError
from cache.base.options import option
from finetune.data.augmentation import Augmentation, Batch
from finetune.data.draws import beta, chosen, partners
from finetune.data.mixture import Mixture


@dataclass(frozen=True)
class Mixup(Augmentation):
    """``w x + (1 - w) x'``, w of Beta(alpha, alpha): Zhang et al. 2018 (arXiv 1710.09412).

    x' is any other clip of the batch; a batch of one stays as it is. With ``soft`` labels the mixed
    clip is a normal one of class y by w and of y' by 1 - w. With ``extra`` it belongs to class K,
    "mixed": then a small alpha, which leaves most mixtures close to one of the two, is hard to
    learn.
    """

    p: float = option(0.5, "probability that a clip is mixed", least=0.0, most=1.0)
    alpha: float = option(0.2, "both parameters of the weight's distribution", least=0.01, most=100)
    labels: Literal["soft", "extra"] = option("soft", "both classes, or one more for mixed clips")

    @property
    def extra_classes(self) -> int:
        """See `Augmentation.extra_classes`."""
        return int(self.labels == "extra")

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """See `Augmentation.__call__`."""
        if not batch.labels.is_plain:
            raise AsdError("mixup of clips that are mixed already: name it once")
        count = len(batch.waveforms)
        rows = chosen(count, self.p if count > 1 else 0.0, generator)
        weight = torch.ones(count)
        weight[rows] = beta(len(rows), self.alpha, generator)
        other = torch.arange(count)
        other[rows] = partners(~torch.eye(count, dtype=torch.bool)[rows], generator)
        weight, other = weight.to(batch.waveforms.device), other.to(batch.waveforms.device)
        mixed = torch.lerp(batch.waveforms[other], batch.waveforms, weight[:, None])
        return replace(batch, waveforms=mixed, labels=self._labels(batch, other, weight))

    def _labels(self, batch: Batch, other: Tensor, weight: Tensor) -> Mixture:
        first = batch.labels.first
        if self.labels == "soft":
            return Mixture(first, first[other], weight)
        is_mixed = other != torch.arange(len(other), device=other.device)
        return Mixture.plain(first.masked_fill(is_mixed, batch.classes))


AUGMENTATION = Mixup
