"""The part of a recording that is heard: its channel, and all of it or windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.heard import (
    AVERAGE,
    PLAIN,
    RESIDUAL,
    WHOLE,
    Heard,
    Length,
    Signal,
    Span,
    read_channel,
    read_length,
    window_id,
)
from cache.recipe import Recipe, Setting
from cache.select import ALL, channels_of
from extractors.audio.decode import channels_in, seconds_of
from extractors.clips.clip import Clip, Fault, Listing, read_each

_READERS = 4  # threads that read headers
_LEAST = 1e-3  # s; ids tell times to the millisecond


@dataclass(frozen=True)
class Hearing:
    """How recordings are heard; part of the recipe.

    Attributes
    ----------
    channel
        ``average``, ``near``, ``far``, a number, ``cancel`` or ``residual:W``, see
        `extractors.audio.decode`.
    window, hop
        Files longer than a window are cut into windows of that many seconds, one every `hop`
        seconds, the last one at the end; ``None`` leaves them whole.
    length
        What clips are brought to before the model hears them; ``None`` leaves them as long as they
        are.
    signal
        What is told of files of numbers.
    """

    channel: str = AVERAGE
    window: float | None = None
    hop: float | None = None
    length: Length | None = None
    signal: Signal = PLAIN

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", read_channel(self.channel))
        if self.length is not None and self.window is not None:
            raise AsdError(
                f"--length {self.length} and --window {self.window:g} both say how long a clip is: "
                "give one of them"
            )
        if self.window is None:
            if self.hop is not None:
                raise AsdError("--hop says how far apart windows start: give --window too")
            return
        if not (self.window >= _LEAST and self.hop is not None and self.hop >= _LEAST):
            raise AsdError(f"--window {self.window:g} --hop {self.hop}: expected seconds above 0")
        if self.hop > self.window:
            raise AsdError(
                f"--hop {self.hop:g} leaves gaps between windows of {self.window:g} s; expected at "
                "most the window"
            )

    @property
    def settings(self) -> dict[str, Setting]:
        """Settings for the recipe; empty where the average of the whole recording is heard."""
        found: dict[str, Setting] = {}
        if self.channel != AVERAGE:
            found["channel"] = self.channel
        if self.window is not None and self.hop is not None:
            found |= {"window_s": self.window, "hop_s": self.hop}
        if self.length is not None:
            found["length"] = str(self.length)
        return found | self.signal.settings

    @property
    def residual(self) -> float | None:
        """Weight of the far channel's embedding, which is subtracted; ``None`` where it is not."""
        name, _, weight = self.channel.partition(":")
        return float(weight) if name == RESIDUAL else None

    def fit(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Bring (..., T) samples at a rate in Hz to the length."""
        return samples if self.length is None else self.length.fit(samples, rate)

    def cut(self, listing: Listing) -> Listing:
        """Replace clips longer than a window by windows, and give each clip the rate and columns told of all.

        A file whose length cannot be read becomes a fault.
        """
        if self.signal != PLAIN:
            listing = replace(
                listing, clips=tuple(replace(c, signal=self.signal.with_own(c.signal)) for c in listing.clips)
            )
        if self.window is None:
            return listing
        clips: list[Clip] = []
        faults = list(listing.faults)
        for clip, seconds in read_each(listing.clips, seconds_of, _READERS):
            if isinstance(seconds, Fault):
                faults.append(seconds)
            elif len(spans := self.spans(seconds)) == 1:
                clips.append(clip)
            else:
                clips += [replace(clip, clip_id=window_id(clip.clip_id, s), span=s) for s in spans]
        return Listing(tuple(clips), tuple(faults), listing.notes)

    def spans(self, seconds: float) -> list[Span]:
        """Place windows in a file of this length; one of the file's own length if that is less."""
        if self.window is None or self.hop is None or seconds <= self.window + _LEAST:
            return [(0.0, seconds)]
        last = seconds - self.window
        count = int((last + _LEAST) / self.hop) + 1
        starts = [round(i * self.hop, 3) for i in range(count)]
        if last - starts[-1] > _LEAST:
            starts.append(int(last * 1000) / 1000)  # down: a window never ends behind the file
        return [(start, round(start + self.window, 3)) for start in starts]


def hearing_of(recipe: Recipe) -> Hearing:
    """Read how recordings were heard from a recipe that is no concatenation."""
    settings = dict(recipe.settings)
    window, hop = settings.get("window_s"), settings.get("hop_s")
    return Hearing(
        str(settings.get("channel", AVERAGE)),
        None if window is None else float(window),
        None if hop is None else float(hop),
        read_length(str(settings.get("length", WHOLE))),
        Signal.of(settings),
    )


def resolved(heard: Heard, clips: Sequence[Clip]) -> Heard:
    """Put the numbers of the clips' channels in the place of ``all``.

    Raises
    ------
    AsdError
        If clips have different numbers of channels, or none can be opened.
    """
    if heard.channel != ALL:
        return heard
    (hearing,) = hearings(replace(heard, channel=AVERAGE, window=None, hop=None))
    met: dict[int, str] = {}
    told = hearing.cut(Listing(tuple(clips))).clips
    for clip, count in read_each(told, channels_in, _READERS):
        if not isinstance(count, Fault):  # of those it is told where they are read
            met.setdefault(count, clip.clip_id)
    if len(met) > 1:
        listed = ", ".join(f"{count} ({clip_id})" for count, clip_id in met.items())
        raise AsdError(
            f"--channel all: clips of {listed} channels: name channels that every clip has, as in 0,1"
        )
    if not met:
        raise AsdError("--channel all: no clip tells how many channels there are; name them, as in 0,1,2")
    return replace(heard, channel=",".join(map(str, range(next(iter(met))))))


def hearings(heard: Heard) -> list[Hearing]:
    """Give one way to hear recordings, or several that differ in channel."""
    hop = heard.window if heard.hop is None else heard.hop
    channels = channels_of(heard.channel)
    length = read_length(heard.length)
    signal = Signal(heard.rate, heard.column, heard.remove_dc)
    return [Hearing(channel, heard.window, hop, length, signal) for channel in channels]
