"""A training under way, on disk: a run that was killed goes on to the same weights."""

from __future__ import annotations

import io
import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from cache.base.errors import AsdError
from cache.files.atomic import write_atomic
from extractors.clips.names import write_table
from extractors.weights.loading import check_archive

Row = dict[str, float]
_DAMAGED = (
    pickle.UnpicklingError, BadZipFile, RuntimeError, EOFError, OSError,
    KeyError, IndexError, TypeError, ValueError, AttributeError,
)  # fmt: skip


@dataclass
class State:
    """The state of a training.

    Attributes
    ----------
    epoch, step
        The next one: steps of the epoch are counted from 0.
    history
        A row an epoch.
    losses
        Of the steps of the epoch under way: mean loss of each.
    tensors
        What is trained, and buffers that follow the training, by name.
    optimizer
        State of the optimizer.
    scaler
        State of the loss's scale, in float16.
    best, best_loss, best_epoch
        `tensors` of the epoch with the smallest held-out loss, where clips are held out, and how
        many epochs were done then.
    """

    epoch: int = 0
    step: int = 0
    history: list[Row] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = 0

    def save(self, path: Path, fingerprint: str) -> None:
        """Write to a file, whole or not at all.

        Parameters
        ----------
        path
            The file.
        fingerprint
            What the training is; a file of another one is not gone on with.
        """
        buffer = io.BytesIO()
        torch.save({"fingerprint": fingerprint, **vars(self)}, buffer)
        write_atomic(path, buffer.getvalue())


def resumed(path: Path, fingerprint: str) -> State | None:
    """Read a state; nothing but tensors and plain values is ever unpickled.

    Returns
    -------
    State or None
        ``None`` where there is none, or one of another training.

    Raises
    ------
    AsdError
        If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused a moment later
            content = torch.load(path, map_location="cpu", weights_only=True)
        return State(**content) if content.pop("fingerprint") == fingerprint else None
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AsdError(f"{path} is damaged ({reason}); delete it to train from the start") from error


@dataclass
class TrainingHistory:
    """Writes rows as they come.

    Attributes
    ----------
    path
        CSV file; always whole.
    tensorboard
        Folder of TensorBoard's files, if they are wanted.
    """

    path: Path
    tensorboard: Path | None = None
    _writer: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.tensorboard is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
        except ImportError as error:
            raise AsdError("--tensorboard needs the package tensorboard: pip install tensorboard") from error
        self._writer = SummaryWriter(str(self.tensorboard))

    def write(self, rows: list[Row]) -> None:
        """Write a history of one row or more, of which all but the last are written already."""
        names = dict.fromkeys(name for row in rows for name in row)
        written = [{name: f"{value:.6g}" for name, value in row.items()} for row in rows]
        write_table(self.path, list(names), written)
        if self._writer is not None:
            step = round(rows[-1]["epoch"])
            for name, value in rows[-1].items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
