"""A data root, whatever it is, to a listing."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cache import places
from cache.errors import AsdError
from extractors.layouts.clip import Listing, joined
from extractors.layouts.folders import is_machine, is_split, visible_folders
from extractors.layouts.machine import MachineReader
from extractors.layouts.manifest import SUFFIXES, read_manifest


def check_root(root: Path) -> bool:
    """Whether a root is a manifest; else it is a folder.

    Raises
    ------
    AsdError
        If it is neither.
    """
    if root.is_file() and root.suffix.lower() in SUFFIXES:
        return True
    if not root.is_dir():
        raise AsdError(
            f"{root} is not a folder; --data wants the folder that holds the machines, or a "
            f"manifest ({', '.join(SUFFIXES)})"
        )
    return False


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
    if check_root(root):
        return read_manifest(root)
    found = joined([reader.read() for reader in _readers(root, supplements)])
    if not found.clips:
        reasons = "".join(f"\n  {fault}" for fault in found.faults[:5])
        raise AsdError(f"no clips in {root}: expected <machine>/<train|test>/*.wav{reasons}")
    if is_machine(root):
        name = root.resolve().name
        note = f"{root}: read as the folder of one machine, {name!r}"
        return Listing(found.clips, found.faults, (note, *found.notes))
    return found


def _readers(root: Path, supplements: Collection[str]) -> list[MachineReader]:
    folders = visible_folders(root)
    machines = [folder for folder in folders if is_machine(folder)]
    if is_machine(root):
        others = [folder.name for folder in machines if not is_split(folder)]
        if others:
            own = ", ".join(folder.name for folder in folders if is_split(folder))
            raise AsdError(
                f"{root} holds a machine's own folders ({own}) and machines ({', '.join(others)}); "
                "move the former into a folder with the machine's name"
            )
        return [MachineReader(root, root.resolve().name, supplements)]
    if machines:
        return [MachineReader(folder, folder.name, supplements) for folder in machines]
    deeper = [f for f in folders if any(is_machine(child) for child in visible_folders(f))]
    if deeper:
        raise AsdError(f"{root} holds several data roots; give --data {' '.join(map(str, deeper))}")
    raise AsdError(
        f"no machine in {root}: expected {root}/<machine>/train and .../test; for one's own "
        "recordings, train/ or normal/ for the normal ones and test/ or new/ for those to judge"
    )
