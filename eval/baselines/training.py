"""Training of the autoencoder: vectors gathered in the batch, the loss watched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.base.errors import AsdError
from eval.baselines.frames import BANDS, STACK, Frames

# Dohi et al. 2023, section 4
BATCH = 256  # vectors
LEARNING_RATE = 1e-3  # of Adam


@dataclass(frozen=True)
class FrameBatches:
    """Vectors of clips in random order, every one once an epoch.

    Attributes
    ----------
    frames
        Where they are taken from.
    rows
        Which of its clips.
    budget
        Bytes of frames held at a time. Where the clips need more, their order is random, as many as
        fit are loaded, and vectors are mixed among these alone.
    device
        Where batches go.
    """

    frames: Frames
    rows: Sequence[int]
    budget: int
    device: torch.device

    def epoch(self, rng: torch.Generator) -> Iterator[Tensor]:
        """Yield (B, 640) batches, 2 <= B <= 257: a single vector left over joins the one before."""
        for values, starts in self._blocks(rng):
            block = torch.from_numpy(values).to(self.device)
            # Row i is frames i to i + 4: a view, copied only where a batch gathers from it.
            vectors = block.as_strided((len(block) - STACK + 1, STACK * BANDS), (BANDS, 1))
            order = torch.from_numpy(starts)[torch.randperm(len(starts), generator=rng)]
            for picked in _split(order.to(self.device)):
                yield vectors[picked]

    @property
    def count(self) -> int:
        """Vectors an epoch."""
        lengths = np.diff(self.frames.bounds)[list(self.rows)]
        return int((lengths - STACK + 1).sum())

    def _blocks(self, rng: torch.Generator) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Frames (n, 128) and the first frame of each vector (m,), m >= 2."""
        values, bounds = self.frames.values, self.frames.bounds
        if values.nbytes <= self.budget:
            yield values, vector_starts(bounds[:-1][list(self.rows)], bounds[1:][list(self.rows)])
            return
        order = [self.rows[i] for i in torch.randperm(len(self.rows), generator=rng).tolist()]
        for group in _groups(order, np.diff(bounds) * BANDS * 4, self.budget):
            ends = np.cumsum([bounds[i + 1] - bounds[i] for i in group])
            starts = vector_starts(np.concatenate([[0], ends[:-1]]), ends)
            yield np.concatenate([self.frames[i] for i in group]), starts


def train(network: nn.Module, batches: FrameBatches, seed: int, epochs: int) -> Iterator[float]:
    """Train in place, minimising the mean squared error with Adam.

    Parameters
    ----------
    network
        On the batches' device.
    batches
        The vectors.
    seed
        Of their order.
    epochs
        How often every vector is used.

    Yields
    ------
    float
        Mean loss of each epoch, dB^2.

    Raises
    ------
    AsdError
        If there are fewer than two vectors or a loss is not finite.
    """
    if batches.count < 2:
        raise AsdError("one vector of five frames is all there is to train on: give longer clips")
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    network.train()
    for epoch in range(epochs):
        total = torch.zeros((), device=batches.device)
        for vectors in batches.epoch(rng):
            total += step(network, optimiser, vectors) * len(vectors)
        loss = total.item() / batches.count
        if not math.isfinite(loss):
            raise AsdError(f"the loss of epoch {epoch + 1} is {loss}: look at the recordings' level")
        yield loss


def step(network: nn.Module, optimiser: torch.optim.Optimizer, vectors: Tensor) -> Tensor:
    """Take one step on (B, 640) vectors; the loss before it, a detached scalar."""
    optimiser.zero_grad()
    loss = nn.functional.mse_loss(network(vectors), vectors)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.detach()


def loss_fault(losses: Sequence[float]) -> str | None:
    """Say what is wrong with the losses of the epochs, if anything.

    A loss has fallen if that of the last epoch lies below that of the first; of a single epoch
    nothing can be said.
    """
    if len(losses) < 2 or losses[-1] < losses[0]:
        return None
    return (
        f"its loss did not fall: {losses[0]:.4g} in epoch 1, {losses[-1]:.4g} in epoch "
        f"{len(losses)}; the scores mean little: give more clips or more --epochs"
    )


def vector_starts(first: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """First frame of every vector that lies within one clip.

    Parameters
    ----------
    first, after
        (C,) a clip's first frame and the frame after its last.

    Returns
    -------
    ndarray
        (m,) ascending within a clip.
    """
    counts = after - first - STACK + 1
    shift = first - np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.asarray(np.arange(counts.sum()) + np.repeat(shift, counts), dtype=np.int64)


def _split(order: Tensor) -> Iterator[Tensor]:
    """Cut into batches; batch normalisation cannot train on a single vector."""
    parts = list(torch.split(order, BATCH))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


def _groups(order: Sequence[int], sizes: NDArray[np.int64], budget: int) -> Iterator[list[int]]:
    """Cut clips into groups of at most `budget` bytes; a clip larger than that stands alone.

    The last clip is put into the group before it where it would stand alone: it may be one vector.
    """
    group: list[int] = []
    held = 0
    for clip in order:
        if group and held + sizes[clip] > budget and clip != order[-1]:
            yield group
            group, held = [], 0
        group.append(clip)
        held += int(sizes[clip])
    if group:
        yield group
