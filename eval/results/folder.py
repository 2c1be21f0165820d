"""A results folder: one run at a time, nothing in it that the run did not make, every file sealed.

``SHA256SUMS`` in it lists what the last run made. Files are written one by one and the list last,
so that a folder in which a run was killed does not match its list and is refused when read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from cache.base.errors import AsdError, listing
from cache.files.atomic import write_atomic
from cache.files.locks import locked
from cache.files.text_tables import read_bytes

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\\]+)")  # what `sha256sum` prints and `-c` reads


def read_sums(folder: Path) -> Mapping[str, str] | None:
    """Read a folder's digests by file name; ``None`` where it has none.

    Raises
    ------
    AsdError
        If the file is damaged.
    """
    path = folder / SUMS
    try:
        found = path.stat()
    except OSError:
        return None
    return _parsed(path, (found.st_ino, found.st_mtime_ns, found.st_size))


def sums_bytes(digests: Mapping[str, str]) -> bytes:
    """Write digests by file name as `read_sums` reads them."""
    lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return "".join(lines).encode()


def sum_faults(paths: Iterable[Path]) -> list[str]:
    """Tell which files are not as they were written.

    Parameters
    ----------
    paths
        Files, which may lie in several folders; one without ``SHA256SUMS`` has no faults, as those
        of other systems.
    """
    faults = []
    for path in paths:
        try:
            check_sum(path.name, path.read_bytes(), read_sums(path.parent))
        except FileNotFoundError:
            continue
        except AsdError as error:
            faults.append(str(error))
    return faults


def check_sum(name: str, data: bytes, digests: Mapping[str, str] | None) -> None:
    """Hold what was read of a file against the digests of its folder.

    Raises
    ------
    AsdError
        If the file is another, or not listed.
    """
    if digests is None or hashlib.sha256(data).hexdigest() == digests.get(name):
        return
    remedy = f"score again, or delete {SUMS} if you changed it yourself"
    raise AsdError(f"{name} is not what {SUMS} says was written: {remedy}")


@lru_cache(maxsize=8)
def _parsed(path: Path, version: tuple[int, ...]) -> Mapping[str, str]:  # noqa: ARG001 (the key)
    """Read the file once and not for each of the thousands of files that it may list."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise AsdError(f"{path} is damaged ({error!r}); score again, or delete it") from error
    matches = [_LINE.fullmatch(line) for line in lines]
    if None in matches:
        raise AsdError(f"{path} is damaged (line {matches.index(None) + 1}); score again")
    return {match[2]: match[1] for match in matches if match}


SYSTEM = "system.json"
_SECTION = r"_.+_section_[0-9]{2,}_test"
# What scoring writes: some files a section, and one that describes the system.
_SCORED = re.compile(
    rf"{SYSTEM}|(?:anomaly_score|decision_result)_.+\.csv|"
    rf"(?:clips|windows){_SECTION}\.csv|(?:map|neighbours){_SECTION}\.parquet"
)
_JUDGED = re.compile(
    r"(?:results|ranking|summary)\.(?:csv|json|md)|report\.html|comparison\.csv|"
    r"experiment\.(?:toml|json)|figures/(?:(?:scores|roc|map)_.+|domains|data_sets)\.(?:pdf|png)"
)


class ResultsFolder:
    """The folder of one run's results.

    Parameters
    ----------
    root
        The folder; made on the first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, str] = {}  # name to digest, of what this run has written
        self._parts: list[str] = []  # lists of runs in folders below
        self._running = False

    @contextmanager
    def run(self) -> Iterator[None]:
        """Keep other runs out; at the end the folder holds what this one made, and no more.

        A run inside a run of the same object is part of it. After an exception the folder stays as
        it is: as before where nothing was written, else refused by whoever reads it.

        Raises
        ------
        AsdError
            If results lie there that no run of ours wrote.
        """
        if self._running:
            yield
            return
        with locked(self.root):
            self._claim()
            self._made, self._parts, self._running = {}, [], True
            try:
                yield
                self.seal()
            finally:
                self._running = False

    def write(self, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all; `name` may hold one folder, ``figures/roc.png``."""
        write_atomic(self.root / name, data)
        self._made[name] = _sha256(data)
        return self.root / name

    def read(self, name: str) -> bytes:
        """Read a file, which must be what was written where the folder tells that.

        Raises
        ------
        FileNotFoundError
            If there is none.
        AsdError
            If it is not what was written.
        """
        data = (self.root / name).read_bytes()
        self._check(name, data)
        return data

    def read_path(self, path: Path) -> bytes:
        """Read a table of the folder by its path; as `read`, and not without bounds."""
        data = read_bytes(path)
        self._check(path.relative_to(self.root).as_posix(), data)
        return data

    def include(self, part: ResultsFolder) -> None:
        """Count a finished run in a folder below this one among what this run made."""
        self._parts.append((part.root / SUMS).relative_to(self.root).as_posix())

    def keep_scores(self) -> None:
        """Count the scores that lie here, of an earlier run, among what this run made."""
        scored = {name: sha for name, sha in self._listed().items() if _SCORED.fullmatch(name)}
        self._made = {**scored, **self._made}

    def seal(self) -> None:
        """Remove what earlier runs left, and list what this one made."""
        before = self._listed()
        parts = {name: _sha256((self.root / name).read_bytes()) for name in self._parts}
        made = {**self._made, **parts}
        # The list goes first: killed from here on, the run leaves files that nothing vouches for.
        write_atomic(self.root / SUMS, sums_bytes(made))
        self._remove({*before, *self._named()} - set(made))

    def clear(self) -> None:
        """Remove what a run left in this folder, and the folder where nothing else lies in it."""
        with locked(self.root):
            self._remove({*self._listed(), *self._named(), SUMS})
            (self.root / ".lock").unlink(missing_ok=True)
        with suppress(OSError):
            self.root.rmdir()

    def _claim(self) -> None:
        """Refuse a folder of other results; mark one that is ours from now on."""
        if (self.root / SUMS).exists():
            return
        if theirs := self._named():
            raise AsdError(
                f"{self.root} holds {listing(theirs)}, not written by a run that lists what it "
                f"made ({SUMS}): name another folder with --out, or move these away"
            )
        write_atomic(self.root / SUMS, b"")

    def _check(self, name: str, data: bytes) -> None:
        written = self._made.get(name)
        check_sum(name, data, read_sums(self.root) if written is None else {name: written})

    def _listed(self) -> Mapping[str, str]:
        try:
            return read_sums(self.root) or {}
        except AsdError:  # a damaged list says nothing of what may stay
            return {}

    def _named(self) -> list[str]:
        """Files here that have names of ours, listed or not."""
        every = [*self.root.glob("*"), *self.root.glob("figures/*")]
        names = (path.relative_to(self.root).as_posix() for path in every)
        return sorted(name for name in names if _is_ours(name))

    def _remove(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            path = self.root / name
            if name.endswith(f"/{SUMS}") and ".." not in path.parts:
                ResultsFolder(path.parent).clear()
            elif _is_ours(name) or name == SUMS:
                path.unlink(missing_ok=True)
            if path.parent != self.root:
                with suppress(OSError):  # where other files lie in it, it stays
                    path.parent.rmdir()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_ours(name: str) -> bool:
    return (_SCORED.fullmatch(name) or _JUDGED.fullmatch(name)) is not None
