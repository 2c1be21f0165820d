"""The autoencoder: its network, its training, its residuals, its file, and what names that file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import write_atomic
from eval.baselines.frames import BANDS, STACK, FrameBatches
from eval.baselines.scoring import Residuals
from extractors.audio.decode import RESAMPLER
from extractors.audio.hearing import Hearing
from extractors.weights.loading import tensors_sha256

# Dohi et al. 2023, section 4: input, encoder, bottleneck, decoder, output.
WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
LEARNING_RATE = 1e-3  # of Adam
_MOMENTUM, _EPSILON = 0.01, 1e-3  # of the batch normalisation; running = 0.99 running + 0.01 batch


class Autoencoder(nn.Module):
    """Dense layers, each but the last followed by batch normalisation and ReLU.

    Weights start as PyTorch's linear layers do.

    Parameters
    ----------
    seed
        Of the first weights.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [
                layer
                for width_in, width in pairwise(WIDTHS)
                for layer in (
                    nn.Linear(width_in, width),
                    nn.BatchNorm1d(width, eps=_EPSILON, momentum=_MOMENTUM),
                    nn.ReLU(),
                )
            ]
        self.layers = nn.Sequential(*layers[:-2])  # the output takes any value

    def forward(self, vectors: Tensor) -> Tensor:
        """Reconstruct (B, 640) vectors of five frames each, dB; two or more while training."""
        reconstructed: Tensor = self.layers(vectors)
        return reconstructed


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


_VERSION = "2"  # of what a model depends on beside its clips; another one trains anew
_VECTORS = 4096  # reconstructed at a time


@dataclass(frozen=True)
class Model:
    """An autoencoder after training.

    Attributes
    ----------
    network
        In evaluation mode.
    losses
        Mean loss of each epoch, dB^2.
    device
        Where the network is.
    """

    network: Autoencoder
    losses: tuple[float, ...]
    device: torch.device

    def residuals(self, frames: NDArray[np.float32]) -> Residuals:
        """Compute ``psi - r(psi)``, (T - 4, 5, 128), of a clip's (T, 128) frames."""
        windows = np.lib.stride_tricks.sliding_window_view(frames, (STACK, BANDS))[:, 0]
        vectors = torch.from_numpy(windows.reshape(len(windows), -1).copy()).to(self.device)
        with torch.inference_mode():
            left = [part - self.network(part) for part in torch.split(vectors, _VECTORS)]
        return torch.cat(left).reshape(-1, STACK, BANDS).cpu().numpy()

    def save(self, path: Path) -> None:
        """Write to a file, whole or not at all."""
        tensors = {name: value.cpu() for name, value in self.network.state_dict().items()}
        losses = json.dumps(self.losses)
        record = {"losses": losses, "sha256": tensors_sha256(tensors, losses)}
        write_atomic(path, safetensors.torch.save(tensors, record))


@dataclass(frozen=True)
class Training:
    """One training: which clips of a machine, how.

    Attributes
    ----------
    batches
        The clips' vectors.
    hearing
        How the clips were heard.
    seed
        Of weights and order.
    epochs
        How often every vector is used.
    """

    batches: FrameBatches
    hearing: Hearing
    seed: int
    epochs: int

    def path(self, folder: Path) -> Path:
        """Where its model lies: named by the clips, so that other clips train another model."""
        keys = [self.batches.frames.keys[i] for i in self.batches.rows]
        settings = [self.hearing.settings] if self.hearing.settings else []
        text = json.dumps(
            [_VERSION, RESAMPLER, [(key.clip_id, key.content_sha256) for key in keys], *settings]
        )
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        machine = self.batches.frames.clips[0].section.machine_type
        return folder / machine / f"seed_{self.seed}_epochs_{self.epochs}_{digest}.safetensors"

    def model(self, folder: Path, told: Callable[[int], object]) -> Model:
        """Load the model where it was trained before, else train and save it.

        Parameters
        ----------
        folder
            Of all models.
        told
            Of every number of epochs done.

        Raises
        ------
        AsdError
            If training fails or the file is damaged.
        """
        path, device = self.path(folder), self.batches.device
        if path.exists():
            told(self.epochs)
            return load_model(path, device)
        network = Autoencoder(self.seed).to(device)
        losses = []
        for loss in train(network, self.batches, self.seed, self.epochs):
            losses.append(loss)
            told(1)
        model = Model(network.eval(), tuple(losses), device)
        model.save(path)
        return model


def load_model(path: Path, device: torch.device) -> Model:
    """Read a model.

    Raises
    ------
    AsdError
        If the file is damaged or not one of these models.
    """
    network = Autoencoder(seed=0)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            record = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in network.state_dict()}
        intact = record["sha256"] == tensors_sha256(state, record["losses"])
        losses = parse_json(record["losses"])
        network.load_state_dict(state)
    except (safetensors.SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise AsdError(f"{path} is damaged: {error}; delete it and run again") from error
    if not intact:
        raise AsdError(f"{path} is damaged: it does not match its SHA-256; delete it and run again")
    return Model(network.to(device).eval(), tuple(losses), device)
