"""Plan of a synthetic root: every clip and its sources, before the first is made."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.random import Generator

from cache.base.errors import AsdError
from cache.table import DOMAINS, SYNTHETIC, Section, domain_or_source
from extractors.audio.files import content_sha256
from extractors.clips.folders import PSEUDO
from extractors.clips.listing import Clip
from extractors.clips.names import ClipName
from finetune.synthesis.method import Method

Members = Sequence[Clip]


def tested_clips(clips: Members, share: float, seed: int) -> list[Clip]:
    """Choose the clips of a section that test a proxy.

    Parameters
    ----------
    clips
        Training clips of one section.
    share
        Of each domain's clips, between 0 and 1: at least one clip, and never all.
    seed
        Of the choice.

    Returns
    -------
    list of Clip
        In the order given. Copies of one recording, by content, are all there or none is.

    Raises
    ------
    AsdError
        If there are too few clips, or one cannot be read.
    """
    section = clips[0].section
    # The last number is none of a turn's: its order of clips would be this one's.
    rng = np.random.default_rng((seed, zlib.crc32(str(section).encode()), 2**31))
    contents = {}
    for clip in clips:
        try:
            contents[clip.clip_id] = content_sha256(clip.path)
        except AsdError as error:
            raise AsdError(f"{clip.path} {error}") from error
    chosen = set()
    for _, members in sorted(by_domain(clips).items()):
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen |= {contents[clip.clip_id] for clip in shuffled(members, rng)[:count]}
    tested = [clip for clip in clips if contents[clip.clip_id] in chosen]
    if not tested or len(tested) == len(clips):
        raise AsdError(f"{len(clips)} training clips are too few to hold some out")
    return tested


def by_domain(clips: Members) -> dict[str, list[Clip]]:
    """Domain to its clips, only domains that have some."""
    found = {name: [clip for clip in clips if domain_or_source(clip.domain) == name] for name in DOMAINS}
    return {name: members for name, members in found.items() if members}


def shuffled(clips: Members, rng: Generator) -> list[Clip]:
    """Give the clips in a random order."""
    return [clips[row] for row in rng.permutation(len(clips))]


HELD_OUT = "held-out"  # what the attribute `synthetic` says of a recording that tests a proxy


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes
    ----------
    kind
        One of `KINDS`.
    methods
        Name to method; they take turns.
    per_section
        Clips to make a section.
    seed
        From 0.
    domain
        Of the recordings that target normals are made of.
    held_out
        Share of a domain's training clips that a proxy root tests with.
    """

    kind: str
    methods: Mapping[str, Method]
    per_section: int
    seed: int = 0
    domain: str = "target"
    held_out: float = 0.3


@dataclass(frozen=True)
class FilePlan:
    """One file of a synthetic root.

    Attributes
    ----------
    section, folder, name
        Where it goes and what it is called.
    attributes
        Operating conditions, `SYNTHETIC` among them unless it is a training clip as it was.
    sources
        Recordings that it is made of.
    seed
        Of its own randomness; empty for a copy of the one recording.
    """

    section: Section
    folder: str
    name: ClipName
    attributes: Mapping[str, str]
    sources: tuple[Clip, ...]
    seed: tuple[int, ...] = field(default=())

    @property
    def path(self) -> str:
        """POSIX path below the root, the clip's id."""
        suffix = ".wav" if self.seed else self.sources[0].path.suffix
        stem = self.name.with_attributes(self.attributes).stem
        return f"{self.section.machine_type}/{self.folder}/{stem}{suffix}"

    @property
    def method(self) -> str:
        """Name of its method, `HELD_OUT`, or nothing for a training clip as it was."""
        return self.attributes.get(SYNTHETIC, "")


def plan(order: Order, clips: Members) -> tuple[list[FilePlan], list[str]]:
    """Plan a root.

    Parameters
    ----------
    order
        What is asked for.
    clips
        Training clips of any number of sections.

    Returns
    -------
    planned, notes
        By section; what could not be planned, and why.

    Raises
    ------
    AsdError
        If a method that makes faults is to make normal clips, or nothing can be made.
    """
    faulty = [name for name, method in order.methods.items() if method.is_fault]
    if order.kind == "normals" and faulty:
        raise AsdError(f"{faulty[0]} makes a fault, which is no normal sound: take it for --as anomalies")
    sections: dict[Section, list[Clip]] = {}
    for clip in clips:
        sections.setdefault(clip.section, []).append(clip)
    planned: list[FilePlan] = []
    notes = []
    for section in sorted(sections):
        try:
            planned += list(KINDS[order.kind](order, sections[section]))
        except AsdError as error:
            notes.append(f"{section}: {error}")
    if not planned:
        raise AsdError("nothing can be made: " + "; ".join(notes or ["no training clips"]))
    return planned, notes


def _normals(order: Order, clips: Members) -> Iterator[FilePlan]:
    pool = [clip for clip in clips if domain_or_source(clip.domain) == order.domain]
    if not pool:
        raise AsdError(f"no {order.domain} clips to make target clips of; see --from")
    yield from _made(order, {"target": pool}, clips, ("train", "train", "normal"))


def _anomalies(order: Order, clips: Members) -> Iterator[FilePlan]:
    yield from _made(order, by_domain(clips), clips, (PSEUDO, "train", "anomaly"))


def _proxy(order: Order, clips: Members) -> Iterator[FilePlan]:
    """Training clips, those held out of them as test normals, and faults made of the latter.

    Nothing that a pseudo-anomaly is made of stays in training, and copies of one recording stay
    together: a scorer that remembers its training clips gets no hint of a test clip.
    """
    tested = tested_clips(clips, order.held_out, order.seed)
    kept = [clip for clip in clips if clip not in tested]
    for split, members in (("train", kept), ("test", tested)):
        for number, clip in (pair for own in by_domain(members).values() for pair in enumerate(own)):
            domain = domain_or_source(clip.domain)
            name = ClipName(clip.section.number, f"{number:04d}", domain, split, "normal")
            marked = {**clip.attributes, **({SYNTHETIC: HELD_OUT} if split == "test" else {})}
            yield FilePlan(clip.section, split, name, marked, (clip,))
    yield from _made(order, by_domain(tested), tested, ("test", "test", "anomaly"))


KINDS: Mapping[str, Callable[[Order, Members], Iterator[FilePlan]]] = MappingProxyType(
    {"normals": _normals, "anomalies": _anomalies, "proxy": _proxy}
)


def _made(
    order: Order, pools: Mapping[str, Members], partners: Members, place: tuple[str, str, str]
) -> Iterator[FilePlan]:
    """Plan the clips to make: methods, then domains, then recordings take turns."""
    folder, split, condition = place
    section = partners[0].section
    base = (order.seed, zlib.crc32(str(section).encode()))
    domains, names = sorted(pools), list(order.methods)
    turns = {
        pair: shuffled(pools[pair[0]], np.random.default_rng((*base, order_of)))
        for order_of, pair in enumerate((d, m) for d in domains for m in names)
    }
    counts = dict.fromkeys(domains, 0)
    for number in range(order.per_section):
        method = names[number % len(names)]
        domain = domains[number // len(names) % len(domains)]
        turn = turns[domain, method]
        first = turn[number // (len(names) * len(domains)) % len(turn)]
        seed = (*base, len(turns), number)  # longer than those of the turns, so never one of them
        sources = _sources(first, method, order.methods[method].clips - 1, (pools[domain], partners), seed)
        name = ClipName(section.number, f"{counts[domain]:04d}", domain, split, condition)
        counts[domain] += 1
        attributes = {**first.attributes, SYNTHETIC: method}
        yield FilePlan(section, folder, name, attributes, sources, seed)


def _sources(
    first: Clip, name: str, wanted: int, pools: tuple[Members, ...], seed: tuple[int, ...]
) -> tuple[Clip, ...]:
    """Draw the other recordings that a method wants, from the first pool that has enough of them."""
    for pool in pools:
        others = [clip for clip in pool if clip != first]
        if len(others) >= wanted:
            rng = np.random.default_rng((*seed, wanted))
            drawn = rng.choice(len(others), wanted, replace=False)
            return (first, *(others[row] for row in drawn))
    raise AsdError(f"{name} takes {wanted + 1} clips, and there are too few; add recordings or leave it out")
