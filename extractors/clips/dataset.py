"""What is known of a public data set beside its recordings, and all of them by name.

A set is one file in `extractors.clips.sets`; nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.plugins import Plugins
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.folders import audio_files, below, visible_folders
from extractors.clips.known import KnownSet

_SETS = Plugins("extractors.clips.sets", "data set")


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes
    ----------
    name
        On the command line, lower case with hyphens.
    title
        As its authors write it.
    record
        Of Zenodo.
    terms
        What is known of its licence, disagreement of the sources included.
    citation
        Of the paper that asks to be cited.
    split
        How its recordings are divided into training and test clips, and by whom.
    md5
        Archive to its published MD5, where these are known besides the record's own.
    fetched
        Whether its terms let a program fetch it; else a notice says where it is.
    apart
        Whether every archive gets a folder of its own name, since several hold the same folders.
    read
        Reads a folder that has its published layout, and gives ``None`` for any other; not needed
        where `extractors.clips` reads it as it is.
    known
        What `check` holds it against.
    """

    name: str
    title: str
    record: int
    terms: str
    citation: str
    split: str
    md5: Mapping[str, str] = field(default_factory=dict)
    fetched: bool = True
    apart: bool = False
    read: Callable[[Path], Listing | None] | None = None
    known: tuple[KnownSet, ...] = ()


@cache
def datasets() -> Mapping[str, DataSet]:
    """Every set by name, alphabetically."""
    every = [_SETS.find(name).SET for name in _SETS.names()]
    return {each.name: each for each in every}


def find_set(name: str) -> DataSet:
    """Look a set up.

    Raises
    ------
    AsdError
        If there is none of that name.
    """
    try:
        return datasets()[name]
    except KeyError:
        raise AsdError(f"no data set {name!r}; there are {', '.join(datasets())}") from None


def read_published(root: Path) -> Listing | None:
    """Read a folder in the published layout of a set that no other reader knows; ``None`` of others."""
    for each in datasets().values():
        found = None if each.read is None else each.read(root)
        if found is not None:
            note = f"{root}: read as {each.title}: {each.split}"
            return Listing(found.clips, found.faults, (note, *found.notes))
    return None


def inside(root: Path, *names: str) -> Path | None:
    """Find the folder that has these sub-folders: a root, or the one visible folder in it."""
    if not root.is_dir():
        return None
    folders = visible_folders(root)
    found = [root, *(folders if len(folders) == 1 else ())]
    return next((one for one in found if all((one / name).is_dir() for name in names)), None)


def held_out(normal: Sequence[Path], abnormal: int) -> tuple[Sequence[Path], Sequence[Path]]:
    """Divide normal recordings of a section: those to learn from, those to be judged.

    As many are judged as there are abnormal ones, at most half, the first by name; as
    `extractors.clips.machine` divides MIMII.
    """
    count = min(abnormal, len(normal) // 2)
    return normal[count:], normal[:count]


def counts(normal: int, abnormal: int) -> dict[tuple[str, str | None, str | None], int]:
    """Clips a kind after `held_out`, for `KnownSet.counts`."""
    judged = min(abnormal, normal // 2)
    return {
        ("train", None, "normal"): normal - judged,
        ("test", None, "normal"): judged,
        ("test", None, "anomaly"): abnormal,
    }


def recordings(folder: Path, faults: list[Fault]) -> list[Path]:
    """List the recordings of a folder by path; faults go to a list."""
    if not folder.is_dir():
        return []
    files, unreadable, _ = audio_files(folder)
    faults += unreadable
    return files


def clips_of(paths: Sequence[Path], root: Path, like: Clip) -> Iterator[Clip]:
    """Give clips of files, of the section, split and labels of another; ids are paths below a root."""
    for path in paths:
        yield Clip(
            f"{like.section.machine_type}/{below(path, root)}",
            path,
            like.section,
            like.split,
            like.domain,
            like.condition,
            like.attributes,
        )
