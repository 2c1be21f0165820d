"""Checkpoints: found for a backbone, read without running code in them, loaded key by key."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cache.base.errors import AsdError, listing
from extractors.backbone import Source
from extractors.weights.published import Checkpoint, find, published, usual
from extractors.weights.store import expected_hash, fetch

M = TypeVar("M", bound=nn.Module)
Trusted = Callable[..., object] | tuple[Callable[..., object], str]
_SHOWN = 3  # keys of a kind that a message names
# torch.save stores its parts as they are; what unpacks to more was not made by it.
_UNPACKED = 2
_DAMAGED = (RuntimeError, EOFError, OSError, BadZipFile, ValueError, KeyError)


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, read once: what is hashed is what is loaded.

    Attributes
    ----------
    path
        Where it was.
    sha256
        Of its bytes, hexadecimal.
    data
        Its bytes.
    """

    path: Path
    sha256: str
    data: bytes = field(repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


def read_weights(path: Path) -> WeightsFile:
    """Read a file of weights.

    Raises
    ------
    AsdError
        If it is not there or cannot be read.
    """
    if not path.is_file():
        raise AsdError(f"--weights {path}: no such file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AsdError(f"{path} cannot be read: {error.strerror}") from error
    return WeightsFile(path, hashlib.sha256(data).hexdigest(), data)


def needed(source: Source, backbone: str, known: Sequence[Checkpoint]) -> WeightsFile:
    """Find the weights file that a backbone is to load, and read it, once.

    Parameters
    ----------
    source
        What the user said: a file, the name of a published checkpoint, or nothing, which stands
        for the usual one of the variant.
    backbone
        Its name, for messages.
    known
        The published files that would do, the usual one first.

    Raises
    ------
    AsdError
        If it is not there and cannot be fetched, is another backbone's, or has the name of a
        published file and not its content, unless its SHA-256 is among ``source.accepted``.
    """
    if source.weights is None:
        return _intact(fetch(usual(backbone, source.variant, known), backbone), source)
    checkpoint = find(str(source.weights))
    if source.weights.exists() or checkpoint is None:
        return _intact(source.weights, source)
    if checkpoint not in known:
        raise AsdError(
            f"{checkpoint.name} is a checkpoint of {checkpoint.backbone}, no {backbone}; known are "
            f"{', '.join(each.name for each in known)}"
        )
    return _intact(fetch(checkpoint, backbone), source)


def _intact(path: Path, source: Source) -> WeightsFile:
    """Compare a file with the one published under its name; log where there is none."""
    file, checkpoint = read_weights(path), find(path.name)
    if file.sha256 in source.accepted:
        return file
    expected = None if checkpoint is None else expected_hash(checkpoint)
    if checkpoint is not None and expected is not None:
        algorithm, _, digest = expected.partition(":")
        if hashlib.new(algorithm, file.data, usedforsecurity=False).hexdigest() == digest.lower():
            return file
        raise AsdError(
            f"{path} has SHA-256 {file.sha256}, and the published {checkpoint.file} {expected}: "
            "it is damaged or another file; delete it and run "
            f"python -m extractors.weights fetch {checkpoint.file}, or, if you mean this very "
            f"file, add --accept-weights {file.sha256}"
        )
    if published(file.sha256) is None:
        logging.getLogger(__name__).info(
            "%s (SHA-256 %s) is no published checkpoint known here; what it holds is checked, where "
            "it comes from is not", path, file.sha256,
        )  # fmt: skip
    return file


def load_checkpoint(file: Path | WeightsFile, trusted: Sequence[Trusted] = ()) -> object:
    """Read a checkpoint of tensors and plain containers.

    Nothing else is unpickled (``weights_only``): a file that would run code is refused before any
    of it runs. A ``.safetensors`` file cannot hold code.

    Parameters
    ----------
    file
        A file of `torch.save` or of safetensors; where its hash is wanted too, as `read_weights`
        gave it.
    trusted
        Further harmless types that the publisher's files are known to hold, with the name they
        have there where it is not their own.

    Returns
    -------
    object
        What it holds, tensors on the CPU.

    Raises
    ------
    AsdError
        If the file is missing, cut short, damaged, no checkpoint, unpacks to more than it should,
        or holds anything but tensors.
    """
    if isinstance(file, Path):
        file = read_weights(file)
    try:
        if file.path.suffix == ".safetensors":
            return load(file.data)
        check_archive(io.BytesIO(file.data))
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(trusted)):
            warnings.simplefilter("ignore")  # about pickles that are refused a moment later
            return torch.load(io.BytesIO(file.data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise AsdError(
            f"{file} holds more than tensors or is no checkpoint, and nothing of it was run "
            f"({reason}); fetch it again from its publisher"
        ) from error
    except (*_DAMAGED, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AsdError(
            f"{file} is damaged or no checkpoint ({reason}); fetch it again from its publisher"
        ) from error


def check_archive(file: Path | BinaryIO) -> None:
    """Check the size and CRC-32 of every part of a file of `torch.save`, as torch does not.

    Files of before torch 1.6 are no archives and hold no checksum: only a published SHA-256 tells
    whether such a file is whole.

    Raises
    ------
    BadZipFile
        If a part is not what was written, or the parts unpack to more than twice the file.
    """
    if not is_zipfile(file):
        return
    with ZipFile(file) as archive:
        there = archive.fp.seek(0, io.SEEK_END) if archive.fp is not None else 0
        unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > _UNPACKED * there:
            raise BadZipFile(f"its {there} bytes unpack to {unpacked}, where torch.save packs nothing")
        damaged = archive.testzip()
    if damaged is not None:
        raise BadZipFile(f"the checksum of {damaged} does not match")


def tensors_sha256(state: Mapping[str, Tensor], record: str) -> str:
    """Hexadecimal SHA-256 of tensors, with their names, kinds and shapes, and a text."""
    digest = hashlib.sha256(record.encode())
    for name, value in sorted(state.items()):
        digest.update(repr((name, str(value.dtype), tuple(value.shape))).encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors(content: object, path: Path) -> dict[str, Tensor]:
    """Check that part of a checkpoint is a mapping of names to tensors.

    Parameters
    ----------
    content
        What `load_checkpoint` gave, or a part of it.
    path
        For messages.

    Raises
    ------
    AsdError
        If it is anything else, or a tensor claims values that are not there.
    """
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        kind = type(content).__name__
        raise AsdError(f"{path} holds a {kind} where a mapping of names to tensors is expected")
    for name, value in content.items():
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        # All values are there, each once: no view that repeats them, no claim.
        if not plain or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise AsdError(
                f"{path}: {name} claims {tuple(value.shape)} {value.dtype} values that the file "
                "does not hold; fetch it again from its publisher"
            )
    return dict(content)


def load_state(file: Path | WeightsFile) -> dict[str, Tensor]:
    """Read a checkpoint that is a plain mapping of names to tensors; see `load_checkpoint`."""
    return tensors(load_checkpoint(file), file if isinstance(file, Path) else file.path)


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
    found = faults(
        {
            "missing": sorted(wanted.keys() - given.keys()),
            "unexpected": sorted(given.keys() - wanted.keys()),
            "of another shape": sorted(n for n in shared if given[n].shape != wanted[n].shape),
        }
    )
    if found:
        raise AsdError(f"{path} does not fit {type(network).__name__}: {found}")
    network.load_state_dict(given, assign=True)  # also into a network without memory of its own


def faults(names: Mapping[str, Sequence[str]]) -> str:
    """Write out the first few names of each kind of fault; empty where there is none."""
    return "; ".join(f"{kind}: {listing(found, _SHOWN)}" for kind, found in names.items() if found)


class _Unset(TorchFunctionMode):
    """Leaves parameters as they are where a module would give them random values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, unless it is one that fills a tensor with first values."""
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def sizes_only() -> Iterator[None]:
    """Build networks that have shapes and no values yet, for a checkpoint's tensors to take their places.

    Random values would be overwritten, and torch takes seconds to work out those of no memory.
    """
    with torch.device("meta"), _Unset():
        yield


def random_parameters(build: Callable[[], M], seed: int) -> M:
    """Build a network with its own initialisation, the same for the same seed.

    Parameters
    ----------
    build
        Makes the network.
    seed
        Of torch's generator, whose state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
