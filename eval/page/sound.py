"""The sounds of a page: which clips can be heard, each as a small MP3 with its mel spectrogram."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.progress import underway
from cache.heard import PLAIN, SIGNAL_SUFFIXES, Signal, Span, split_id
from cache.table import Section
from eval.page.views import ClipView
from eval.scoring.difference import Difference, describe, power_spectra
from extractors.audio.decode import read_audio
from extractors.audio.files import opened
from extractors.clips.listing import Clip

Floats = NDArray[np.float64]
Views = Mapping[Section, Sequence[ClipView]]

RATES = (8_000, 16_000, 32_000)  # of MP3; a clip takes the highest that it fills
LONGEST = 12.0  # seconds of a clip that are kept: the task's clips last 6 to 12 s (2024: 6 to 10)
_QUALITY = 0.5  # of variable bit rate, 0 best: about 30 kbit/s at 16 kHz
_BANDS, _FRAMES = 64, 160
_WINDOW = 0.064  # s
_WORKERS = 2  # encoding leaves the interpreter; more would only heat a shared machine
_BATCH = 32  # clips whose sounds are made before their size is looked at
_NAMED = 1000  # bytes of the fields' names and of the clip's id wherever the page refers to it
_FLOOR = -120.0  # dB re a full-scale sine; a byte of the spectrogram is -_FLOOR / 255 dB


@dataclass(frozen=True)
class PageSound:
    """A clip in the form that the page contains.

    Attributes
    ----------
    mp3
        Base64 of the encoded audio.
    levels
        Base64 of (bands, frames) bytes, the lowest band first: 0 is -120 dB or less, 255 is 0 dB
        re a full-scale sine.
    frames, bands
        Shape of `levels`.
    seconds
        Length of what is kept.
    rate
        Hz; the spectrogram reaches half of it.
    cut
        Whether the recording goes on after that.
    made
        How a file of numbers was made audible; empty of sound.
    """

    mp3: str
    levels: str
    frames: int
    bands: int
    seconds: float
    rate: int
    cut: bool
    made: str = ""

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return len(self.mp3) + len(self.levels) + _NAMED


@dataclass(frozen=True)
class Playback:
    """The sounds and differences in a page.

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
    Playback
        Sections take turns, so that each has its share when the budget ends.
    """
    made: dict[str, PageSound | str] = {}
    kept: dict[str, PageSound] = {}
    heard: dict[Section, set[str]] = {section: set() for section in views}
    differences: dict[tuple[Section, str], Difference] = {}
    order = list(worth_hearing(views, most))
    with ThreadPoolExecutor(_WORKERS) as pool, underway("sounds", "clip", len(order)) as done:
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            # A recording that cannot be played is a text, which says why.
            first = {c.clip_id: c for _, view in batch for c in recordings_of(view) if c.clip_id not in made}
            made |= zip(first, pool.map(partial(_sound, hashes), first.values()), strict=True)
            sounds = [{c.clip_id: made[c.clip_id] for c in recordings_of(view)} for _, view in batch]
            described = pool.map(_difference, [view for _, view in batch], sounds)
            for (section, view), own, difference in zip(batch, sounds, described, strict=True):
                if difference is not None:
                    differences[section, view.name] = difference
                new = {key: one for key, one in own.items() if isinstance(one, PageSound)}
                budget -= sum(sound.size for key, sound in new.items() if key not in kept)
                if budget >= 0:
                    kept |= new
                    heard[section].add(view.name)
                    done(1)
            if budget < 0:
                break
    clips = {section: frozenset(names) for section, names in heard.items()}
    return Playback(kept, clips, [one for one in made.values() if isinstance(one, str)], differences)


def worth_hearing(views: Views, most: int) -> Iterator[tuple[Section, ClipView]]:
    """Yield clips in order of interest, sections in turn, each clip once.

    The most anomalous, the false alarms and the clearest misses of a section alternate.
    """
    queues = []
    for section, clips in views.items():
        alarms = [view for view in clips if view.error == "false alarm"]
        misses = [view for view in reversed(clips) if view.error == "miss"]
        mixed = [view for row in zip_longest(clips[:most], alarms[:most], misses[:most]) for view in row]
        queues.append([(section, view) for view in dict.fromkeys(mixed) if view and view.recording])
    for turn in zip_longest(*queues):
        yield from (entry for entry in turn if entry is not None)


def recordings_of(view: ClipView) -> list[Clip]:
    """List the recordings that a clip's comparison plays: its own, then its neighbours'."""
    found = [view.recording, *(neighbour.recording for neighbour in view.neighbours)]
    return [clip for clip in found if clip is not None]


def _sound(hashes: Mapping[str, str], clip: Clip) -> PageSound | str:
    sha256 = hashes.get(split_id(clip.clip_id)[0])
    # Where the bytes are known, pages of several seeds or systems share what was encoded once.
    make = make_sound if sha256 is None else _made_once
    try:
        return make(clip.path, clip.span, sha256, clip.signal)
    except AsdError as error:
        return f"{clip.path}: {error}"


def _difference(view: ClipView, sounds: Mapping[str, PageSound | str]) -> Difference | None:
    """Describe a clip against the neighbour that decided; ``None`` if one cannot be read.

    What cannot be played, or is another recording than the one scored, is not described.
    """
    near = [one.recording for one in view.neighbours if one.recording and one.domain == view.decided]
    near += [one.recording for one in view.neighbours if one.recording]
    if view.recording is None or not near or any(isinstance(one, str) for one in sounds.values()):
        return None
    clip, normal = view.recording, near[0]
    try:
        rate = min(native_rate(clip.path, clip.signal), native_rate(normal.path, normal.signal))
        return describe(
            read_audio(clip.path, rate, clip.span, signal=clip.signal).samples,
            read_audio(normal.path, rate, normal.span, signal=normal.signal).samples,
            rate,
        )
    except AsdError:  # it is named where its sound is made
        return None


def make_sound(
    path: Path, span: Span | None = None, sha256: str | None = None, signal: Signal = PLAIN
) -> PageSound:
    """Read a recording, or a span of it in s, and make it small.

    Numbers that are no sound are brought to a peak of 0.9 around their mean, and a rate that can be
    played; `PageSound.made` says so.

    Raises
    ------
    AsdError
        If it cannot be read, is not the file of this SHA-256, or this installation's libsndfile
        writes no MP3.
    """
    if "MP3" not in soundfile.available_formats():
        raise AsdError("libsndfile 1.1 or newer is needed to write MP3: pip install soundfile")
    native = native_rate(path, signal)
    rate = max((r for r in RATES if r <= native), default=RATES[0])
    recording = read_audio(path, rate, span, signal=signal)
    if sha256 not in (None, recording.content_sha256):
        raise AsdError("changed since it was scored: run the extraction again")
    kept, made = recording.samples[: int(LONGEST * rate)], ""
    if path.suffix.lower() in SIGNAL_SUFFIXES:
        centred = kept - kept.mean(dtype=np.float64)
        peak = float(np.abs(centred).max())
        scale = 0.9 / peak if peak > 0 else 1.0
        kept = (centred * scale).astype(np.float32)
        made = f"a signal, made audible: its mean removed, scaled by {scale:.3g} to a peak of 0.9"
        made += f" and from {native} to {rate} Hz" if native != rate else ""
    mp3 = io.BytesIO()
    soundfile.write(
        mp3, kept, rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=_QUALITY,
        bitrate_mode="VARIABLE",
    )  # fmt: skip
    levels = mel_levels(kept.astype(np.float64), rate)
    return PageSound(
        mp3=base64.b64encode(mp3.getvalue()).decode(),
        levels=base64.b64encode(levels.tobytes()).decode(),
        frames=levels.shape[1],
        bands=levels.shape[0],
        seconds=round(len(kept) / rate, 3),
        rate=rate,
        cut=len(kept) < len(recording.samples),
        made=made,
    )


_made_once = lru_cache(1024)(make_sound)  # some 50 kB each


def mel_levels(samples: Floats, rate: int) -> NDArray[np.uint8]:
    """Compute a mel spectrogram as bytes.

    Parameters
    ----------
    samples
        (T,) in [-1, 1].
    rate
        Hz.

    Returns
    -------
    ndarray
        (64, up to 160) uint8, the lowest band first; see `PageSound.levels`.
    """
    size = int(_WINDOW * rate)
    window = np.hanning(size + 1)[:-1]
    samples = np.pad(samples, (0, max(0, size - len(samples))))
    # Hops as long as they must be for no more frames than there are columns.
    hop = max(size // 2, -(-len(samples) // _FRAMES))
    centred = np.pad(samples, (size // 2, size))
    spectrum = power_spectra(centred, window * 2 / window.sum(), hop)[:, : max(1, len(samples) // hop)]
    bands = mel_bank(size, rate) @ spectrum
    decibels = 10 * np.log10(np.maximum(bands, 1e-30))
    return np.clip(np.round(255 * (1 - decibels / _FLOOR)), 0, 255).astype(np.uint8)


def mel_bank(size: int, rate: int) -> Floats:
    """Make triangles that average power over bands of equal width in mel.

    ``mel(f) = 2595 log10(1 + f / 700)`` (O'Shaughnessy 1987).

    Parameters
    ----------
    size
        Window, samples.
    rate
        Hz.

    Returns
    -------
    ndarray
        (64, size // 2 + 1), rows of sum 1.
    """
    frequencies = np.arange(size // 2 + 1) * rate / size
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    # Low bands are narrower than a bin: each reaches at least to the next bin on either side.
    reach = np.maximum(np.diff(edges), rate / size)
    centre = edges[1:-1, None]
    rising = 1 - (centre - frequencies) / reach[:-1, None]
    falling = 1 - (frequencies - centre) / reach[1:, None]
    bank = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(bank / bank.sum(axis=1, keepdims=True))


def native_rate(path: Path, signal: Signal = PLAIN) -> int:
    """Read the sampling rate of a recording, Hz; 8000 of one that cannot be opened."""
    try:
        with opened(path, signal) as (file, _):
            return int(file.samplerate)
    except AsdError:
        return RATES[0]  # reading it will say what is wrong
