"""File names of the task, 2020 to 2026, to what they say and back.

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

import re
from dataclasses import dataclass

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
class Name:
    """What a file name of the task says.

    Attributes
    ----------
    section
        Section, or machine id of 2020.
    number
        The clip's own, as written.
    domain, split, condition
        ``None`` where the name does not say.
    tail
        What follows the number and its underscore, see `extractors.clips.attributes`; ``None``
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


def parse_stem(stem: str) -> Name | None:
    """Read a file name without its suffix; ``None`` where it is not one of the task's."""
    for form, unit in ((_LABELLED, "section"), (_ANONYMOUS, "section"), (_OF_2020, "id")):
        if match := form.fullmatch(stem):
            said = match.groupdict()
            return Name(
                int(match["section"]),
                match["number"],
                said.get("domain"),
                said.get("split"),
                said.get("condition"),
                said.get("tail"),
                unit,
            )
    return None
