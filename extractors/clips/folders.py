"""Which folders of a machine hold what, and the files in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cache.base.errors import AsdError
from cache.base.text import control_character
from cache.files import places
from cache.heard import SIGNAL_SUFFIXES
from extractors.clips.clip import AUDIO_SUFFIXES, RECORDING_SUFFIXES, Fault

# Folders that say that their clips are abnormal, of a machine or of its clips to be judged.
ABNORMAL = ("anomaly", "anomalous", "abnormal")
# Folder to split and domain: the task's own (source_test and target_test in 2021), then those of
# one's own machine. Upper or lower case does not matter.
_SPLITS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(ABNORMAL, ("test", None)),
    "train": ("train", None),
    "test": ("test", None),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
    "normal": ("train", None),
    "reference": ("train", None),
    "new": ("test", None),
}
SUPPLEMENTAL = "supplemental"  # 2025: clean machine sounds, or noise alone
PSEUDO = "pseudo_anomalies"  # made by a program; never clips to learn from or to judge
# Sound in files that are not read: a recording is missed where one lies.
_OTHER_AUDIO = (
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".dsf", ".m4a",
    ".mka", ".mp2", ".mp4", ".mpc", ".oga", ".opus", ".pcm", ".ra", ".raw", ".rf64", ".snd",
    ".tta", ".w64", ".wave", ".weba", ".webm", ".wma", ".wv",
)  # fmt: skip
_SHOWN = 5  # suffixes named of a long list
_JUNK = ("thumbs.db", "desktop.ini", "__macosx")  # what systems leave in folders


@dataclass(frozen=True)
class SplitFolder:
    """A folder of clips of one split.

    Attributes
    ----------
    path
        Where it lies.
    split, domain
        What lying there makes of a clip; the domain is ``None`` where it makes nothing of it.
    section
        The number of the ``id_<nn>`` that holds it; ``None`` where no such folder does.
    """

    path: Path
    split: str
    domain: str | None
    section: int | None = None

    @property
    def abnormal(self) -> bool:
        """Whether its clips are abnormal."""
        return self.path.name.lower() in ABNORMAL


def split_folders(machine: Path) -> list[SplitFolder]:
    """Folders of clips of a machine, by name; where it has none, those of its `id_folders`."""
    own = _split_folders(machine, id_number(machine))
    return own or [folder for one in id_folders(machine) for folder in _split_folders(one, id_number(one))]


def _split_folders(unit: Path, section: int | None) -> list[SplitFolder]:
    return [
        SplitFolder(child, *_SPLITS[child.name.lower()], section)
        for child in visible_folders(unit)
        if child.name.lower() in _SPLITS
    ]


def id_folders(machine: Path) -> list[Path]:
    """Folders ``id_<nn>`` of MIMII: each a machine of that type, with ``normal`` and ``abnormal``.

    So MIMII is published (Purohit et al. 2019, zenodo.org/records/3384388).
    """
    return [
        child
        for child in visible_folders(machine)
        if id_number(child) is not None and _split_folders(child, None)
    ]


def id_number(folder: Path) -> int | None:
    """Read the number of an ``id_<nn>``; ``None`` where a folder has another name."""
    found = re.fullmatch("id_([0-9]{2,9})", folder.name.lower())
    return int(found[1]) if found else None


def is_machine(folder: Path) -> bool:
    """Whether a folder holds folders of clips."""
    return bool(split_folders(folder))


def is_split(folder: Path) -> bool:
    """Whether a folder has a name that says what its clips are."""
    return folder.name.lower() in _SPLITS


def other_audio(machine: Path) -> list[str]:
    """Names of what holds audio beside the folders of clips, and is not read."""
    known = {*_SPLITS, SUPPLEMENTAL, PSEUDO}
    read = [] if _split_folders(machine, None) else id_folders(machine)
    others = [f for f in visible_folders(machine) if f.name.lower() not in known and f not in read]
    found = [f"{f.name}/" for f in others if any(map(is_audio, _walk(f, {places.real(f)}, [])))]
    loose = sum(is_audio(path) and path.is_file() for path in machine.iterdir())
    return [*found, *([f"{loose} files beside the folders"] if loose else [])]


def visible_folders(folder: Path) -> list[Path]:
    """Folders in a folder, by name; hidden ones are left out."""
    return sorted(child for child in folder.iterdir() if not _hidden(child) and child.is_dir())


def is_audio(path: Path) -> bool:
    """Whether a file's name says that it is audio."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not _hidden(path)


def is_signal(path: Path) -> bool:
    """Whether a file's name says that it may be numbers, see `extractors.audio.signals`."""
    return path.suffix.lower() in SIGNAL_SUFFIXES and not _hidden(path)


def audio_files(folder: Path) -> tuple[list[Path], list[Fault], list[Path]]:
    """Find recordings at any depth.

    Returns
    -------
    list of Path, list of Fault, list of Path
        Audio files by path, files of numbers where there is no audio; recordings that cannot be read,
        each with the reason; files that are no recordings by their names.
    """
    files, others = list[Path](), list[Path]()
    faults = list[Fault]()
    paths = sorted(_walk(folder, {places.real(folder)}, faults))
    # Tables beside sound are about it; where there is no sound they are the recordings.
    sound = any(is_audio(path) or path.suffix.lower() in _OTHER_AUDIO for path in paths)
    for path in paths:
        read = is_audio(path) or (is_signal(path) and not sound)
        if not read and path.suffix.lower() not in _OTHER_AUDIO:
            others.append(path)
            continue
        try:
            check_file(path)
        except AsdError as error:
            faults.append(Fault(path, str(error)))
        else:
            files.append(path)
    return files, faults, others


def not_recordings(paths: Sequence[Path]) -> str:
    """Count files that are no recordings, by suffix: ``12 files (.json 10, .txt 2)``."""
    kinds = Counter(path.suffix.lower() or path.name for path in paths)
    shown = [f"{kind} {count}" for kind, count in kinds.most_common(_SHOWN)]
    rest = ["..."] if len(kinds) > _SHOWN else []
    return f"{len(paths)} files that are no recordings ({', '.join([*shown, *rest])})"


def check_file(path: Path) -> None:
    """Refuse what is not an audio file, or has a name that no result file can hold.

    Raises
    ------
    AsdError
        With the reason.
    """
    if not (is_audio(path) or is_signal(path)) or not path.is_file():
        raise AsdError(f"not an audio file; expected {', '.join(RECORDING_SUFFIXES)}")
    check_name(path)


def check_name(path: Path) -> None:
    """Refuse a name that no result file can hold, or that steers a terminal; see `check_file`."""
    check_path_text(path.as_posix())
    if "\\" in path.name:
        raise AsdError("its name holds a backslash; rename it")


def check_path_text(text: str) -> None:
    """Refuse a path that no table can hold or that steers a terminal that shows it."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise AsdError("its path is not UTF-8; rename it")
    if {"\r", "\n"} & set(text):
        raise AsdError("its path holds a line break; rename it")
    if found := control_character(text):
        raise AsdError(f"its path holds the control character {found}; rename it")


def below(path: Path, folder: Path) -> PurePosixPath:
    """Path relative to a folder."""
    return PurePosixPath(path.relative_to(folder).as_posix())


def _walk(folder: Path, seen: set[str], faults: list[Fault]) -> Iterator[Path]:
    """Files at any depth; links are followed, each folder once; a folder that cannot be read is a fault."""
    try:
        children = [(child, child.is_dir()) for child in sorted(folder.iterdir()) if not _hidden(child)]
    except OSError as error:
        faults.append(Fault(folder, f"a folder that cannot be read: {error.strerror or error}"))
        return
    for child, is_folder in children:
        if not is_folder:
            yield child
        elif (real := places.real(child)) not in seen:
            seen.add(real)
            yield from _walk(child, seen, faults)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _JUNK
