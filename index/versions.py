"""Every state a bank was in: kept by hash until it is pruned, brought back byte by byte."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import scratch_folder, write_atomic
from cache.files.locks import locked
from cache.files.places import is_remote

FOLDER = ".versions"  # in a bank's folder
_ENTRY = re.compile(r"(\d{6})-[0-9a-f]{16}\.json")
_PENDING = "pending.json"


@dataclass(frozen=True)
class Version:
    """A line of a bank's log.

    Attributes
    ----------
    number
        From 1, in the order of what was done.
    hash
        16 hexadecimal digits of the SHA-256 of all files, names and contents.
    parent
        The version before; empty for the first.
    time
        When, ISO 8601, UTC.
    action, because
        What was done, ``add`` say, and why.
    facts
        What else is to be known, JSON values.
    files
        Path in the bank to SHA-256; ``None`` where the version was pruned.
    """

    number: int
    hash: str
    parent: str
    time: str
    action: str
    because: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] | None = None


class Versions:
    """What a bank's folder was, and is; one at a time changes it.

    Files lie in ``.versions/objects`` under their SHA-256, and a log entry lists those of a version. A
    change is prepared beside the bank, written down, then put in its place, the data before the records
    that name them; one that was killed meanwhile is finished by the next.

    Parameters
    ----------
    root
        The bank's folder, on this machine.
    """

    def __init__(self, root: Path) -> None:
        if is_remote(root):
            raise AsdError(f"{root}: a bank in object storage is not changed in place; copy it here first")
        self.root = root
        self._folder = root / FOLDER

    def log(self) -> list[Version]:
        """List what was done, oldest first; empty where the bank was never changed."""
        paths = sorted(path for path in self._folder.glob("*.json") if _ENTRY.fullmatch(path.name))
        return [_entry(path) for path in paths]

    def current(self) -> str:
        """Hash the bank as it is."""
        return _hash(_files(self.root))

    @contextmanager
    def change(self, action: str, because: str, facts: dict[str, Any]) -> Iterator[Path]:
        """Give a copy of the bank to work on; when the block ends well, it becomes the bank.

        Parameters
        ----------
        action, because
            What is done, and why.
        facts
            Written to the log as they are when the block ends.
        """
        with locked(self.root), scratch_folder() as folder:
            self._settle()
            before = self._known()
            copy = folder / "bank"
            shutil.copytree(self.root, copy, ignore=shutil.ignore_patterns(FOLDER, ".*"))
            yield copy
            files = _files(copy)
            if _hash(files) == before.hash:
                return
            for name, sha256 in files.items():
                self._keep(copy / name, sha256)
            self._switch(self._write(files, before.hash, action, because, facts))

    def restore(self, to: str | None = None, because: str = "") -> Version:
        """Bring a version back.

        Parameters
        ----------
        to
            First digits of its hash; the one before the present one by default.

        Raises
        ------
        AsdError
            If there is none, several begin so, or it was pruned.
        """
        with locked(self.root):
            self._settle()
            log, now = self.log(), self.current()
            if to is None:
                to = next((one.parent for one in reversed(log) if one.hash == now), "")
                if not to:
                    raise AsdError(f"{self.root}: nothing was done before that could be undone")
            found = {one.hash: one for one in log if one.hash.startswith(to)}
            if len(found) != 1:
                known = ", ".join(dict.fromkeys(one.hash for one in log)) or "none"
                raise AsdError(f"{self.root}: {len(found)} versions begin with {to!r}; there are {known}")
            (target,) = found.values()
            if target.files is None:
                raise AsdError(f"{self.root}: version {target.hash} was pruned")
            self._known()
            written = self._write(target.files, target.parent, "undo", because, target.facts)
            self._switch(written)
            return written

    def prune(self, keep: int) -> list[str]:
        """Remove the files of all versions but the last ones and the present one; the log stays.

        Parameters
        ----------
        keep
            How many, from 0.

        Returns
        -------
        list of str
            Hashes of those removed.
        """
        with locked(self.root):
            self._settle()
            log = self.log()
            last = list(dict.fromkeys(one.hash for one in reversed(log) if one.files is not None))
            kept = {*last[:keep], self.current()}
            gone = [one for one in log if one.hash not in kept and one.files is not None]
            for one in gone:
                self._record(one, None)
            named = {sha for one in self.log() for sha in (one.files or {}).values()}
            for path in (self._folder / "objects").glob("*"):
                if path.name not in named:
                    path.unlink()
            return list(dict.fromkeys(one.hash for one in gone))

    def _known(self) -> Version:
        """Give the present state's entry; one that was built or copied here gets its own."""
        files = _files(self.root)
        digest = _hash(files)
        log = self.log()
        found = [one for one in log if one.hash == digest and one.files is not None]
        if found:
            return found[-1]
        for name, sha256 in files.items():
            self._keep(self.root / name, sha256)
        return self._write(files, log[-1].hash if log else "", "built", "", {})

    def _keep(self, path: Path, sha256: str) -> None:
        kept = self._folder / "objects" / sha256
        if not kept.exists():
            write_atomic(kept, path.read_bytes())

    def _write(
        self, files: Mapping[str, str], parent: str, action: str, because: str, facts: Mapping[str, Any]
    ) -> Version:
        log = self.log()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = log[-1].number + 1 if log else 1
        made = Version(number, _hash(files), parent, now, action, because, facts, files)
        self._record(made, files)
        return made

    def _record(self, version: Version, files: Mapping[str, str] | None) -> None:
        told = {**vars(version), "facts": dict(version.facts), "files": files}
        path = self._folder / f"{version.number:06d}-{version.hash}.json"
        write_atomic(path, json.dumps(told, indent=1, ensure_ascii=False).encode())

    def _switch(self, version: Version) -> None:
        """Make the bank what a version lists; see `_settle`."""
        pending = self._folder / _PENDING
        write_atomic(pending, json.dumps({"number": version.number, "hash": version.hash}).encode())
        self._settle()

    def _settle(self) -> None:
        """Finish a switch that was begun, by this or a killed process."""
        pending = self._folder / _PENDING
        if not pending.exists():
            return
        told = parse_json(pending.read_bytes())
        version = _entry(self._folder / f"{int(told['number']):06d}-{told['hash']}.json")
        files = dict(version.files or {})
        there = _files(self.root)
        # Records last: a reader sees a section as it was or as it will be.
        for name in sorted(files, key=lambda name: (name.endswith("record.json"), name)):
            if there.get(name) != files[name]:
                write_atomic(self.root / name, (self._folder / "objects" / files[name]).read_bytes())
        for name in set(there) - set(files):
            (self.root / name).unlink(missing_ok=True)
        for folder in sorted(self.root.rglob("*"), reverse=True):
            if folder.is_dir() and FOLDER not in folder.parts and not any(folder.iterdir()):
                folder.rmdir()
        pending.unlink()


def was_changed(root: Path) -> str:
    """Say why a bank must not be built over; empty where it is as it was built."""
    if is_remote(root) or not (root / FOLDER).is_dir():
        return ""
    versions = Versions(root)
    log, now = versions.log(), versions.current()
    mine = [one.action for one in log if one.hash == now and one.action != "undo"]
    if not mine or mine[0] == "built":
        return ""
    done = ", ".join(one.action for one in log if one.action not in ("built", "undo"))
    return f"{root} was changed by hand ({done})"


def _files(root: Path) -> dict[str, str]:
    """Path to SHA-256 of every file that makes up a bank, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not any(part[0] == "." for part in name.split("/")) and path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _hash(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()[:16]


def _entry(path: Path) -> Version:
    try:
        return Version(**parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise AsdError(f"{path} is damaged ({error!r}): restore it from a copy of the bank") from error
