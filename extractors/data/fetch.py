"""Public data sets by name: fetched, checked, unpacked into data roots."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.places import here
from extractors.clips.dataset import DataSet, datasets
from extractors.data.archive import ROOTS, Archive, bring
from extractors.data.bearings import PREFIX, ROOT_VARIABLE, BearingSet
from extractors.data.zenodo import DATASETS, PARTS, Record, ask_record, is_elsewhere, page_of
from extractors.fetching.download import Remote, megabytes, require_room
from extractors.fetching.offline import is_offline, offline_option

_LOG = logging.getLogger(__name__)
ARCHIVES = "archives"  # the folder of archives, below that of the data roots
_SUFFIXES = (".zip", ".7z")
_JOBS = 3  # archives at once; more would not make Zenodo faster
_GROWTH = 2  # of bytes downloaded to bytes needed at most: the archive and what is in it
_LICENCE = """\
The audio is for non-commercial use, as far as the public statements about it agree. They differ:
the records below, the task's pages and the papers do not all name the same terms. Read them before
any other use.
"""


def names() -> list[str]:
    """List what may be fetched: the challenge's sets, others, and those of bearing-datasets as one."""
    return [*DATASETS, *datasets(), PREFIX.removesuffix(":")]


def _named(text: str) -> str:
    """Read the name of a set; what follows a colon is a set of bearing-datasets."""
    name, colon, inner = text.partition(":")
    if bool(colon) != (name + ":" == PREFIX) or (colon and not inner.isidentifier()):
        raise AsdError(f"NAME {text}: expected one of {', '.join(names())}, the last as {PREFIX}NAME")
    return text


@documented
@dataclass(frozen=True)
class FetchRequest(Options):
    """Which data set is fetched, and how much of it."""

    dataset: str = option(
        REQUIRED, "{choices}:NAME of bearing-datasets", choices=names, named=True, read=_named, flag="NAME"
    )
    to: Path = option(REQUIRED, "where the data roots are made", read=here, metavar="DIR")
    parts: tuple[str, ...] = option(
        (), "of the challenge: development, further training, evaluation data (default: all)",
        choices=PARTS, flag="--part",
    )  # fmt: skip
    machines: tuple[str, ...] = option(
        (), "only these; of bearing-datasets, channels (default: all)", flag="--machine", metavar="NAME"
    )
    keep_archives: bool = option(
        False, f"keep the archives in DIR/{ARCHIVES} (default: delete each once it is unpacked)"
    )
    offline: bool = offline_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parts and self.dataset not in DATASETS:
            chosen = "channels" if self.bearings else "archives"
            raise AsdError(f"--part {self.parts[0]}: {self.dataset} has no parts; --machine chooses {chosen}")

    @property
    def bearings(self) -> BearingSet | None:
        """The set of bearing-datasets that is meant; ``None`` of Zenodo's."""
        if not self.dataset.startswith(PREFIX):
            return None
        root = os.environ.get(ROOT_VARIABLE) or self.to / ARCHIVES / "bearing-datasets"
        return BearingSet(self.dataset.removeprefix(PREFIX), Path(root))

    @property
    def published(self) -> DataSet | None:
        """What is known of a set beside the challenge's; ``None`` of the challenge's."""
        return datasets().get(self.dataset)

    def root(self, part: str) -> Path:
        """Give the data root of a part, or of a set beside the challenge's."""
        if self.published is not None:
            return self.to / self.published.name
        return self.to / (ROOTS[0] if part == "dev" else ROOTS[1])

    def records(self) -> dict[str, int]:
        """Look up the numbers of its records on Zenodo, by part.

        Raises
        ------
        AsdError
            If the set may not be fetched, or another one is there.
        """
        published = self.published
        if published is not None and not published.fetched:
            raise AsdError(
                f"{published.title} is not fetched by a program. Terms: {published.terms}. It lies at "
                f"{page_of(published.record)}; once it is unpacked, give its folder as --data: "
                f"{published.split}. Cite {published.citation}"
            )
        if published is not None:
            return {"": published.record}
        there = (path.name for path in (self.to / ARCHIVES).glob("*"))
        others = [name for name in there if name in DATASETS and name != self.dataset]
        if others:  # two years are not mixed in one data root
            raise AsdError(f"{self.to} holds {others[0]}; give {self.dataset} a folder of its own")
        every = zip(PARTS, DATASETS[self.dataset], strict=True)
        return {part: number for part, number in every if part in (self.parts or PARTS)}

    def archives(self, records: Mapping[str, Record]) -> list[Archive]:
        """List the archives of records by part.

        Raises
        ------
        AsdError
            If there is none, or one is not what was published.
        """
        store, published = self.to / ARCHIVES / self.dataset, self.published
        found = []
        for part, record in records.items():
            for remote in record.files:
                if not remote.name.lower().endswith(_SUFFIXES):
                    _LOG.info("%s: %s is no archive, not fetched", record.page, remote.name)
                    continue
                root = self.root(part)
                if published is not None:
                    remote = pinned(remote, published.md5)  # noqa: PLW2901
                    root = root / remote.name.rpartition(".")[0] if published.apart else root
                found.append(Archive(remote, root, store, self.keep_archives))
        if not found:
            pages = ", ".join(record.page for record in records.values())
            raise AsdError(
                f"{pages}: no archive is listed there; see in a browser whether this is still the record"
            )
        return found


@dataclass(frozen=True)
class Delivery:
    """The archives that a request means.

    Attributes
    ----------
    archives
        All of them.
    missing
        Those that are not here yet.
    roots
        The data roots that they make.
    notice
        What is coming and under which terms, to be shown before the first byte of it comes.
    """

    archives: Sequence[Archive]
    missing: Sequence[Archive]
    roots: Sequence[str]
    notice: str


def look_up(request: FetchRequest) -> Delivery:
    """Ask Zenodo for the archives of a request, and check that there is room for them.

    Raises
    ------
    AsdError
        If the set may not be fetched, is not there, does not fit, or nothing may be asked.
    """
    published, numbers = request.published, request.records()
    apart = published is not None and published.apart
    if is_offline():
        behind = ", each to a folder of its own name" if apart else ""
        pages = "; ".join(f"{page_of(n)} to {request.root(part)}{behind}" for part, n in numbers.items())
        raise AsdError(f"offline nothing is fetched: bring and unpack the archives of {pages}")
    records = {part: ask_record(number) for part, number in numbers.items()}
    archives = request.archives(records)
    # `fan` is -6_dB_fan and 6_dB_fan too.
    fits = {name: [a for a in archives if f"_{a.machine}".endswith(f"_{name}")] for name in request.machines}
    if unknown := [name for name, found in fits.items() if not found]:
        known = sorted({each.machine for each in archives})
        raise AsdError(f"--machine {unknown[0]}: there are {', '.join(known)}")
    if fits:
        archives = [each for each in archives if any(each in found for found in fits.values())]
    missing = [each for each in archives if not each.is_done()]
    size = sum(each.remote.size or 0 for each in missing)
    require_room(request.to, _GROWTH * size, f"{request.dataset}, archives and what is in them,")
    roots = sorted({str(each.root.parent if apart else each.root) for each in archives})
    lines = [f"{request.dataset}: archives to be fetched: {len(missing)}, {megabytes(size)}\n"]
    lines.append(_LICENCE if published is None else f"Licence: {published.terms}.\n")
    for part, record in records.items():
        before = f"{part}: " if part else ""
        lines.append(f"  {before}{record.page} states {record.licence or 'no licence'}\n")
    if published is not None:
        lines.append(f"Cite: {published.citation}.\nSplit: {published.split}.\n")
    return Delivery(archives, missing, roots, "".join(lines))


def pinned(remote: Remote, md5: Mapping[str, str]) -> Remote:
    """Compare the hash in an archive's record with the published MD5.

    Parameters
    ----------
    remote
        As the record lists it.
    md5
        Archive to published MD5.

    Returns
    -------
    Remote
        With that MD5; on a server that the user named (``ASD_ZENODO``) with its own, and a note.

    Raises
    ------
    AsdError
        If Zenodo's own record lists another one.
    """
    expected = f"md5:{md5[remote.name]}" if remote.name in md5 else None
    if expected is None or remote.known_hash == expected:
        return remote
    if remote.known_hash is None:
        return replace(remote, known_hash=expected)
    if not is_elsewhere():
        raise AsdError(
            f"{remote.name}: the record lists {remote.known_hash}, {expected} was published; it was "
            "changed since: look at the record before you fetch it by hand"
        )
    _LOG.info(
        "%s: not the published archive (%s) but the one of this server (%s)",
        remote.name, expected, remote.known_hash,
    )  # fmt: skip
    return remote


def bring_all(missing: Sequence[Archive]) -> list[str]:
    """Bring archives side by side; one that fails does not stop the others.

    Returns
    -------
    list of str
        What went wrong, of each that failed.
    """
    halt = Event()
    with ThreadPoolExecutor(_JOBS) as pool:
        coming = [pool.submit(bring, each, halt) for each in missing]
        try:
            found = [each.exception() for each in coming]
        except BaseException:
            halt.set()
            pool.shutdown(cancel_futures=True)
            raise
    for error in found:
        if error is not None and not isinstance(error, AsdError):
            raise error
    return [str(error) for error in found if error is not None]
