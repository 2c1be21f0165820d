"""Operating conditions of clips, from the tails of their names and from attribute files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from cache.base.errors import AsdError
from cache.base.text import composed, control_character
from cache.files.text_tables import read_table
from extractors.clips.clip import Fault

CONCEALED = "noAttribute"  # what the task writes where it conceals them, from 2024 on

# Keys that hold an underscore themselves: pumps of 2021; microphones of 2024.
_LONG_KEYS = (("serial", "no"), ("mic", "pos"))
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# Key and value in one, as in spd1000_BckgA: a word, then a number or one capital.
_FUSED = re.compile(r"(?P<key>[A-Za-z][A-Za-z-]*?)(?P<value>[0-9]+(?:\.[0-9]+)?|[A-Z])")


def parse_tail(tail: str | None) -> dict[str, str]:
    """Read the free text behind the number of a clip.

    Parameters
    ----------
    tail
        E.g. ``car_A1_spd_28V``. ``None``, an underscore alone and ``noAttribute`` say nothing.

    Returns
    -------
    dict[str, str]
        Name to value. Besides ``key_value`` pairs these are understood: values before their unit
        (``25_mm``), key and value in one word (``spd1000``), keys of two words (``mic_pos``). A
        word without a partner has the value ``""``; a key that comes again is numbered (``mic#2``).
    """
    words = [word for word in (tail or "").split("_") if word]
    if words == [CONCEALED]:
        return {}
    found: dict[str, str] = {}
    while words:
        key, value, taken = _next_pair(words)
        words = words[taken:]
        found[_free(key, found)] = value
    return found


def write_tail(attributes: Mapping[str, str]) -> str:
    """Write attributes as ``key_value`` pairs; what `parse_tail` reads back where they allow it."""
    return "_".join(part for pair in attributes.items() for part in pair if part)


def _next_pair(words: list[str]) -> tuple[str, str, int]:
    """Find the first key, its value, and of how many words both are."""
    for key in _LONG_KEYS:
        if tuple(words[:2]) == key and len(words) > 2:
            return "_".join(key), words[2], 3
    first, *others = words
    if fused := _FUSED.fullmatch(first):
        return fused["key"], fused["value"], 1
    if not others:
        return first, "", 1
    if _NUMBER.fullmatch(first) and not _NUMBER.fullmatch(others[0]):
        return others[0], first, 2
    return first, others[0], 2


def _free(key: str, taken: Iterable[str]) -> str:
    name, count = key, 1
    while name in taken:
        count += 1
        name = f"{key}#{count}"
    return name


class AttributeFiles:
    """The ``attributes_<nn>.csv`` of a machine: ``file_name,d1p,d1v,d2p,d2v,...``.

    Values may be empty; a name ``dNp`` that is empty, or ``noAttribute``, is no attribute.

    Attributes
    ----------
    faults
        Files that are no attribute files, and rows that do not fit, each with the reason.
    """

    def __init__(self, machine: Path) -> None:
        self.faults: list[Fault] = []
        self._rows: dict[str, dict[str, str]] = {}
        for path in sorted(machine.glob("attributes_*.csv")):
            try:
                table = read_table(path, short=True)  # some end at a clip's last attribute
                pairs = _pairs(table.columns)
            except AsdError as error:
                self.faults.append(Fault(path, f"not an attribute file: {error}"))
                continue
            self.faults += [Fault(path, f"row {n}: {why}") for n, why in table.faults.items()]
            for number, row in table.rows.items():
                if found := control_character("".join(row.values())):
                    self.faults.append(Fault(path, f"row {number}: control character {found}"))
                    continue
                self._rows[_key(row["file_name"])] = {
                    row[name]: row[value] for name, value in pairs if row[name] not in ("", CONCEALED)
                }

    def __bool__(self) -> bool:
        return bool(self._rows)

    def find(self, below_machine: PurePosixPath) -> dict[str, str] | None:
        """Attributes of a clip by its path below the machine's folder; ``None`` without a row.

        A file may name clips with more folders than these, or with none.
        """
        folder, name = below_machine.parent.name, below_machine.name
        keys = (composed(f"{folder}/{name}"), composed(name))
        return next((self._rows[key] for key in keys if key in self._rows), None)


def _pairs(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Columns of names and of values.

    Raises
    ------
    AsdError
        If they are not those of an attribute file.
    """
    names = [name for name in columns if re.fullmatch(r"d[0-9]+p", name)]
    pairs = [(name, f"{name[:-1]}v") for name in names]
    lacking = [name for name in ("file_name", *(v for _, v in pairs)) if name not in columns]
    if lacking:
        raise AsdError(f"no column {lacking[0]}; expected file_name,d1p,d1v,d2p,d2v,...")
    return pairs


def _key(file_name: str) -> str:
    """Folder and name of a clip, however the file writes its path."""
    return composed("/".join(PurePosixPath(file_name.replace("\\", "/")).parts[-2:]))
