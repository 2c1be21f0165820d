"""A machine's folder to clips: by the task's names where it has them, else as one's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cache.base.errors import AsdError
from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing
from extractors.clips.folders import (
    ABNORMAL,
    SUPPLEMENTAL,
    SplitFolder,
    audio_files,
    below,
    not_recordings,
    other_audio,
    split_folders,
)
from extractors.clips.names import AttributeFiles, ClipName, parse_stem, parse_tail

SUPPLEMENTS = ("clean", "noise")
_EXPECTED = (
    "section_<nn>_<source|target>_<train|test>_<normal|anomaly>_<nnnn>[_<attributes>] or, in a "
    "test folder, section_<nn>_<nnnn>"
)
# Folders of one's own test clips that say what these are.
_CONDITIONS = {"normal": "normal", **dict.fromkeys(ABNORMAL, "anomaly")}
# Third parties name these clips section_00_machine_source_0000_noAttribute,
# section_00_source_supplemental_machine_0000 and section_00_noise_supplemental_normal_0000; a list
# of the publisher's own was not found. So any words are read, and any other name is taken too.
_SUPPLEMENTAL = re.compile(r"section_([0-9]{2,})_([a-z_]*?)_?([0-9]+)(?:_(.*))?")


@dataclass
class MachineReader:
    """Reads one machine's folder.

    Attributes
    ----------
    path
        The folder.
    name
        The machine type; clip ids begin with it.
    supplements
        Which supplemental clips to take as normal training clips: of `SUPPLEMENTS`.
    """

    path: Path
    name: str
    supplements: Collection[str] = ()
    _clips: list[Clip] = field(default_factory=list)
    _faults: list[Fault] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def read(self) -> Listing:
        """List the clips, the files left out, and how the folder was read."""
        try:
            Section(self.name, 0)
        except AsdError as error:
            return Listing((), (Fault(self.path, str(error)),))
        self._attributes = AttributeFiles(self.path)
        self._faults += self._attributes.faults
        own: list[tuple[SplitFolder, list[Path]]] = []
        for folder in split_folders(self.path):
            paths, faults, beside = audio_files(folder.path)
            self._faults += faults
            if beside:
                self._notes.append(f"{folder.path}: not read: {not_recordings(beside)}")
            if any(parse_stem(path.stem) for path in paths):
                self._add(folder, paths, self._named)
            elif paths:
                own.append((folder, paths))
        self._note_missing_rows()
        self._read_own(own)
        self._read_supplements()
        if others := other_audio(self.path):
            self._notes.append(
                f"{self.path}: not read: {', '.join(others)}; recordings are read from normal/ and new/"
            )
        faults = sorted(self._faults, key=lambda fault: fault.path)
        return Listing(tuple(self._clips), tuple(faults), tuple(self._notes))

    def _add(
        self, folder: SplitFolder, paths: Iterable[Path], read: Callable[[SplitFolder, Path], Clip]
    ) -> None:
        for path in paths:
            try:
                self._clips.append(read(folder, path))
            except AsdError as error:
                self._faults.append(Fault(path, str(error)))

    def _named(self, folder: SplitFolder, path: Path) -> Clip:
        name = parse_name(path.stem, folder.split)
        if folder.domain and name.domain not in (None, folder.domain):
            raise AsdError(f"named {name.domain} but lies in {folder.path.name}/; move or rename it")
        row = self._attributes.find(below(path, self.path))
        return Clip(
            self._id(path),
            path,
            Section(self.name, name.section),
            folder.split,
            name.domain or folder.domain,
            name.condition,
            parse_tail(name.tail) if row is None else row,
        )

    def _note_missing_rows(self) -> None:
        known = [clip for clip in self._clips if clip.condition is not None]
        lacking = [c for c in known if self._attributes.find(below(c.path, self.path)) is None]
        if self._attributes and lacking:
            self._notes.append(
                f"{self.path}: {len(lacking)} clips have no row in the attribute file; their "
                "attributes are read from the file names"
            )

    def _read_own(self, folders: Sequence[tuple[SplitFolder, list[Path]]]) -> None:
        numbers = sorted({clip.section.number for clip in self._clips})
        if len(numbers) > 1:
            listed = ", ".join(f"{number:02d}" for number in numbers)
            reason = f"its name does not say which of the sections {listed}; expected {_EXPECTED}"
            self._faults += [Fault(path, reason) for _, paths in folders for path in paths]
            return
        self._number = numbers[0] if numbers else 0
        before, read = len(self._clips), _with_held_out(folders)
        for folder, paths in read:
            self._add(folder, paths, self._own)
        if folders:
            self._notes.append(_how_read(self.path, read, self._clips[before:]))

    def _own(self, folder: SplitFolder, path: Path) -> Clip:
        parts = below(path, folder.path).parts[:-1]
        if folder.split == "test":  # new/ says nothing, abnormal/ and a held-out normal/ do
            parts = (folder.path.name, *parts)
        told = {_CONDITIONS.get(part.lower()) for part in parts}
        told.discard(None)
        condition = told.pop() if len(told) == 1 else None
        if folder.split == "train":
            if condition == "anomaly":
                raise AsdError("an anomaly among the training clips, which must all be normal")
            condition = "normal"
        return Clip(
            self._id(path),
            path,
            Section(self.name, self._number if folder.section is None else folder.section),
            folder.split,
            folder.domain,
            condition,
            self._attributes.find(below(path, self.path)) or {},
        )

    def _read_supplements(self) -> None:
        folders = [f for f in self.path.iterdir() if f.name.lower() == SUPPLEMENTAL and f.is_dir()]
        for folder in folders:
            paths, faults, _ = audio_files(folder)
            self._faults += faults if self.supplements else []
            before = len(self._clips)
            for path in paths:
                match = _SUPPLEMENTAL.fullmatch(path.stem)
                words = set(re.findall("[a-z]+", match[2] if match else path.stem.lower()))
                kind = "noise" if "noise" in words else "clean"
                if kind not in self.supplements:
                    continue
                domains = [domain for domain in ("source", "target") if domain in words]
                listed = self._attributes.find(below(path, self.path))
                attributes = parse_tail(match[4] if match else None) if listed is None else listed
                section = Section(self.name, int(match[1]) if match else 0)
                domain, told = domains[0] if len(domains) == 1 else None, {**attributes, "supplemental": kind}
                self._clips.append(Clip(self._id(path), path, section, "train", domain, "normal", told))
            if left := len(paths) - len(self._clips) + before:
                self._notes.append(
                    f"{folder}: {left} supplemental clips not read; --supplemental "
                    f"{' or '.join(SUPPLEMENTS)} of extractors.run takes them as normal training clips"
                )

    def _id(self, path: Path) -> str:
        return f"{self.name}/{below(path, self.path)}"


def parse_name(stem: str, split: str) -> ClipName:
    """Read a clip's file name and compare it with the split of its folder.

    Parameters
    ----------
    stem
        File name without its suffix.
    split
        Of the folder it lies in.

    Raises
    ------
    AsdError
        If the name does not follow the layout or contradicts its folder.
    """
    name = parse_stem(stem)
    if name is None or (split == "train" and name.condition is None):
        raise AsdError(f"the name does not follow the layout; expected {_EXPECTED}")
    if name.split not in (None, split):
        raise AsdError(f"named {name.split} but lies in {split}/; move or rename it")
    if split == "train" and name.condition == "anomaly":
        raise AsdError("an anomaly among the training clips, which must all be normal")
    return name


def _with_held_out(
    folders: Sequence[tuple[SplitFolder, list[Path]]],
) -> list[tuple[SplitFolder, list[Path]]]:
    """Hold out normal clips of a section to be judged, where all else to be judged is abnormal.

    As many as there are abnormal ones, at most half: so MIMII is divided (Purohit et al. 2019,
    arXiv 1909.09347, section 4; there at random). Here the first by name, which are recorded one
    after the other, so that no training clip is the neighbour of many.
    """
    found = list(folders)
    for section in {folder.section for folder, _ in folders}:
        tests = [one for one in folders if one[0].section == section and one[0].split == "test"]
        wanted = sum(len(paths) for _, paths in tests)
        if not all(folder.abnormal for folder, _ in tests):
            continue
        for at, (folder, paths) in enumerate(found):
            if (folder.section, folder.split) == (section, "train") and wanted:
                count = min(wanted, len(paths) // 2)
                wanted -= count
                found[at] = (folder, paths[count:])
                if count:
                    found.append((replace(folder, split="test"), paths[:count]))
    return found


def _how_read(machine: Path, folders: Sequence[tuple[SplitFolder, list[Path]]], clips: Sequence[Clip]) -> str:
    counts: Counter[tuple[str, str]] = Counter()
    for folder, paths in folders:
        held_out = folder.split == "test" and folder.path.name.lower() == "normal"
        what = "held out to be judged beside the abnormal ones" if held_out else (
            "normal" if folder.split == "train" else "to be judged"
        )  # fmt: skip
        counts[folder.path.name, what] += len(paths)
    parts = [f"{count} clips in {name}/ are {what}" for (name, what), count in counts.items()]
    sections = sorted({folder.section for folder, _ in folders if folder.section is not None})
    if sections:
        parts.append(f"id_<nn> are sections: {', '.join(f'{number:02d}' for number in sections)}")
    tested = [clip for clip in clips if clip.split == "test"]
    told = [clip for clip in tested if clip.condition is not None]
    if told:
        parts.append(f"sub-folders tell normal from anomaly for {len(told)} of {len(tested)}")
    return (
        f"{machine}: read as recordings of one's own, their names mean nothing: "
        f"{'; '.join(parts)}; no domains"
    )
