"""A linear layer, softmax and cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from finetune.model.head import Head, HeadOptions, check_classes


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


HEAD = LinearOptions
