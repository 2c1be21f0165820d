"""The course of a training for people: a CSV file and, where asked for, TensorBoard's."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.files.atomic import write_atomic
from finetune.loop.state import Row


@dataclass
class History:
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
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
        write_atomic(self.path, text.getvalue().encode())
        if self._writer is not None:
            step = round(rows[-1]["epoch"])
            for name, value in rows[-1].items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
