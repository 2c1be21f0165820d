"""Operating conditions of clips, from the tails of their names and from attribute files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from extractors.layouts.clip import Fault

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
        Files that are no attribute files, each with the reason.
    """

    def __init__(self, machine: Path) -> None:
        self.faults: list[Fault] = []
        self._rows: dict[str, dict[str, str]] = {}
        for path in sorted(machine.glob("attributes_*.csv")):
            try:
                with path.open(newline="", encoding="utf-8-sig") as file:
                    self._rows |= dict(_row(row) for row in csv.DictReader(file))
            except (OSError, KeyError, ValueError, AttributeError, csv.Error) as error:
                reason = f"not an attribute file (file_name,d1p,d1v,...): {error!r}"
                self.faults.append(Fault(path, reason))

    def __bool__(self) -> bool:
        return bool(self._rows)

    def find(self, below_machine: PurePosixPath) -> dict[str, str] | None:
        """Attributes of a clip by its path below the machine's folder; ``None`` without a row.

        A file may name clips with more folders than these, or with none.
        """
        folder, name = below_machine.parent.name, below_machine.name
        keys = (f"{folder}/{name}", name)
        return next((self._rows[key] for key in keys if key in self._rows), None)


def _row(row: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    names = [key for key in row if key and re.fullmatch(r"d[0-9]+p", key)]
    found = {row[n]: row[f"{n[:-1]}v"] or "" for n in names if row[n] not in (None, "", CONCEALED)}
    return "/".join(PurePosixPath(row["file_name"].replace("\\", "/")).parts[-2:]), found
