"""Recordings beside published data sets: which of them they are, and what they lack of those."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cache.table import Section
from extractors.clips.clip import Clip
from extractors.clips.dataset import Kind, KnownSet, datasets, find_known
from extractors.clips.names import parse_stem
from extractors.data.probe import Probe

Probed = Sequence[tuple[Clip, Probe]]
_TRAINING_CLIPS, _TEST_CLIPS = 1000, 200  # of a section of the task, in every year
_WHOLE = 0.9  # of a section's clips: from there on it is taken for the published one


@dataclass(frozen=True)
class Comparison:
    """Recordings beside the published sets that they are of.

    Attributes
    ----------
    known
        These sets.
    alike
        Says which sets they only resemble.
    absent
        What is not there at all: sections, and clips of a split.
    wrong
        Counts of clips that are not the set's.
    """

    known: Sequence[KnownSet]
    alike: Sequence[str]
    absent: Sequence[str]
    wrong: Sequence[str]


def compare(probed: Probed, year: int | None) -> Comparison:
    """Hold recordings against the published sets that they are of.

    Parameters
    ----------
    probed
        Clips, and what their files are.
    year
        Only sets of this year; ``None`` finds it out.
    """
    named = [(clip, found.channels) for clip, found in probed if parse_stem(clip.path.stem) is not None]
    known, alike = _challenges(named, year) if named else _others([clip.section for clip, _ in probed])
    absent: dict[str, list[str]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    kinds: dict[Section, Counter[Kind]] = defaultdict(Counter)
    splits: Counter[tuple[Section, str]] = Counter()
    for clip, _ in probed:
        if "supplemental" not in clip.attributes:
            kinds[clip.section][clip.split, clip.domain, clip.condition] += 1
            splits[clip.section, clip.split] += 1
    for one, section in [(each, section) for each in known for section in each.every]:
        where = _called(section)
        if section not in kinds:
            absent[f"{where} is not here"].append(str(one))
            continue
        for (split, domain, condition), count in one.counts.items():
            of_split = splits[section, split]
            # Clips to be judged may have got labels since.
            there = kinds[section][split, domain, condition] if condition else of_split
            if there != count:
                told = " ".join(part for part in (split, domain, condition) if part)
                (wrong if of_split else absent)[f"{where}: {there} of {count} clips {told}"].append(str(one))
    lacking = [[f"{text} ({'; '.join(sets)})" for text, sets in each.items()] for each in (absent, wrong)]
    return Comparison(known, alike, *lacking)


def _challenges(named: Sequence[tuple[Clip, int]], year: int | None) -> tuple[list[KnownSet], list[str]]:
    """Find the challenge's sets that clips, with their channels, are of, and those they only resemble."""
    usual = Counter(channels for _, channels in named).most_common(1)[0][0]
    counts = Counter((clip.section, clip.split) for clip, _ in named)
    sections = {section for section, _ in counts}
    whole = set()
    for section in sections:
        train, test = counts[section, "train"], counts[section, "test"]
        if year or (train >= _WHOLE * _TRAINING_CLIPS if train else test >= _WHOLE * _TEST_CLIPS):
            whole.add(section)
    known, like = find_known(whole, usual, year), find_known(sections, usual, year)
    if known or not like:
        return known, []
    note = (
        f"sections are called as in {'; '.join(map(str, like))}, with other counts of clips: not "
        f"held against it (--year {like[0].year} does)"
    )
    return [], [note]


def _others(sections: Sequence[Section]) -> tuple[list[KnownSet], list[str]]:
    """Find public sets beside the challenge's by their machines' names, as `_challenges` does."""
    counts = Counter(sections)
    known: list[KnownSet] = []
    notes = []
    for each in (one for published in datasets().values() for one in published.known if one.counts):
        section, *_ = each.every
        there, expected = counts[section], sum(each.counts.values())
        if there >= _WHOLE * expected:
            known.append(each)
        elif there:
            notes.append(
                f"{_called(section)} is called as in {each}, with {there} of {expected} clips: "
                "not held against it"
            )
    return known, notes


def _called(section: Section) -> str:
    return f"{section.machine_type} section {section.number:02d}"
