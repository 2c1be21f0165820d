"""One archive of a data set: fetched, checked, unpacked, and known to be done."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import file_sha256, write_atomic
from extractors.data.unpack import unpack
from extractors.fetching.download import Remote, alone, download, matches

_LOG = logging.getLogger(__name__)
_WORDS = ("dev", "eval", "data", "train", "test")  # of an archive's name, beside the machine


@dataclass(frozen=True)
class Archive:
    """An archive of a data set.

    Attributes
    ----------
    remote
        The archive.
    root
        The data root it belongs to.
    store
        Folder of archives and of what is known about them.
    keep
        Whether the archive stays.
    """

    remote: Remote
    root: Path
    store: Path
    keep: bool

    @property
    def machine(self) -> str:
        """The machine type in the archive's name."""
        words = self.remote.name.rpartition(".")[0].split("_")
        return "_".join(word for word in words if word not in _WORDS)

    @property
    def record(self) -> Path:
        """What is known of the archive since its first download."""
        return self.store / f"{self.remote.name}.json"

    @property
    def path(self) -> Path:
        """Where it lies until it is unpacked."""
        return self.store / self.remote.name

    def is_done(self) -> bool:
        """Tell whether everything that was in it is below the root."""
        files = self.read_record().get("files")
        return files is not None and all((self.root / name).is_file() for name in files)

    def read_record(self) -> dict[str, Any]:
        """Read what is known; empty before the first download."""
        if not self.record.is_file():
            return {}
        try:
            return dict(parse_json(self.record.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise AsdError(f"{self.record} is damaged ({error}); delete it") from error


def bring(archive: Archive, halt: Event) -> None:
    """Fetch and unpack an archive; another process that wants it too waits, and finds it done.

    Parameters
    ----------
    archive
        Which.
    halt
        Set by another thread to stop.

    Raises
    ------
    AsdError
        If it cannot be had, is not what it was before, or cannot be unpacked.
    """
    with alone(archive.store, f"unpacking {archive.remote.name}"):
        if archive.is_done():
            return
        remote, known = archive.remote, archive.read_record()
        if remote.known_hash is None and known:
            remote = replace(remote, known_hash=f"sha256:{known['sha256']}")
        if not download(remote, archive.store, halt):
            _check_brought(archive.path, remote)
        facts = {
            "file": remote.name,
            "size": archive.path.stat().st_size,
            "sha256": file_sha256(archive.path),
        }
        if remote.known_hash is None:
            _LOG.info("%s has no published hash; its own is recorded", remote.name)
        _note(archive, facts)
        workspace = archive.store / f".{remote.name}.unpacked"
        files, kept = unpack(archive.path, archive.root, workspace)
        for name in kept:
            _LOG.info("%s: another file is there and stays: %s", remote.name, name)
        _note(archive, facts | {"files": files})
        if not archive.keep:
            archive.path.unlink()


def _check_brought(path: Path, remote: Remote) -> None:
    """Hold a file that was there already against what it should be."""
    if remote.known_hash is not None and not matches(path, remote.known_hash):
        raise AsdError(f"{path} is not the file of the record ({remote.known_hash}); delete it")


def _note(archive: Archive, facts: dict[str, object]) -> None:
    write_atomic(archive.record, (json.dumps(facts, indent=1) + "\n").encode())
