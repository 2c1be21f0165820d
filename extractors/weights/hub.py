"""Models of the Hugging Face hub, or folders laid out like them: found, and brought here."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import file_sha256, unchanged
from extractors.backbone import Source
from extractors.fetching.offline import is_offline

CONFIG = "config.json"
EXTRACTOR = ("preprocessor_config.json", "processor_config.json")  # the usual name, a newer one
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_BRING = f"{CONFIG}, {EXTRACTOR[0]} and {WEIGHTS[0]}"
_REACH_SECONDS = 5.0  # to connect to the hub, before its own retries take 24 of them
_LARGEST_TEXT = 2**26  # bytes of a configuration or an index; the largest known has a tenth of it
_ID = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"  # owner/name, or the name of an old model


@dataclass(frozen=True)
class Folder:
    """A model's files.

    Attributes
    ----------
    path
        Where they are.
    name
        What the user calls it: an id with its revision, or the folder.
    model, revision
        Id and commit on the hub; empty for a folder of the user's own.
    """

    path: Path
    name: str
    model: str = ""
    revision: str = ""

    def weights(self) -> list[Path]:
        """List the safetensors files: one, or the shards of an index.

        Raises
        ------
        AsdError
            If there is none.
        """
        whole, index = (self.path / name for name in WEIGHTS)
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [self.path / name for name in _shards(index)]
        raise AsdError(
            f"{self.name} has no {WEIGHTS[0]}; weights in another form, a pickle for instance, are "
            "not opened: write them anew with save_pretrained, or name a revision that has it"
        )

    def steady(self) -> AbstractContextManager[None]:
        """Check that the files stay the same between hashing and loading; see `digest.unchanged`."""

        def files() -> list[Path]:
            with suppress(AsdError):  # what is missing is said where it is needed
                return [*self.weights(), *(self.path / name for name in (CONFIG, *EXTRACTOR))]
            return []

        return unchanged(self.name, files)

    def weights_sha256(self) -> str:
        """Hash the weights: their SHA-256, or that of the shards' hashes one after the other."""
        hashes = [file_sha256(path) for path in self.weights()]
        joined = "".join(hashes)
        return joined if len(hashes) == 1 else hashlib.sha256(joined.encode()).hexdigest()

    def config_sha256(self) -> str:
        """Hash the configurations, the feature extractor's among them."""
        files = [self.path / name for name in (CONFIG, *EXTRACTOR)]
        hashes = [file_sha256(path) for path in files if path.is_file()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()


def locate(backbone: str, source: Source, default: str = "") -> Folder:
    """Find a model's files, fetching from the hub what its cache lacks.

    Parameters
    ----------
    backbone
        Its name, for messages.
    source
        ``weights`` is a folder; else ``variant`` is one, or ``id[@revision]`` of the hub. With
        random parameters no weights are looked for.
    default
        What is taken where the user names nothing.

    Raises
    ------
    AsdError
        If there is no such model or folder, or the hub cannot be reached and its cache lacks it.
    """
    if source.weights and source.variant:
        raise AsdError(
            f"{backbone} is named twice, {source.variant} and --weights {source.weights}: leave one out"
        )
    text = str(source.weights or source.variant or default)
    path = Path(text)
    if source.weights or path.is_dir():
        missing = "" if (path / CONFIG).is_file() else CONFIG
        if not missing and not any((path / name).is_file() for name in EXTRACTOR):
            missing = EXTRACTOR[0]
        if missing:
            raise AsdError(f"{backbone}: {path} has no {missing}; a folder that holds {_BRING} is expected")
        return _checked(Folder(path, str(path)))
    model, _, revision = text.partition("@")
    if not re.fullmatch(_ID, model):
        raise AsdError(
            f"{backbone}: {text!r} is neither a folder nor a model of the hub; write owner/name, "
            "owner/name@revision or the path of a folder"
        )
    return _fetch(backbone, model, revision or "main", with_weights=source.seed is None)


def _fetch(backbone: str, model: str, revision: str, *, with_weights: bool) -> Folder:
    name, barred = f"{model}@{revision}", _barred(model, revision)
    try:
        path = _get(model, CONFIG, revision, barred).parent
        commit = path.name  # so that no file comes from a later one
        if _first(model, commit, EXTRACTOR, barred) is None:
            raise AsdError(f"{backbone}: {name} has no {EXTRACTOR[0]}: it is no audio model")
        index = _first(model, commit, WEIGHTS, barred) if with_weights else None
        if index is not None and index.name == WEIGHTS[1]:
            for shard in _shards(index):
                _get(model, shard, commit, barred)
    except LocalEntryNotFoundError as error:
        reason = barred or f"the hub cannot be reached ({_reason(error.__cause__ or error)})"
        raise AsdError(
            f"{backbone} needs {model} at revision {revision}, which is not in the local cache, "
            f"and {reason}; bring {_BRING} of that revision in a folder and name it: "
            "--weights FOLDER"
        ) from error
    except (HfHubHTTPError, EntryNotFoundError, OSError, ValueError) as error:
        raise AsdError(
            f"{backbone}: the hub gave no {model} at revision {revision} ({_reason(error)}); "
            f"check both, log in where it is gated, or bring {_BRING}: --weights FOLDER"
        ) from error
    return _checked(Folder(path, name, model, commit))


def _checked(folder: Folder) -> Folder:
    for name in (CONFIG, *EXTRACTOR):
        check_text(folder.path / name)
    return folder


def _barred(model: str, revision: str) -> str:
    """Say why the hub is not asked; empty where it is.

    Without a connection the hub's client tries for 24 s to get a file that its cache lacks, which
    none of its settings shortens. Behind a proxy only the client itself can tell.
    """
    if is_offline() or constants.is_offline_mode():
        return "offline nothing is fetched"
    if getproxies() or isinstance(try_to_load_from_cache(model, CONFIG, revision=revision), str):
        return ""
    hub = urlsplit(constants.ENDPOINT)
    try:
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), _REACH_SECONDS).close()
    except OSError as error:
        return f"the hub cannot be reached ({error.strerror or error})"
    return ""


def _get(model: str, name: str, revision: str, barred: str) -> Path:
    return Path(hf_hub_download(model, name, revision=revision, local_files_only=bool(barred)))


def _first(model: str, commit: str, names: Sequence[str], barred: str) -> Path | None:
    """Fetch the first of several files that the hub has, or that is here where it is out of reach.

    Returns
    -------
    Path or None
        ``None`` where the hub has none of them.
    """
    away: LocalEntryNotFoundError | None = None
    for name in names:
        try:
            return _get(model, name, commit, barred)
        except RemoteEntryNotFoundError:
            continue
        except LocalEntryNotFoundError as error:
            away = away or error
    if away is not None:
        raise away
    return None


def _shards(index: Path) -> list[str]:
    """Names of the files that an index of safetensors lists, ascending.

    Raises
    ------
    AsdError
        If it is no such index, or names anything but files beside it.
    """
    check_text(index)
    try:
        names = sorted(set(parse_json(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AsdError(f"{index} is no index of safetensors files ({error!r})") from error
    wrong = [name for name in names if not re.fullmatch(r"[\w.-]+\.safetensors", str(name))]
    if wrong or not names:
        raise AsdError(f"{index} lists {wrong or 'nothing'} where names of .safetensors belong")
    return names


def check_text(path: Path) -> None:
    """Refuse a configuration or an index that is too large to be one, before it is read.

    Raises
    ------
    AsdError
        If it is.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > _LARGEST_TEXT:
        raise AsdError(
            f"{path} has {size} bytes, more than the {_LARGEST_TEXT} that any configuration needs; "
            "fetch it again from its publisher"
        )


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
