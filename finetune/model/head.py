"""What a head is; cosines to centres, and their scale after AdaCos (Zhang et al. 2019)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cache.base import options
from cache.base.errors import AsdError
from finetune.data.augmentation import Mixture
from finetune.model import HEADS


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


def parse(text: str) -> HeadOptions:
    """Read ``NAME[:option=value...]``, as ``arcface:scale=30:margin=0.4``.

    Raises
    ------
    AsdError
        If the head, an option or a value is unknown; the known ones are listed.
    """
    made: HeadOptions = options.parse(text, HEADS.part)
    return made


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


# Where the formulas leave what a softmax can use: below the scale of three classes (at two the
# fixed scale is 0 and nothing would ever be learnt; a batch's may be negative), and above
# ArcFace's s = 64, where a loss in float32 has only the nearest class left.
LEAST = math.sqrt(2) * math.log(2)
MOST = 64.0


class ScaledHead(Head):
    """Trainable or fixed centres, and a scale that is constant or follows the batch.

    A dynamic scale is measured on every batch in training mode, before its loss, as in the paper's
    algorithm. In evaluation mode it stays as it is; it is kept in the state, so that training
    continues as if it had not been stopped.

    Parameters
    ----------
    shape
        Number of centres, at least 2, and D of the embeddings.
    dynamic
        Whether the scale follows the batch; it begins at `fixed_scale`.
    trainable
        Whether the centres are learnt.
    """

    scale: Tensor

    def __init__(self, shape: tuple[int, int], *, dynamic: bool, trainable: bool = True) -> None:
        super().__init__()
        self.dynamic = dynamic
        self.centres = nn.Parameter(unit_centres(*shape), trainable)
        self.register_buffer("scale", torch.tensor(fixed_scale(shape[0])))

    @abstractmethod
    def measured(self, found: Tensor, mixture: Mixture) -> Tensor:
        """Scale that a batch asks for, from its cosines (B, centres) and labels: a scalar."""

    def log_shares(self, embeddings: Tensor) -> Tensor:
        """Log-softmax of the scaled cosines over all centres: (B, D) to (B, centres)."""
        return (self.scale * cosines(embeddings, self.centres)).log_softmax(1)

    def losses(self, embeddings: Tensor, mixture: Mixture) -> Tensor:
        """See `Head.losses`; a dynamic scale is measured first."""
        if self.training and self.dynamic:
            with torch.no_grad():
                self.scale = self.measured(cosines(embeddings, self.centres), mixture)
        return super().losses(embeddings, mixture)


def fixed_scale(centres: int) -> float:
    """``sqrt(2) log(centres - 1)``: Zhang et al. 2019, the fixed AdaCos.

    Parameters
    ----------
    centres
        At least 2. Of 2 the formula gives 0; they get the scale of 3.
    """
    return max(LEAST, math.sqrt(2) * math.log(centres - 1))


def angle(cosine: Tensor) -> Tensor:
    """Angles of cosines, radians; rounding beyond 1 is cut off."""
    return cosine.clamp(-1, 1).acos()


def adapted_scale(logits: Tensor, angles: Tensor) -> Tensor:
    """``log(B_avg) / cos(min(pi / 4, theta_med))``: Zhang et al. 2019, the dynamic AdaCos.

    Parameters
    ----------
    logits
        (B, N), cosines times the last scale, whose exponentials a clip's B sums; -inf leaves one
        out.
    angles
        (B,) of each clip to its own class, radians.

    Returns
    -------
    Tensor
        A scalar, kept within the scale of 3 classes and 64; B_avg is the mean of B, theta_med
        the median of `angles`.
    """
    log_mean = logits.flatten().logsumexp(0) - math.log(len(logits))
    median = angles.quantile(0.5)
    return (log_mean / torch.cos(median.clamp(max=math.pi / 4))).clamp(LEAST, MOST)
