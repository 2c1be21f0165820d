"""Checkpoints: what is known of them, read without running anything, fitted without a gap."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from cache.errors import AsdError

_SHOWN = 3  # keys of a kind that a message names


@dataclass(frozen=True)
class Checkpoint:
    """A published weights file.

    Attributes
    ----------
    file
        Its name.
    source
        Where it is published.
    sha256
        Of its bytes.
    licence
        Of the weights.
    paper
        What to cite.
    """

    file: str
    source: str
    sha256: str
    licence: str
    paper: str

    def __str__(self) -> str:
        return f"{self.file} ({self.licence}) from {self.source}"


EFFICIENTAT_MN04 = Checkpoint(
    file="mn04_as_mAP_432.pt",
    source="the releases of github.com/fschmid56/EfficientAT, v0.0.1",
    sha256="899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    licence="MIT",
    paper="Schmid et al. 2023, arXiv 2211.04772",
)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises
    ------
    AsdError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AsdError(f"--weights {path}: {error.strerror}") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint that is a plain mapping of names to tensors.

    Only tensors and plain containers are unpickled (``weights_only``): a file that would run code
    is refused before any of it runs.

    Parameters
    ----------
    path
        A file of `torch.save`.

    Returns
    -------
    dict
        Name to tensor, on the CPU.

    Raises
    ------
    AsdError
        If the file is missing, cut short, no checkpoint, or holds anything but tensors.
    """
    if not path.is_file():
        raise AsdError(f"--weights {path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused a moment later
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise AsdError(
            f"{path} holds more than tensors or is no checkpoint, and nothing of it was run "
            f"({reason}); fetch it again from its publisher"
        ) from error
    except (RuntimeError, EOFError, OSError, BadZipFile, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AsdError(
            f"{path} is damaged or no checkpoint ({reason}); fetch it again from its publisher"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        kind = type(state).__name__
        raise AsdError(f"{path} holds a {kind} where a mapping of names to tensors is expected")
    return dict(state)


def load_strictly(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, unused: Sequence[str] = ()
) -> None:
    """Put a checkpoint into a network, every key on both sides accounted for.

    Parameters
    ----------
    network
        What is to take it.
    state
        Name to tensor.
    path
        For messages.
    unused
        Beginnings of names that the network has no use for, a classifier's for instance.

    Raises
    ------
    AsdError
        If keys are missing, unexpected or of another shape; the first of each kind are named.
    """
    given = {name: value for name, value in state.items() if not name.startswith(tuple(unused))}
    wanted = network.state_dict()
    shared = wanted.keys() & given.keys()
    faults = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unexpected": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(n for n in shared if given[n].shape != wanted[n].shape),
    }
    found = [_listed(kind, names) for kind, names in faults.items() if names]
    if found:
        raise AsdError(f"{path} does not fit {type(network).__name__}: {'; '.join(found)}")
    network.load_state_dict(given)


def _listed(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}: {', '.join(names[:_SHOWN])}{more}"
