"""What a head is, and the heads there are: one file in ``finetune/heads/`` each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from cache.base import options
from cache.base.errors import AsdError
from finetune.data.mixture import Mixture
from finetune.parts import HEADS


class Head(nn.Module, ABC):
    """Embeddings to class probabilities and the loss of a training batch.

    Everything is computed in float32, under autocast too: half precision has too few digits for
    an angle. Parameters are drawn from torch's global generator: seed it before.
    """

    @abstractmethod
    def log_probabilities(self, embeddings: Tensor) -> Tensor:
        """Logarithms of what `predict` gives, (B, D) float32 to (B, K)."""

    def losses(self, embeddings: Tensor, mixture: Mixture) -> Tensor:
        """Cross-entropy of each clip with its soft label, (B, D) float32 to (B,)."""
        return -mixture.average(self.log_probabilities(embeddings))

    def loss(self, embeddings: Tensor, mixture: Mixture) -> Tensor:
        """Compute the mean loss of a batch.

        Parameters
        ----------
        embeddings
            (B, D), B >= 1; of any length: a head that compares angles normalises them itself.
        mixture
            Labels of the B clips.

        Returns
        -------
        Tensor
            A float32 scalar.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.losses(embeddings.float(), mixture).mean()

    def predict(self, embeddings: Tensor) -> Tensor:
        """Compute class probabilities without any margin.

        Parameters
        ----------
        embeddings
            (B, D).

        Returns
        -------
        Tensor
            (B, K) float32, rows sum to 1.
        """
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return self.log_probabilities(embeddings.float()).exp()


class HeadOptions(options.Options, ABC):
    """Options of a head; out of range, they raise an `AsdError`."""

    @abstractmethod
    def build(self, dimension: int, classes: int) -> Head:
        """Build the head.

        Parameters
        ----------
        dimension
            D of the embeddings.
        classes
            K, at least 2: see `check_classes`.
        """


def names() -> list[str]:
    """Names to choose from; none of them is imported."""
    return HEADS.names()


def parse(text: str) -> HeadOptions:
    """Read ``NAME[:option=value...]``, as ``arcface:scale=30:margin=0.4``.

    Raises
    ------
    AsdError
        If the head, an option or a value is unknown; the known ones are listed.
    """
    return options.parse(text, _find)


def check_classes(classes: int) -> None:
    """Refuse to tell one class apart from nothing.

    Raises
    ------
    AsdError
        If there are fewer than 2 classes.
    """
    if classes < 2:
        raise AsdError(
            f"{classes} class to learn: its loss would always be 0; choose labels that tell the "
            "clips apart, or add data of another machine"
        )


def unit_centres(count: int, dimension: int) -> Tensor:
    """Draw directions that are uniform on the sphere: (count, dimension), of length 1."""
    return nn.functional.normalize(torch.randn(count, dimension))


def cosines(embeddings: Tensor, centres: Tensor) -> Tensor:
    """Cosine of the angle between each of (B, D) and each of (N, D): (B, N)."""
    unit = nn.functional.normalize(embeddings)
    return unit @ nn.functional.normalize(centres).T


def _find(name: str) -> type[HeadOptions]:
    return cast(type[HeadOptions], HEADS.find(name).HEAD)
