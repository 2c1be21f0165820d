"""Read and write the task's file names, 2020 to 2026.

============================== ====================================================================
2020                           ``normal_id_01_00000000``; of the evaluation set ``id_01_00000000``
2021                           ``section_00_source_train_normal_0000_<attributes>``; test clips of
                               the development set without attributes, of the evaluation set
                               ``section_03_source_test_0000``
2022 to 2026                   ``section_00_source_train_normal_0000_<attributes>``; test clips of
                               the evaluation set ``section_00_0000``
2024, RoboticArm               the word ``test`` may be missing: ``section_00_source_normal_0000``
============================== ====================================================================

A machine id of 2020 is a section here. Numbers begin at 0000 or 0001 and may have any width. The
forms are those of the directory trees on the task's pages
(dcase.community/challenge<year>, task 2) and of public file lists. No public list of the names of
2026 was found; they are read like those of 2025.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cache.base.errors import AsdError
from cache.base.text import composed, control_character
from cache.files.atomic import write_atomic
from cache.files.text_tables import read_table
from extractors.clips.clip import Fault

_LABELLED = re.compile(
    r"section_(?P<section>[0-9]{2,})_(?P<domain>source|target)_(?:(?P<split>train|test)_)?"
    r"(?P<condition>normal|anomaly)_(?P<number>[0-9]+)(?:_(?P<tail>.*))?",
    re.DOTALL,
)
_ANONYMOUS = re.compile(
    r"section_(?P<section>[0-9]{2,})(?:_(?P<domain>source|target)_(?P<split>test))?_(?P<number>[0-9]+)"
)
_OF_2020 = re.compile(r"(?:(?P<condition>normal|anomaly)_)?id_(?P<section>[0-9]{2,})_(?P<number>[0-9]+)")


@dataclass(frozen=True)
class ClipName:
    """A file name of the task in its parts.

    Attributes
    ----------
    section
        Section, or machine id of 2020.
    number
        The clip's own, as written.
    domain, split, condition
        ``None`` where the name does not say.
    tail
        What follows the number and its underscore, see `extractors.clips.names`; ``None``
        where nothing does.
    unit
        ``section``, or ``id`` as in 2020.
    """

    section: int
    number: str
    domain: str | None = None
    split: str | None = None
    condition: str | None = None
    tail: str | None = None
    unit: str = "section"

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        unit = f"{self.unit}_{self.section:02d}"
        if self.unit == "id":
            parts = [self.condition, unit, self.number]
        else:
            parts = [unit, self.domain, self.split, self.condition, self.number, self.tail]
        return "_".join(part for part in parts if part is not None)

    def with_attributes(self, attributes: Mapping[str, str]) -> ClipName:
        """Write attributes into the tail.

        Characters that would end a word of the name, or the name itself, become ``-``: an attribute
        file has the values as they are.
        """
        words = [re.sub(r"[_/\\\s]+", "-", text) for pair in attributes.items() for text in pair]
        return replace(self, tail="_".join(words) or None)


def parse_stem(stem: str) -> ClipName | None:
    """Read a file name without its suffix; ``None`` where it is not one of the task's."""
    for form, unit in ((_LABELLED, "section"), (_ANONYMOUS, "section"), (_OF_2020, "id")):
        if match := form.fullmatch(stem):
            said = match.groupdict()
            return ClipName(
                int(match["section"]),
                match["number"],
                said.get("domain"),
                said.get("split"),
                said.get("condition"),
                said.get("tail"),
                unit,
            )
    return None


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
        ClipName to value. Besides ``key_value`` pairs these are understood: values before their unit
        (``25_mm``), key and value in one word (``spd1000``), keys of two words (``mic_pos``). A
        word without a partner has the value ``""``; a key that comes again is numbered (``mic#2``).
    """
    words = [word for word in (tail or "").split("_") if word]
    if words == [CONCEALED]:
        return {}
    found: dict[str, str] = {}
    while words:
        first, *others = words
        fused = _FUSED.fullmatch(first)
        if tuple(words[:2]) in _LONG_KEYS and len(words) > 2:
            key, value, taken = "_".join(words[:2]), words[2], 3
        elif fused:
            key, value, taken = fused["key"], fused["value"], 1
        elif not others:
            key, value, taken = first, "", 1
        elif _NUMBER.fullmatch(first) and not _NUMBER.fullmatch(others[0]):
            key, value, taken = others[0], first, 2
        else:
            key, value, taken = first, others[0], 2
        words, name, count = words[taken:], key, 1
        while name in found:
            count += 1
            name = f"{key}#{count}"
        found[name] = value
    return found


def write_tail(attributes: Mapping[str, str]) -> str:
    """Write attributes as ``key_value`` pairs; what `parse_tail` reads back where they allow it."""
    return "_".join(part for pair in attributes.items() for part in pair if part)


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
            except AsdError as error:
                self.faults.append(Fault(path, f"not an attribute file: {error}"))
                continue
            pairs = [(name, f"{name[:-1]}v") for name in table.columns if re.fullmatch(r"d[0-9]+p", name)]
            lacking = [name for name in ("file_name", *(v for _, v in pairs)) if name not in table.columns]
            if lacking:
                reason = f"no column {lacking[0]}; expected file_name,d1p,d1v,d2p,d2v,..."
                self.faults.append(Fault(path, f"not an attribute file: {reason}"))
                continue
            self.faults += [Fault(path, f"row {n}: {why}") for n, why in table.faults.items()]
            for number, row in table.rows.items():
                if found := control_character("".join(row.values())):
                    self.faults.append(Fault(path, f"row {number}: control character {found}"))
                    continue
                parts = PurePosixPath(row["file_name"].replace("\\", "/")).parts[-2:]  # however written
                self._rows[composed("/".join(parts))] = {
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


def write_attributes(path: Path, attributes: Mapping[str, Mapping[str, str]]) -> None:
    """Write an attribute file, ``file_name,d1p,d1v,...``, whole or not at all.

    Parameters
    ----------
    path
        ``<machine>/attributes_<nn>.csv``.
    attributes
        Clip id to its attributes, name to value; at least one clip.
    """
    rows: list[dict[str, str]] = []
    for clip, pairs in attributes.items():
        numbered = enumerate(pairs.items(), start=1)
        cells = {f"d{i}{kind}": text for i, pair in numbered for kind, text in zip("pv", pair, strict=True)}
        rows.append({"file_name": clip, **cells})
    longest = max(range(len(rows)), key=lambda row: len(rows[row]))
    write_table(path, list(rows[longest]), rows)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file with a header, whole or not at all; what a row lacks stays empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
