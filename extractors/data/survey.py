"""Survey of a listing: its contents, and what is wrong with it."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.base.errors import listing
from cache.base.options import REQUIRED, Options, documented, option
from cache.base.processors import cores
from cache.base.progress import underway
from cache.base.text import align_rows, counted
from cache.facts import CONSTANT, SILENT, Facts, Remark, differences, remarks_of, told, usual
from cache.files.places import place
from cache.heard import column_option, rate_option
from cache.table import Section
from extractors.clips.clip import Clip, Fault, Listing, read_each
from extractors.clips.dataset import KNOWN, KnownSet
from extractors.clips.manifest import is_manifest
from extractors.data.comparison import Probed, compare
from extractors.data.probe import Probe, probe

_HEADER = ("machine", "section", "split", "domain", "condition", "clips", "Hz", "channels", "s")
_VALUES = 6  # of an attribute, that a table names
GroupKey = tuple[str, int, str, str | None, str | None]  # machine, section, split, domain, condition
Attributes = Mapping[str, Mapping[str, Mapping[str, int]]]  # section to name to value to count


@documented
@dataclass(frozen=True)
class SurveyRequest(Options):
    """Which data roots are surveyed, and against what."""

    roots: tuple[Path, ...] = option(REQUIRED, "data roots or manifests", read=place, flag="ROOT")
    year: int | None = option(
        None, "compare with the data of this year, {choices}; every absent machine is a finding then "
        "(default: found out)", choices=sorted({int(one.year) for one in KNOWN}),
    )  # fmt: skip
    rate: int | None = rate_option()
    column: str = column_option()


@dataclass(frozen=True)
class Group:
    """Clips of one machine, section, split, domain and condition.

    Attributes
    ----------
    machine_type, section, split, domain, condition
        Split also ``supplemental``; domain and condition ``None`` where unknown.
    clips
        How many could be read.
    sample_rates
        Hz, to how many clips have it.
    channels
        Number of channels, to how many clips have it.
    seconds
        Shortest and longest.
    """

    machine_type: str
    section: int
    split: str
    domain: str | None
    condition: str | None
    clips: int
    sample_rates: Mapping[int, int]
    channels: Mapping[int, int]
    seconds: tuple[float, float]

    @property
    def row(self) -> tuple[str, ...]:
        """Its cells in the table of a survey."""
        low, high = (f"{seconds:.4g}" for seconds in self.seconds)
        return (
            self.machine_type,
            f"{self.section:02d}",
            *(text or "-" for text in (self.split, self.domain, self.condition)),
            str(self.clips),
            "/".join(map(str, self.sample_rates)),
            "/".join(map(str, self.channels)),
            low if low == high else f"{low} to {high}",
        )


@dataclass(frozen=True)
class Survey:
    """Contents of data roots, findings and notes.

    Attributes
    ----------
    groups
        Sorted.
    attributes
        Machine and section, as text, to attribute to value to how many clips have it.
    known
        Published data sets that these machines belong to.
    findings
        What should be put right.
    notes
        What is worth knowing.
    """

    groups: Sequence[Group]
    attributes: Attributes
    known: Sequence[KnownSet]
    findings: Sequence[str]
    notes: Sequence[str]

    def __str__(self) -> str:
        tables = [[_HEADER, *(group.row for group in self.groups)]]
        rows: list[tuple[str, ...]] = [("section", "attribute", "")]
        for section, names in self.attributes.items():
            for name, counts in names.items():
                usual_first = sorted(counts, key=lambda value: (-counts[value], value))
                each = [f"{value or '(empty)'} x {counts[value]}" for value in usual_first[:_VALUES]]
                rest = ", ..." if len(counts) > _VALUES else ""
                rows.append((section, name, f"{len(counts)} values: {', '.join(each)}{rest}"))
        if self.attributes:
            tables.append(rows)
        clips = counted(sum(group.clips for group in self.groups), "clip")
        machines = counted(len({group.machine_type for group in self.groups}), "machine")
        known = f"; compared with {', '.join(map(str, self.known))}" if self.known else ""
        lines = [line for table in tables for line in (*align_rows(table, len(table[0])), "")]
        return "\n".join([*lines, f"{clips} of {machines}, {counted(len(self.findings), 'finding')}{known}"])

    def next(self, roots: Sequence[object]) -> str:
        """Say what to do after a look at data roots."""
        folder = shlex.join(map(str, roots))
        splits = {group.split for group in self.groups}
        if len(roots) == 1 and {"train", "test"} - splits and is_manifest(Path(str(roots[0]))):
            lacking, what = ("test", "to be judged") if "train" in splits else ("train", "as it should sound")
            return f"add rows of split {lacking}, recordings of the machine {what}, to {folder}"
        if "train" not in splits:
            return (
                "put recordings of the machine as it should sound into a folder normal/, beside the others "
                f"in its folder of {folder}"
            )
        if "test" not in splits:
            return f"put recordings to be judged into a folder new/ beside the normal ones in {folder}"
        first = "see to what was found, then " if self.findings else ""
        return f"{first}asd run default --data {folder} --out results"


def survey(found: Listing, year: int | None = None) -> Survey:
    """Read every file of a listing.

    Parameters
    ----------
    found
        Of `extractors.clips.listing.list_clips`.
    year
        Compare with the data of this year, where every absence is a finding; ``None`` finds the
        year out and takes machines and sets that are wholly absent as left out on purpose.
    """
    probed: list[tuple[Clip, Probe]] = []
    faults = list(found.faults)
    with underway("looking at", "clip", len(found.clips)) as told:
        for clip, one in read_each(found.clips, probe, cores()):
            told(1)
            if isinstance(one, Fault):
                faults.append(one)
            else:
                probed.append((clip, one))
    values: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for clip, _ in probed:
        for name, value in clip.attributes.items():
            values[str(clip.section)][name][value] += 1
    attributes = {
        section: {name: dict(sorted(counts.items())) for name, counts in sorted(names.items())}
        for section, names in sorted(values.items())
    }
    groups, published = _groups(probed), compare(probed, year)
    lacking, put_right = _sounds(probed)
    findings = [f"left out: {fault}" for fault in faults]
    findings += [*_alike(probed), *_mixed(groups), *published.wrong, *lacking]
    notes = [*found.notes, *published.alike, *_oddities(probed, attributes), *put_right]
    (notes if year is None else findings).extend(published.absent)
    return Survey(groups, attributes, published.known, findings, notes)


def _groups(probed: Probed) -> list[Group]:
    together: dict[GroupKey, list[Probe]] = defaultdict(list)
    for clip, found in probed:
        section = clip.section
        split = "supplemental" if "supplemental" in clip.attributes else clip.split
        key = (section.machine_type, section.number, split, clip.domain, clip.condition)
        together[key].append(found)
    return [
        Group(
            *key,
            len(found),
            dict(sorted(Counter(one.sample_rate for one in found).items())),
            dict(sorted(Counter(one.channels for one in found).items())),
            (min(one.seconds for one in found), max(one.seconds for one in found)),
        )
        for key, found in sorted(together.items(), key=lambda item: tuple(map(str, item[0])))
    ]


def _oddities(probed: Probed, attributes: Attributes) -> Iterator[str]:
    """Say how far the values of files of numbers go, and which attribute values a single clip has."""
    peaks: dict[tuple[Section, str], float] = {}
    for clip, found in probed:
        if found.columns:
            key = clip.section, found.columns
            peaks[key] = max(peaks.get(key, 0.0), found.peak)
    for (section, columns), peak in peaks.items():
        yield f"{section}: numbers, not sound: {columns}; values up to {peak:.4g}, kept in their scale"
    for name, kinds in attributes.items():
        once = [f"{kind}={value}" for kind, values in kinds.items() for value in values if values[value] == 1]
        if once:
            yield f"{name}: attribute values of one clip only: {listing(once, 5)}"


def _alike(probed: Probed) -> Iterator[str]:
    """Name clips that are one recording."""
    same: dict[str, list[Clip]] = defaultdict(list)
    for clip, found in probed:
        same[found.content_sha256].append(clip)
    for group in same.values():
        if len(group) > 1:
            shared = len({clip.split for clip in group}) > 1
            what = "train and test share a recording" if shared else "the same recording"
            yield f"{what}: {listing([clip.clip_id for clip in group], 5)}"


def _sounds(probed: Probed) -> tuple[list[str], list[str]]:
    """Say what was heard: clips without sound or of another bandwidth; headers put right."""
    places: dict[tuple[Section, str], dict[str, Facts]] = defaultdict(dict)
    for clip, found in probed:
        places[clip.section, clip.split][clip.clip_id] = found.facts
    lacking: list[Remark] = []
    put_right: list[Remark] = []
    for (section, split), facts in places.items():
        for remark in remarks_of(f"{section} {split}", facts):
            silent = any(word in remark.text for word in (SILENT, CONSTANT))
            (lacking if silent else put_right).append(remark)
        trained = usual(places.get((section, "train"), {}).values())
        # Where the rates differ that is found anyway.
        full = {name: each for name, each in facts.items() if trained
                and each.sample_rate == trained.sample_rate}  # fmt: skip
        lacking += differences(f"{section} {split}", full, trained, None)
    return told(lacking), told(put_right)


def _mixed(groups: Sequence[Group]) -> Iterator[str]:
    for what, unit in (("sample_rates", "Hz"), ("channels", "channels")):
        met: dict[str, Counter[int]] = defaultdict(Counter)
        for group in groups:
            met[group.machine_type].update(getattr(group, what))
        for machine, counts in met.items():
            if len(counts) > 1:
                each = ", ".join(f"{n} clips of {v} {unit}" for v, n in sorted(counts.items()))
                yield f"{machine}: mixed recordings: {each}"
