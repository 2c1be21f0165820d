"""What a listing holds and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cache.base.errors import AsdError, listing
from cache.base.processors import cores
from cache.base.progress import underway
from cache.facts import CONSTANT, SILENT, Facts, Remark, differences, remarks_of, told, usual
from cache.table import Section
from extractors.clips.dataset import Kind, KnownSet, datasets, find_known
from extractors.clips.listing import Clip, Fault, Listing
from extractors.clips.names import parse_stem
from extractors.data.probe import Probe, probe

_TRAINING_CLIPS, _TEST_CLIPS = 1000, 200  # of a section, in every year

GroupKey = tuple[str, int, str, str | None, str | None]  # machine, section, split, domain, condition


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


@dataclass(frozen=True)
class Survey:
    """What was found.

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
    attributes: Mapping[str, Mapping[str, Mapping[str, int]]]
    known: Sequence[KnownSet]
    findings: Sequence[str]
    notes: Sequence[str]


def survey(listing: Listing, year: int | None = None) -> Survey:
    """Read every file of a listing.

    Parameters
    ----------
    listing
        Of `extractors.clips.listing.list_clips`.
    year
        Compare with the data of this year, where every absence is a finding; ``None`` finds the
        year out and takes machines and sets that are wholly absent as left out on purpose.
    """
    clips, probes, faults = _read(listing)
    groups = _groups(clips, probes)
    known, alike = _known(clips, probes, year)
    absent, missing = _missing(clips, known)
    findings = [f"left out: {fault}" for fault in (*listing.faults, *faults)]
    findings += [*_duplicates(clips, probes), *_mixed(groups), *missing]
    lacking, put_right = _sounds(clips, probes)
    findings += lacking
    notes = [*listing.notes, *alike, *_scales(clips, probes), *_rare(clips), *put_right]
    (notes if year is None else findings).extend(absent)
    return Survey(groups, _attributes(clips), known, findings, notes)


def _read(listing: Listing) -> tuple[list[Clip], list[Probe], list[Fault]]:
    clips, probes, faults = [], [], []
    with (
        ThreadPoolExecutor(cores(), "probe") as pool,
        underway("looking at", "clip", len(listing.clips)) as told,
    ):
        found = pool.map(_probe, listing.clips)
        for clip, result in zip(listing.clips, found, strict=True):
            told(1)
            if isinstance(result, Probe):
                clips.append(clip)
                probes.append(result)
            else:
                faults.append(Fault(clip.path, result))
    return clips, probes, faults


def _probe(clip: Clip) -> Probe | str:
    try:
        return probe(clip.path, clip.signal)
    except AsdError as error:
        return str(error)


def _groups(clips: Sequence[Clip], probes: Sequence[Probe]) -> list[Group]:
    together: dict[GroupKey, list[Probe]] = defaultdict(list)
    for clip, found in zip(clips, probes, strict=True):
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


def _attributes(clips: Sequence[Clip]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for clip in clips:
        for name, value in clip.attributes.items():
            found[str(clip.section)][name][value] += 1
    return {
        section: {name: dict(sorted(values.items())) for name, values in sorted(names.items())}
        for section, names in sorted(found.items())
    }


def _scales(clips: Sequence[Clip], probes: Sequence[Probe]) -> Iterator[str]:
    """Say what files of numbers are in: columns, units, and how far their values go."""
    peaks: dict[tuple[Section, str], float] = {}
    for clip, found in zip(clips, probes, strict=True):
        if found.columns:
            key = clip.section, found.columns
            peaks[key] = max(peaks.get(key, 0.0), found.peak)
    for (section, columns), peak in peaks.items():
        yield f"{section}: numbers, not sound: {columns}; values up to {peak:.4g}, kept in their scale"


def _rare(clips: Sequence[Clip]) -> Iterator[str]:
    for section, names in _attributes(clips).items():
        once = [
            f"{name}={value}" for name, values in names.items() for value in values
            if values[value] == 1
        ]  # fmt: skip
        if once:
            yield f"{section}: attribute values of one clip only: {listing(once, 5)}"


def _duplicates(clips: Sequence[Clip], probes: Sequence[Probe]) -> Iterator[str]:
    same: dict[str, list[Clip]] = defaultdict(list)
    for clip, found in zip(clips, probes, strict=True):
        same[found.content_sha256].append(clip)
    for group in same.values():
        if len(group) > 1:
            shared = len({clip.split for clip in group}) > 1
            what = "train and test share a recording" if shared else "the same recording"
            yield f"{what}: {listing([clip.clip_id for clip in group], 5)}"


def _sounds(clips: Sequence[Clip], probes: Sequence[Probe]) -> tuple[list[str], list[str]]:
    """Say what was heard: clips without sound or of another bandwidth; headers put right."""
    places: dict[tuple[Section, str], dict[str, Facts]] = defaultdict(dict)
    for clip, found in zip(clips, probes, strict=True):
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
                listed = ", ".join(f"{n} clips of {v} {unit}" for v, n in sorted(counts.items()))
                yield f"{machine}: mixed recordings: {listed}"


def _known(
    clips: Sequence[Clip], probes: Sequence[Probe], year: int | None
) -> tuple[list[KnownSet], list[str]]:
    """Find published sets that the clips are of, and say which they only resemble."""
    named = [
        (clip, found.channels)
        for clip, found in zip(clips, probes, strict=True)
        if parse_stem(clip.path.stem) is not None
    ]
    if not named:
        return _known_sets(clips)
    usual = Counter(channels for _, channels in named).most_common(1)[0][0]
    counts = Counter((clip.section, clip.split) for clip, _ in named)
    sections = {section for section, _ in counts}
    whole = set()  # sections with nearly as many clips as the task's have
    for section in sections:
        train, test = counts[section, "train"], counts[section, "test"]
        if year or (train >= 0.9 * _TRAINING_CLIPS if train else test >= 0.9 * _TEST_CLIPS):
            whole.add(section)
    known = find_known({(s.machine_type, s.number) for s in whole}, usual, year)
    like = find_known({(s.machine_type, s.number) for s in sections}, usual, year)
    if known or not like:
        return known, []
    note = (
        f"sections are called as in {'; '.join(map(str, like))}, with other counts of clips: not "
        f"held against it (--year {like[0].year} does)"
    )
    return [], [note]


def _known_sets(clips: Sequence[Clip]) -> tuple[list[KnownSet], list[str]]:
    """Find public sets beside the challenge's by their machines' names, as `_known` does."""
    counts = Counter((clip.section.machine_type, clip.section.number) for clip in clips)
    found: list[KnownSet] = []
    notes = []
    for each in (one for published in datasets().values() for one in published.known if one.counts):
        (machine, (number,)), *_ = each.sections.items()
        there, expected = counts[machine, number], sum(each.counts.values())
        if there >= 0.9 * expected:
            found.append(each)
        elif there:
            notes.append(
                f"{machine} section {number:02d} is called as in {each}, with {there} of {expected} clips: "
                "not held against it"
            )
    return found, notes


def _missing(clips: Sequence[Clip], known: Sequence[KnownSet]) -> tuple[list[str], list[str]]:
    """Find what known sets have and the clips lack: wholly absent things, and wrong counts."""
    absent: dict[str, list[str]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    kinds: dict[tuple[str, int], Counter[Kind]] = defaultdict(Counter)
    for clip in clips:
        if "supplemental" not in clip.attributes:
            key = (clip.section.machine_type, clip.section.number)
            kinds[key][clip.split, clip.domain, clip.condition] += 1
    for one in known:
        for machine, numbers in one.sections.items():
            for number in numbers:
                where = f"{machine} section {number:02d}"
                if (machine, number) not in kinds:
                    absent[f"{where} is not here"].append(str(one))
                    continue
                for text, whole in _compare(kinds[machine, number], one.counts):
                    (absent if whole else wrong)[f"{where}: {text}"].append(str(one))
    return _with_sources(absent), _with_sources(wrong)


def _compare(found: Counter[Kind], expected: Mapping[Kind, int]) -> Iterator[tuple[str, bool]]:
    for kind, count in expected.items():
        split, domain, condition = kind
        # Clips to be judged may have got labels since.
        there = found[kind] if condition else sum(n for k, n in found.items() if k[0] == split)
        if there != count:
            told = " ".join(part for part in (split, domain, condition) if part)
            whole = not any(n for k, n in found.items() if k[0] == split)
            yield f"{there} of {count} clips {told}", whole


def _with_sources(told: Mapping[str, list[str]]) -> list[str]:
    return [f"{text} ({'; '.join(sets)})" for text, sets in told.items()]
