"""``system.json``: what our own scoring says of the system beside its submission files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.text import parse_json, shown
from cache.table import Section
from eval.results.folder import SYSTEM, ResultsFolder
from index.fitted import frequency


@dataclass(frozen=True)
class SystemDescription:
    """A system in words.

    Attributes
    ----------
    title
        Its name.
    transductive
        Whether scores use the test set's own statistics.
    facts
        What the reader needs to know or to repeat it: recipe, scorer, command ...; as of
        `cache.base.text.shown`.
    thresholds
        Section, as text, to the score above which a clip is called anomalous; ``None`` where no
        clip is.
    proxy
        Whether test clips are synthetic.
    cautions
        Section, as text, to what a reader of its decisions must know, sentences.
    calibration
        Section, as text, to how its threshold was learnt; see `index.fitted.FittedSection.facts`.
    """

    title: str
    transductive: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    proxy: bool = False
    cautions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Commands and places of banks may be URLs with a password.
        facts = {name: shown(fact) for name, fact in self.facts.items()}
        object.__setattr__(self, "facts", facts)

    def judged(self, section: Section) -> bool:
        """Whether decisions mean anything: not where no threshold could be learnt."""
        return self.thresholds.get(str(section), 0.0) is not None


def promise_of(calibrations: Collection[Mapping[str, Any]]) -> str:
    """Say in one sentence how often a normal clip is flagged, of all sections together."""
    shares = sorted({frequency(told["promised"]) for told in calibrations})
    groups = sorted(told["groups"] for told in calibrations)
    count = str(groups[0]) if groups[0] == groups[-1] else f"{groups[0]} to {groups[-1]}"
    names = sorted({told["grouping"] or "unknown" for told in calibrations})
    return (
        f"about {', '.join(shares)} normal clips is flagged if new recordings vary as the groups of "
        f"training clips did: {count} groups a section (--group {', '.join(names)})"
    )


def write_description(results: ResultsFolder, described: SystemDescription) -> Path:
    """Write the file, whole or not at all."""
    text = json.dumps(asdict(described), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return results.write(SYSTEM, text.encode())


def read_description(directory: Path, name: str) -> SystemDescription:
    """Read the file; a folder without one is another system's, known by its name alone.

    Raises
    ------
    AsdError
        If the file is damaged.
    """
    path = directory / SYSTEM
    try:
        found = parse_json(ResultsFolder(directory).read(SYSTEM))
        return SystemDescription(
            str(found["title"]),
            bool(found["transductive"]),
            {str(key): str(value) for key, value in found["facts"].items()},
            {str(key): None if value is None else float(value) for key, value in found["thresholds"].items()},
            bool(found.get("proxy", False)),
            {str(key): [str(text) for text in texts] for key, texts in found.get("cautions", {}).items()},
            {str(key): dict(told) for key, told in found.get("calibration", {}).items()},
        )
    except FileNotFoundError:
        return SystemDescription(name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AsdError) as error:
        raise AsdError(f"{path} is damaged ({error}); score again, or delete it") from error
