"""Which clips a page lets be heard, and their sounds, within a number of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest

from cache.base.errors import AsdError
from cache.base.progress import underway
from cache.heard import split_id
from cache.table import Section
from eval.page.sound import PageSound, make_sound, native_rate
from eval.page.views import ClipView
from eval.scoring.difference import Difference, describe
from extractors.audio.decode import read_audio
from extractors.clips.listing import Clip

_WORKERS = 2  # encoding leaves the interpreter; more would only heat a shared machine
_BATCH = 32

Views = Mapping[Section, Sequence[ClipView]]


@dataclass(frozen=True)
class Playback:
    """What a page can play.

    Attributes
    ----------
    sounds
        Clip id to sound.
    clips
        Section to the names of its test clips that can be heard with all their neighbours.
    faults
        Recordings that could not be read, each with the reason.
    differences
        Section and name of a clip that can be heard to what it has that its nearest normal one has not.
    """

    sounds: Mapping[str, PageSound]
    clips: Mapping[Section, frozenset[str]]
    faults: Sequence[str]
    differences: Mapping[tuple[Section, str], Difference] = field(default_factory=dict)


def listen(views: Views, hashes: Mapping[str, str], most: int, budget: int) -> Playback:
    """Make the sounds of the clips most worth hearing.

    Parameters
    ----------
    views
        Section to its clips, the most anomalous first.
    hashes
        Id of a recording to the SHA-256 of the file that was scored or learnt from; another file
        is not played.
    most
        Clips a section at most, and as many false alarms and as many misses.
    budget
        Bytes of all sounds together.

    Returns
    -------
    Heard
        Sections take turns, so that each has its share when the budget ends.
    """
    made: dict[str, PageSound | str] = {}
    kept: dict[str, PageSound] = {}
    heard: dict[Section, set[str]] = {section: set() for section in views}
    told: dict[tuple[Section, str], Difference] = {}
    order = list(worth_hearing(views, most))
    with ThreadPoolExecutor(_WORKERS) as pool, underway("sounds", "clip", len(order)) as done:
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            new = {c.clip_id: c for _, view in batch for c in recordings_of(view)}
            new = {key: clip for key, clip in new.items() if key not in made}
            made |= zip(new, pool.map(partial(_sound, hashes), new.values()), strict=True)
            # What cannot be played, or is another recording than the one scored, is not described.
            whole = [(section, view) for section, view in batch
                     if all(isinstance(made[c.clip_id], PageSound) for c in recordings_of(view))]  # fmt: skip
            differences = pool.map(_difference, [view for _, view in whole])
            told |= {
                (section, view.name): one
                for (section, view), one in zip(whole, differences, strict=True)
                if one is not None
            }
            for section, view in batch:
                fitting = _new_sounds(view, made, kept)
                budget -= sum(sound.size for sound in fitting.values())
                if budget < 0:
                    return _heard(kept, heard, made, told)
                kept |= fitting
                heard[section].add(view.name)
                done(1)
    return _heard(kept, heard, made, told)


def worth_hearing(views: Views, most: int) -> Iterator[tuple[Section, ClipView]]:
    """Give clips in order of interest, sections in turn, each clip once."""
    queues = [[(section, view) for view in _of_interest(clips, most)]
              for section, clips in views.items()]  # fmt: skip
    for turn in zip_longest(*queues):
        yield from (entry for entry in turn if entry is not None)


def recordings_of(view: ClipView) -> list[Clip]:
    """List the recordings that a clip's comparison plays: its own, then its neighbours'."""
    found = [view.recording, *(neighbour.recording for neighbour in view.neighbours)]
    return [clip for clip in found if clip is not None]


def _of_interest(clips: Sequence[ClipView], most: int) -> list[ClipView]:
    """Interleave the most anomalous, the false alarms and the clearest misses."""
    alarms = [view for view in clips if view.error == "false alarm"]
    misses = [view for view in reversed(clips) if view.error == "miss"]
    columns = (clips[:most], alarms[:most], misses[:most])
    mixed = [view for row in zip_longest(*columns) for view in row if view is not None]
    return [view for view in dict.fromkeys(mixed) if view.recording is not None]


def _sound(hashes: Mapping[str, str], clip: Clip) -> PageSound | str:
    try:
        return make_sound(clip.path, clip.span, hashes.get(split_id(clip.clip_id)[0]), clip.signal)
    except AsdError as error:
        return f"{clip.path}: {error}"


def _difference(view: ClipView) -> Difference | None:
    """Describe a clip against the neighbour that decided; ``None`` where one is not to be read."""
    near = [one for one in view.neighbours if one.recording is not None]
    near.sort(key=lambda one: one.domain != view.decided)
    if view.recording is None or not near or near[0].recording is None:
        return None
    clip, normal = view.recording, near[0].recording
    try:
        rate = min(native_rate(clip.path, clip.signal), native_rate(normal.path, normal.signal))
        return describe(
            read_audio(clip.path, rate, clip.span, signal=clip.signal).samples,
            read_audio(normal.path, rate, normal.span, signal=normal.signal).samples,
            rate,
        )
    except AsdError:  # it is named where its sound is made
        return None


def _new_sounds(
    view: ClipView, made: Mapping[str, PageSound | str], kept: Mapping[str, PageSound]
) -> dict[str, PageSound]:
    """Sounds of a clip's comparison that the page does not hold yet."""
    wanted = {c.clip_id: made[c.clip_id] for c in recordings_of(view) if c.clip_id not in kept}
    return {key: sound for key, sound in wanted.items() if isinstance(sound, PageSound)}


def _heard(
    kept: Mapping[str, PageSound],
    heard: Mapping[Section, set[str]],
    made: Mapping[str, PageSound | str],
    told: Mapping[tuple[Section, str], Difference],
) -> Playback:
    clips = {section: frozenset(names) for section, names in heard.items()}
    faults = [found for found in made.values() if isinstance(found, str)]
    return Playback(kept, clips, faults, told)
