"""A trained autoencoder: its residuals, its file, and what names that file."""

from __future__ import annotations

import hashlib
import json
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
from eval.baselines.distances import Residuals
from eval.baselines.frames import BANDS, STACK, Frames
from eval.baselines.training import FrameBatches, train
from extractors.audio.decode import RESAMPLER
from extractors.weights.loading import tensors_sha256

# Dohi et al. 2023, section 4: input, encoder, bottleneck, decoder, output.
WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
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
            layers = [layer for widths in pairwise(WIDTHS) for layer in _layer(*widths)]
        self.layers = nn.Sequential(*layers[:-2])  # the output takes any value

    def forward(self, vectors: Tensor) -> Tensor:
        """Reconstruct (B, 640) vectors of five frames each, dB; two or more while training."""
        reconstructed: Tensor = self.layers(vectors)
        return reconstructed


def _layer(width_in: int, width_out: int) -> list[nn.Module]:
    normalisation = nn.BatchNorm1d(width_out, eps=_EPSILON, momentum=_MOMENTUM)
    return [nn.Linear(width_in, width_out), normalisation, nn.ReLU()]


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
class ModelRun:
    """One training: which machine, which clips of it, how.

    Attributes
    ----------
    frames
        The machine's training clips.
    rows
        Which of them are trained on.
    seed
        Of weights, order and the clips held out.
    epochs
        How often every vector is used.
    """

    frames: Frames
    rows: Sequence[int]
    seed: int
    epochs: int

    def path(self, folder: Path) -> Path:
        """Where its model lies: named by the clips, so that other clips train another model."""
        section = self.frames.clips[0].section
        used = [(self.frames.clips[i].clip_id, self.frames.hashes[i]) for i in self.rows]
        text = json.dumps([_VERSION, RESAMPLER, used])
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = f"seed_{self.seed}_epochs_{self.epochs}_{digest}.safetensors"
        return folder / section.machine_type / name

    def model(self, folder: Path, batches: FrameBatches, told: Callable[[int], object]) -> Model:
        """Load the model where it was trained before, else train and save it.

        Parameters
        ----------
        folder
            Of all models.
        batches
            The vectors to train on.
        told
            Of every number of epochs done.

        Raises
        ------
        AsdError
            If training fails or the file is damaged.
        """
        path = self.path(folder)
        if path.exists():
            told(self.epochs)
            return load_model(path, batches.device)
        network = Autoencoder(self.seed).to(batches.device)
        losses = list(self._train(network, batches, told))
        model = Model(network.eval(), tuple(losses), batches.device)
        model.save(path)
        return model

    def _train(
        self, network: Autoencoder, batches: FrameBatches, told: Callable[[int], object]
    ) -> Iterator[float]:
        for loss in train(network, batches, self.seed, self.epochs):
            told(1)
            yield loss


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
