"""Data roots to a list of clips; whatever does not fit is named.

How recordings may lie is known to the files beside this one, one a concern: the task's names, its
attribute files, a machine's folders, manifests.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from cache.base.errors import AsdError, reasons
from cache.files import objects, places
from extractors.clips.clip import AUDIO_SUFFIXES, Clip, Fault, Listing, joined
from extractors.clips.dataset import read_published
from extractors.clips.folders import is_audio, is_machine, is_split, split_folders, visible_folders
from extractors.clips.machine import SUPPLEMENTS, MachineReader, parse_name
from extractors.clips.manifest import SUFFIXES, read_manifest
from extractors.clips.names import ClipName, parse_tail

__all__ = [
    "AUDIO_SUFFIXES",
    "SUPPLEMENTS",
    "Clip",
    "ClipName",
    "Fault",
    "Listing",
    "list_clips",
    "parse_name",
    "parse_tail",
]


def list_clips(roots: Sequence[Path], supplements: Collection[str] = ()) -> Listing:
    """List the clips of data roots.

    Parameters
    ----------
    roots
        One or several: folders of machines as the task of 2020 to 2026 lays them out, e.g.
        ``dev_data`` and ``eval_data``; folders of one's own machines; a machine's own folder;
        manifests.
    supplements
        Which supplemental clips (2025) to take as normal training clips: of `SUPPLEMENTS`.

    Returns
    -------
    Listing
        Clips by id, the files left out and how the folders were read.

    Raises
    ------
    AsdError
        If a root is missing or holds no clip, or two clips have one id.
    """
    found = joined([read_root(root, supplements) for root in roots])
    clips = sorted(found.clips, key=lambda clip: clip.clip_id)
    for before, clip in pairwise(clips):
        if before.clip_id == clip.clip_id:
            raise AsdError(
                f"two clips with one id {clip.clip_id!r}: {before.path} and {clip.path}; take one data "
                "root at a time, each with a cache folder of its own (--cache-dir)"
            )
    return Listing(tuple(clips), found.faults, found.notes)


# MIMII's archives: a machine's type behind the signal-to-noise ratio, -6_dB_fan, 0_dB_fan, 6_dB_fan.
_RATIO = re.compile("(-?[0-9]+_?dB)_.+", re.IGNORECASE)


def check_roots(roots: Sequence[Path]) -> None:
    """Refuse a root that is not there before anything heavy is loaded; a store is asked later.

    Raises
    ------
    AsdError
        If one is neither a folder nor a manifest.
    """
    for root in roots:
        if not places.is_remote(root):
            _is_manifest(root)


def read_root(root: Path, supplements: Collection[str] = ()) -> Listing:
    """List a folder of machines, a machine's own folder, or a manifest.

    Parameters
    ----------
    root
        ``--data`` names it.
    supplements
        See `MachineReader`.

    Raises
    ------
    AsdError
        If there is nothing to read, or more than one way to read it.
    """
    root = places.listed(root)
    if not places.is_remote(root):
        return _read(root, supplements)
    with objects.reaching(root):
        return _read(root, supplements)


def _read(root: Path, supplements: Collection[str]) -> Listing:
    if _is_manifest(root):
        return read_manifest(root)
    if (published := read_published(root)) is not None and published.clips:
        return published
    found = joined([reader.read() for reader in _readers(root, supplements)])
    if not found.clips:
        raise reasons(f"no clips in {root}: expected <machine>/<train|test>/*.wav", found.faults)
    if is_machine(root):
        name = root.resolve().name
        note = f"{root}: read as the folder of one machine, {name!r}"
        return Listing(found.clips, found.faults, (note, *found.notes))
    return found


def _readers(root: Path, supplements: Collection[str]) -> list[MachineReader]:
    folders = visible_folders(root)
    machines = [folder for folder in folders if is_machine(folder)]
    if is_machine(root):
        read = [folder.path.parent for folder in split_folders(root)]  # MIMII's ids among them
        others = [f.name for f in machines if not is_split(f) and f not in read]
        if others:
            own = ", ".join(folder.name for folder in folders if is_split(folder))
            raise AsdError(
                f"{root} holds a machine's own folders ({own}) and machines ({', '.join(others)}); "
                "move the former into a folder with the machine's name"
            )
        return [MachineReader(root, root.resolve().name, supplements)]
    if machines:
        return [MachineReader(folder, folder.name, supplements) for folder in machines]
    deeper = {f: [one for one in visible_folders(f) if is_machine(one)] for f in folders}
    deeper = {folder: inside for folder, inside in deeper.items() if inside}
    ratios = {folder: _RATIO.fullmatch(folder.name) for folder in deeper}
    if deeper and all(ratios.values()):
        return [
            MachineReader(one, f"{one.name}_{ratio[1]}", supplements)
            for folder, ratio in ratios.items()
            if ratio is not None
            for one in deeper[folder]
        ]
    raise AsdError(_without_machines(root, deeper))


def _without_machines(root: Path, deeper: Mapping[Path, Sequence[Path]]) -> str:
    """Say why no machine is found in a folder, and what to do.

    Parameters
    ----------
    root
        The folder.
    deeper
        Folders in it that hold machines, to these.
    """
    if deeper:
        names = Counter(one.name for inside in deeper.values() for one in inside)
        shared = [name for name, count in names.items() if count > 1]
        alone = ", each alone with a --cache-dir of its own: several have a machine "
        return (
            f"{root} holds several data roots; give --data {shlex.join(map(str, deeper))}"
            f"{alone + repr(shared[0]) if shared else ''}"
        )
    if is_split(root):
        return f"{root} is a folder of a machine's clips; give --data {root.parent}"
    loose = sum(is_audio(path) for path in root.iterdir())
    if loose:
        return (
            f"no machine in {root}: move the normal ones of its {loose} recordings to {root}/normal "
            f"and those to judge to {root}/new"
        )
    return (
        f"no machine in {root}: expected {root}/<machine>/train and .../test; for one's own "
        "recordings, train/ or normal/ for the normal ones and test/ or new/ for those to judge"
    )


def _is_manifest(root: Path) -> bool:
    """Whether a root is a manifest; else it is a folder, or refused."""
    if root.is_file() and root.suffix.lower() in SUFFIXES:
        return True
    if not root.is_dir():
        raise AsdError(
            f"{root} is not a folder; --data wants the folder that holds the machines, or a "
            f"manifest ({', '.join(SUFFIXES)})"
        )
    return False
