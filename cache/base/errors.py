"""The one exception a user may cause, and what a command line does with it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import wraps
from typing import Protocol

from cache.base import processors
from cache.base.text import shown, shown_streams

# What a file system's refusal asks for.
_FORBIDDEN = "no permission there: ask for it, or name another folder"
REMEDIES = {
    errno.ENOSPC: "the disk is full: free space or write to another folder",
    errno.EDQUOT: "the disk quota is used up: free space or write to another folder",
    errno.EFBIG: "larger than a file may be here: raise `ulimit -f` or write to another folder",
    errno.EROFS: "the file system is read-only: write to another folder",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}
# Of the libraries below; a thread that cannot start lacks memory for its stack.
_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "bad_alloc", "bad allocation", "can't start new thread", "failed to launch worker thread",
    "could not execute a primitive",  # oneDNN, whatever it lacked
)  # fmt: skip
NO_HOME = "no home directory: HOME is not set and the user has no name here; set ASD_HOME to a folder"
_SHOWN = 10  # items of a kind that are named before the rest is counted


class Main(Protocol):
    """A command line's entry point: arguments (the process's own by default) to exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Run the command and return the process's exit code."""


class AsdError(Exception):
    """Something the user can put right.

    Its text names the file or value seen, what was expected, and the remedy; it is fit to be shown
    anywhere, see `cache.base.text.shown`.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


def tell_some(kind: str, items: Sequence[object]) -> None:
    """Name the first items on stderr, a line each, and count the rest.

    Parameters
    ----------
    kind
        What they are: ``left out``, ``warning``.
    items
        Any number.
    """
    for item in items[:_SHOWN]:
        sys.stderr.write(shown(f"{kind}: {item}\n"))
    if len(items) > _SHOWN:
        sys.stderr.write(f"{kind}: and {len(items) - _SHOWN} more\n")


def listing(items: Sequence[object], most: int = _SHOWN) -> str:
    """Name the first items, a comma between, and count the rest; ``nothing`` where there is none.

    Parameters
    ----------
    items
        Any number.
    most
        How many are named.
    """
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return (", ".join(map(str, items[:most])) or "nothing") + rest


def reasons(title: str, items: Sequence[object]) -> AsdError:
    """Make an error of many: a line each, those beyond the first ten counted."""
    rest = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return AsdError("\n  ".join([title, *map(str, items[:_SHOWN]), *rest]))


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether the machine, or a device, lacked memory, whichever library says so."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


# Module to the extra of ours that brings it.
_EXTRAS = {
    **dict.fromkeys(("torch", "torchaudio", "transformers", "safetensors", "huggingface_hub"), "torch"),
    **dict.fromkeys(("accelerate", "peft"), "finetune"),
    "matplotlib": "figures", "umap": "umap", "tensorboard": "tensorboard", "ray": "ray",
    "sounddevice": "microphone", "paho": "mqtt", "s3fs": "s3", "gcsfs": "gcs", "diffusers": "synthesis",
    "onnx": "onnx", "onnxruntime": "onnx", "openvino": "openvino",
}  # fmt: skip


def needed(what: str, error: ImportError, extra: str = "") -> AsdError:
    """Say which package is missing for what, and the extra that brings it.

    Parameters
    ----------
    what
        Cannot be had without it; empty where nothing in particular is known.
    error
        Raised when the package was imported.
    extra
        Of ours that has all of it; by default the one that brings the package.
    """
    name = (error.name or "").partition(".")[0]
    extra = extra or _EXTRAS.get(name, "")
    asked = f"machine-asd[{extra}]" if extra else name
    if not isinstance(error, ModuleNotFoundError) or not name:
        return AsdError(f"{what or name} cannot be loaded: {error}; pip install --force-reinstall '{asked}'")
    return AsdError(f"{what or 'this'} needs {name}, which is not installed: pip install '{asked}'")


def guarded(main: Main) -> Main:
    """Turn what a user can put right into one line on stderr and exit code 2.

    It also sees to it that the process shares the machine, see `cache.base.processors.share`.
    A full disk, a read-only one and a lack of memory are among it, wherever they are met. What it
    prints is fit to be shown, whoever wrote the names in it.

    Parameters
    ----------
    main
        A command line's entry point.

    Returns
    -------
    Main
        The same entry point; every other exception still ends with its traceback.
    """

    @wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        processors.share()
        with shown_streams():
            return attempt(argv)

    def attempt(argv: Sequence[str] | None) -> int:
        try:
            return main(argv)
        except AsdError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRAS:
                raise
            sys.stderr.write(f"error: {needed('', error)}\n")
            return 2
        except KeyboardInterrupt:
            sys.stderr.write("stopped; what is finished stays, the same command goes on from there\n")
            return 130
        except BrokenPipeError:
            # Who reads the output has read enough, `head` for instance. Python flushes once more
            # at the end; that must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (OSError, MemoryError, RuntimeError) as error:
            told = _lacking(error)
            if told is None:
                raise
            sys.stderr.write(f"error: {told}\n")
            return 2

    return run


def _lacking(error: Exception) -> str | None:
    """Say what the machine lacked, and the remedy; ``None`` for any other error."""
    if is_out_of_memory(error):
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return (
            f"not enough memory ({reason or 'MemoryError'}); what is finished stays. Close other "
            "programs or raise the limit, or ask for less at a time: a smaller --batch-size, one "
            "backbone, --window for long recordings; then run the same command again"
        )
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, platformdirs'
        return NO_HOME
    if isinstance(error, OSError) and error.errno in REMEDIES:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; {REMEDIES[error.errno]}; what is finished stays"
    return None
