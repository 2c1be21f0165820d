"""Offline work: whether anything may be fetched, and where fetched files lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

from platformdirs import user_cache_path

from cache.base.errors import NO_HOME, AsdError
from cache.base.options import option
from cache.files.places import OFFLINE, check_reachable, is_offline

__all__ = ["VARIABLE", "apply_offline", "is_offline", "offline_option"]

VARIABLE = OFFLINE
# What Hugging Face's libraries read, once, when they are imported.
_HUB_VARIABLE = "HF_HUB_OFFLINE"


HOME_VARIABLE = "ASD_HOME"
_CACHES = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}


class _Request(Protocol):
    @property
    def offline(self) -> bool: ...


def offline_option() -> Any:
    """Declare ``--offline``, the same in every request."""
    return option(False, f"fetch nothing, say what to bring instead (also: {VARIABLE}=1)")


def apply_offline(args: _Request) -> None:
    """Ask no address from here on, in this process and those it starts, where that is asked for.

    What is fetched is kept where it can be, see `extractors.weights.published.keep_caches`.
    The environment is where Hugging Face's libraries look too, so that is where it stands; call it
    before any of them is imported.

    Parameters
    ----------
    args
        A request.

    Raises
    ------
    AsdError
        If it names a place in a store that would have to be asked.
    """
    keep_caches()
    if args.offline or is_offline():
        os.environ[VARIABLE] = os.environ[_HUB_VARIABLE] = "1"
        for place in _places(args):
            check_reachable(place)


def _places(value: object) -> Iterator[Path]:
    """Yield every path of an object store in a request, nested ones too."""
    if hasattr(value, "protocol"):
        yield cast("Path", value)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _places(inner)
    elif hasattr(value, "__dict__") and not callable(value):
        for inner in vars(value).values():
            yield from _places(inner)


def home() -> Path:
    """Folder of what is fetched: ``$ASD_HOME``, else the platform's cache folder of this program.

    That is ``~/.cache/machine-asd`` on Linux, ``~/Library/Caches/machine-asd`` on macOS. It need
    not exist yet.

    Raises
    ------
    AsdError
        If the user has no home directory and the variable is not set, or needs one.
    """
    given = os.environ.get(HOME_VARIABLE)
    try:
        # Before its version 4.14 platformdirs gave a folder called "~" where there is no home.
        return (Path(given) if given else user_cache_path("machine-asd", appauthor=False)).expanduser()
    except RuntimeError as error:
        raise AsdError(f"{NO_HOME}, e.g. {HOME_VARIABLE}=/var/tmp/machine-asd") from error


def keep_caches() -> None:
    """Let libraries keep what they fetch below ``$ASD_HOME`` where the user has no home directory.

    They read these variables once, when they are imported; without them they fail, or make a folder
    called ``~``.
    """
    if os.environ.get(HOME_VARIABLE) and str(Path("~")) == os.path.expanduser("~"):  # noqa: PTH111
        for variable, folder in _CACHES.items():
            os.environ.setdefault(variable, str(home() / folder))
