"""The one place of downloaded weights, shared by all runs of a user."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from cache.base.errors import NO_HOME, AsdError
from cache.files.digest import file_sha256
from cache.select import Selection
from extractors.weights.published import Checkpoint, find

VARIABLE = "ASD_HOME"
_CACHES = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}


def home() -> Path:
    """Folder of what is fetched: ``$ASD_HOME``, else the platform's cache folder of this program.

    That is ``~/.cache/machine-asd`` on Linux, ``~/Library/Caches/machine-asd`` on macOS. It need
    not exist yet.

    Raises
    ------
    AsdError
        If the user has no home directory and the variable is not set, or needs one.
    """
    given = os.environ.get(VARIABLE)
    try:
        return Path(given).expanduser() if given else user_cache_path("machine-asd", appauthor=False)
    except RuntimeError as error:
        raise AsdError(f"{NO_HOME}, e.g. {VARIABLE}=/var/tmp/machine-asd") from error


def keep_caches() -> None:
    """Let libraries keep what they fetch below ``$ASD_HOME`` where the user has no home directory.

    They read these variables once, when they are imported; without them they fail, or make a folder
    called ``~``.
    """
    if os.environ.get(VARIABLE) and str(Path("~")) == os.path.expanduser("~"):  # noqa: PTH111
        for variable, folder in _CACHES.items():
            os.environ.setdefault(variable, str(home() / folder))


def path_of(checkpoint: Checkpoint) -> Path:
    """Where a checkpoint lies once it is fetched."""
    return home() / "weights" / checkpoint.file


def with_hashes(wanted: Selection) -> Selection:
    """Name weights by their hashes, as recipes do, where a user named files.

    A name that is no file may be a checkpoint's, whose published hash is meant, or the beginning of
    a hash, as earlier versions took it.

    Raises
    ------
    AsdError
        If it is none of these.
    """
    return replace(wanted, weights=(), weights_hash=(*wanted.weights_hash, *map(_hash_of, wanted.weights)))


def _hash_of(text: str) -> str:
    path, checkpoint = located(text), find(text)
    if path.is_file():
        return file_sha256(path)
    if checkpoint is not None and checkpoint.sha256:
        return checkpoint.sha256
    if re.fullmatch("[0-9a-f]{4,64}|random", text):
        return text
    raise AsdError(
        f"--weights {text}: no such file and no known checkpoint; give the file, a name of "
        "`python -m extractors.weights list`, or --weights-hash"
    )


def located(text: str) -> Path:
    """Find the file meant by ``--weights``: a path, or else the place of a checkpoint so named."""
    path, checkpoint = Path(text), find(text)
    return path if checkpoint is None or path.exists() else path_of(checkpoint)
