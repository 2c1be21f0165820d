"""Clips, files that cannot be used, and listings of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cache.base.errors import AsdError
from cache.base.text import shown
from cache.heard import PLAIN, SIGNAL_SUFFIXES, Signal, Span
from cache.table import SPLITS, SYNTHETIC, Section

T = TypeVar("T")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
RECORDING_SUFFIXES = (*AUDIO_SUFFIXES, *SIGNAL_SUFFIXES)


@dataclass(frozen=True)
class Clip:
    """One audio file and what its name, its folder and its attribute file say of it.

    Attributes
    ----------
    clip_id
        POSIX path relative to the data root.
    domain, condition
        ``None`` where unknown, as in the challenge's evaluation data.
    attributes
        Operating conditions, name to value.
    span
        Start and end in the file, s, of a window; ``None`` for the whole file.
    signal
        What is told of it as a file of numbers.
    """

    clip_id: str
    path: Path
    section: Section
    split: str
    domain: str | None = None
    condition: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    span: Span | None = None
    signal: Signal = PLAIN

    @property
    def synthetic(self) -> bool:
        """Whether it was made by a program: it carries the attribute ``synthetic``."""
        return SYNTHETIC in self.attributes


@dataclass(frozen=True)
class Fault:
    """A file that could not be used, and why."""

    path: Path
    reason: str

    @property
    def name(self) -> str:
        """The path on one line that any terminal and any table can hold."""
        return shown(str(self.path)).replace("\n", "\\u000a")  # as `shown` writes other control characters

    def __str__(self) -> str:
        return f"{self.name}: {shown(self.reason)}"


@dataclass(frozen=True)
class Listing:
    """What one or several data roots hold.

    Attributes
    ----------
    clips
        By ``clip_id``, ascending; each id once.
    faults
        Files left out, each with the reason.
    notes
        How folders were read where more than one way was open, and what was not read.
    """

    clips: tuple[Clip, ...]
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    def only(self, machines: Sequence[str], splits: Sequence[str]) -> Listing:
        """Keep these machine types and splits; an empty sequence keeps all.

        Raises
        ------
        AsdError
            If nothing is left.
        """
        known = sorted({clip.section.machine_type for clip in self.clips})
        unknown = sorted(set(machines) - set(known))
        if unknown:
            raise AsdError(f"no machine type {unknown[0]!r} in the data; it has {', '.join(known)}")
        clips = tuple(
            clip
            for clip in self.clips
            if clip.section.machine_type in (machines or known) and clip.split in (splits or SPLITS)
        )
        if not clips:
            raise AsdError(f"no clips of {', '.join(splits)} in the data")
        return Listing(clips, self.faults, self.notes)


def read_each(
    clips: Sequence[Clip], read: Callable[[Path, Signal], T], threads: int
) -> Iterator[tuple[Clip, T | Fault]]:
    """Read something of every clip's file, several side by side.

    Parameters
    ----------
    clips
        Any number.
    read
        Path, and what is told of it as a file of numbers, to what is wanted.
    threads
        How many at once.

    Yields
    ------
    clip, T or Fault
        In the order of the clips; a fault where `read` raised an `AsdError`.
    """

    def one(clip: Clip) -> tuple[Clip, T | Fault]:
        try:
            return clip, read(clip.path, clip.signal)
        except AsdError as error:
            return clip, Fault(clip.path, str(error))

    with ThreadPoolExecutor(threads, "reader") as pool:
        yield from pool.map(one, clips)


def joined(listings: Sequence[Listing]) -> Listing:
    """Put listings one after the other; ids are not compared."""
    return Listing(
        tuple(clip for listing in listings for clip in listing.clips),
        tuple(fault for listing in listings for fault in listing.faults),
        tuple(note for listing in listings for note in listing.notes),
    )
