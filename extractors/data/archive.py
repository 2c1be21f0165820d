"""One archive of a data set: fetched, checked, unpacked, and known to be done."""

from __future__ import annotations

import logging
import shutil
import stat
from dataclasses import dataclass, replace
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from threading import Event
from zipfile import BadZipFile, ZipFile

from cache.base.errors import AsdError
from cache.base.progress import underway
from cache.files.atomic import file_sha256
from extractors.fetching.download import (
    Remote,
    alone,
    download,
    matches,
    read_record,
    record_of,
    require_room,
    write_record,
)

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
    def path(self) -> Path:
        """Where it lies until it is unpacked."""
        return self.store / self.remote.name

    @property
    def record(self) -> Path:
        """What is known of the archive since its first download."""
        return record_of(self.path)

    def is_done(self) -> bool:
        """Tell whether everything that was in it is below the root."""
        files = read_record(self.record).get("files")
        return files is not None and all((self.root / name).is_file() for name in files)


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
        remote, known = archive.remote, read_record(archive.record)
        if remote.known_hash is None and known:
            remote = replace(remote, known_hash=f"sha256:{known['sha256']}")
        there = not download(remote, archive.store, halt)
        if there and remote.known_hash is not None and not matches(archive.path, remote.known_hash):
            raise AsdError(f"{archive.path} is not the file of the record ({remote.known_hash}); delete it")
        facts = {
            "file": remote.name,
            "size": archive.path.stat().st_size,
            "sha256": file_sha256(archive.path),
        }
        if remote.known_hash is None:
            _LOG.info("%s has no published hash; its own is recorded", remote.name)
        write_record(archive.record, facts)
        workspace = archive.store / f".{remote.name}.unpacked"
        files, kept = unpack(archive.path, archive.root, workspace)
        for name in kept:
            _LOG.info("%s: another file is there and stays: %s", remote.name, name)
        write_record(archive.record, facts | {"files": files})
        if not archive.keep:
            archive.path.unlink()


ROOTS = ("dev_data", "eval_data")  # names of data roots, around the machines in some archives
_JUNK = ("__MACOSX", ".DS_Store")  # what a Mac adds
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # what a member may be: unsaid, a file, a folder
_DAMAGED = (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError)


def unpack(archive: Path, root: Path, workspace: Path) -> tuple[list[str], list[str]]:
    """Unpack an archive below a data root.

    It is unpacked beside, in full, and its folders then take their names. Where a file of that
    name is there already, it stays as it is.

    Parameters
    ----------
    archive
        A zip file, or a 7z file.
    root
        The data root; a folder ``dev_data`` or ``eval_data`` around everything is taken off.
    workspace
        A folder of our own on the same file system; it is emptied, and gone in the end.

    Returns
    -------
    (list of str, list of str)
        Files of the archive, relative to the root; those among them that were there already, with
        other content.

    Raises
    ------
    AsdError
        If the archive is damaged, does not fit, or has a member that would leave the folder, is a
        link, or has no plain name. Then nothing has changed.
    """
    shutil.rmtree(workspace, ignore_errors=True)
    try:
        (_seven if archive.suffix.lower() == ".7z" else _zip)(archive, root, workspace)
        workspace.mkdir(parents=True, exist_ok=True)
        inside = list(workspace.iterdir())
        inner = inside[0] if len(inside) == 1 and inside[0].name in ROOTS else workspace
        files = sorted(str(p.relative_to(inner)) for p in inner.rglob("*") if p.is_file())
        root.mkdir(parents=True, exist_ok=True)
        # Training and test clips of a machine come in two archives, and both bring its folder.
        with alone(workspace.parent, root.name, quietly=True):
            kept = _settle(inner, root)
        return files, [str(path.relative_to(root)) for path in kept]
    except OSError as error:
        raise AsdError(f"cannot unpack {archive} to {root}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise AsdError(f"{archive} is no whole zip file ({error}); delete it") from error
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _zip(archive: Path, root: Path, workspace: Path) -> None:
    """Unpack a zip file into a folder of our own."""
    with ZipFile(archive) as content:
        members = [each for each in content.infolist() if not _is_junk(each.filename)]
        names = [
            _checked(archive, each.filename, stat.S_IFMT(each.external_attr >> 16) in _KINDS)
            for each in members
        ]
        require_room(root, sum(each.file_size for each in members), f"unpacking {archive.name}")
        with underway(f"unpacking {archive.name}", "file", len(members)) as told:
            for each, name in zip(members, names, strict=True):
                path = workspace / name
                (path if each.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
                if not each.is_dir():
                    with content.open(each) as source, path.open("xb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                told(1)


def _seven(archive: Path, root: Path, workspace: Path) -> None:
    """Unpack a 7z file into a folder of our own."""
    try:
        import py7zr  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise AsdError(f"{archive.name} needs py7zr: pip install 'machine-asd[sevenzip]'") from error
    try:
        with py7zr.SevenZipFile(archive) as content:
            for each in content.files:
                _checked(archive, each.filename, not (each.is_symlink or each.is_junction or each.is_socket))
            size = sum(each.uncompressed for each in content.files)
            require_room(root, size, f"unpacking {archive.name}")
            workspace.mkdir(parents=True)
            content.extractall(workspace)
    except (py7zr.exceptions.ArchiveError, LZMAError, TypeError) as error:
        raise AsdError(f"{archive} is no whole 7z file ({error}); delete it") from error
    for path in sorted(workspace.rglob("*")):
        if _is_junk(path.name):
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)


def _is_junk(name: str) -> bool:
    return any(part in _JUNK for part in PurePosixPath(name).parts)


def _checked(archive: Path, member: str, plain: bool) -> PurePosixPath:
    """Refuse whatever would end up elsewhere, or as something else than a file."""
    name = PurePosixPath(member.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in str(name) or not name.parts:
        fault = "would leave the folder"
    elif not plain:
        fault = "is a link or a device"
    else:
        return name
    raise AsdError(f"{archive}: {member!r} {fault}; nothing of the archive was unpacked")


def _settle(source: Path, target: Path) -> list[Path]:
    """Move what is in a folder into another, whole folders where they are new."""
    kept = []
    for path in sorted(source.iterdir()):
        final = target / path.name
        if not final.exists():
            path.replace(final)
        elif path.is_dir() and final.is_dir():
            kept += _settle(path, final)
        elif path.is_dir() or final.is_dir() or path.read_bytes() != final.read_bytes():
            kept.append(final)
    return kept
