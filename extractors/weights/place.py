"""The one place of downloaded weights, shared by all runs of a user."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from extractors.checkpoints import Checkpoint, find

VARIABLE = "ASD_HOME"


def home() -> Path:
    """Folder of what is fetched: ``$ASD_HOME``, else the platform's cache folder of this program.

    That is ``~/.cache/machine-asd`` on Linux, ``~/Library/Caches/machine-asd`` on macOS. It need
    not exist yet.
    """
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else user_cache_path("machine-asd", appauthor=False)


def path_of(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies once it is fetched."""
    return home() / "weights" / checkpoint.file


def located(text: str) -> Path:
    """Find the file meant by ``--weights``: a path, or else the place of a checkpoint so named."""
    path, checkpoint = Path(text), find(text)
    return path if checkpoint is None or path.exists() else path_of(checkpoint)
