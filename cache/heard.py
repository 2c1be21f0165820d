"""How much of a recording is heard, and which channel: what a user writes, read and made canonical.

``10:zero`` and ``residual:.5`` stand on command lines, in experiments and in recipes; two spellings
of one thing are one recipe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNAL_SUFFIXES = (".csv", ".tsv", ".npy", ".mat", ".tdms", ".h5", ".hdf5", ".parquet")
AVERAGE, CANCEL, RESIDUAL = "average", "cancel", "residual"
# The recordings of 2026: the first channel near the machine, the second far from it.
CHANNELS = {"near": 0, "far": 1}
WHOLE = "whole"
POLICIES = ("zero", "tile", "cut")
_LEAST, _MOST = 1e-3, 86_400.0  # s; ids tell times to the millisecond
LONGEST = 3600.0  # s; a recording that is read whole may have, unless told otherwise


@dataclass(frozen=True)
class Signal:
    """What is told of a recording that may be a file of numbers, beside what it tells itself.

    Attributes
    ----------
    rate
        Hz; ``None`` where the file tells it.
    column
        Names or numbers of its columns, separated by commas; empty for all.
    remove_dc
        Whether the mean of what is read is subtracted, channel by channel; of sound files too.
    own
        Whether a manifest or a data set's layout told it, of this one file; else a recipe did.
    """

    rate: int | None = None
    column: str = ""
    remove_dc: bool = False
    own: bool = False

    @property
    def mark(self) -> str:
        """What is hashed with the file's bytes: what of it no recipe tells; mostly nothing."""
        return f"\n{self.rate} {self.column}" if self.own and (self.rate or self.column) else ""

    @property
    def settings(self) -> dict[str, str | int]:
        """What of it was told, for a recipe."""
        told: dict[str, str | int] = {
            "rate": self.rate or 0,
            "column": self.column,
            "dc": "removed" if self.remove_dc else "",
        }
        return {name: value for name, value in told.items() if value}

    def with_own(self, own: Signal) -> Signal:
        """Put what a file was told of its own before what a recipe tells of all."""
        return replace(self, rate=own.rate or self.rate, column=own.column or self.column, own=own.own)

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> Signal:
        """Read it from a recipe's settings."""
        rate = settings.get("rate")
        return cls(
            None if rate is None else int(str(rate)), str(settings.get("column", "")), "dc" in settings
        )


PLAIN = Signal()


@dataclass(frozen=True)
class Length:
    """The length that clips are brought to.

    Attributes
    ----------
    seconds
        Longer clips are cut at their end.
    policy
        Of shorter ones: ``zero`` pads them with silence, ``tile`` repeats them from their beginning
        until they are long enough, ``cut`` leaves them as they are.
    """

    seconds: float
    policy: str = "cut"

    def __str__(self) -> str:
        return f"{self.seconds:.10g}:{self.policy}"

    def fit(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Bring a waveform to the length.

        Parameters
        ----------
        samples
            (..., T), T >= 1.
        rate
            Hz.

        Returns
        -------
        ndarray
            (..., ``round(seconds * rate)``), or shorter where the policy is ``cut``.
        """
        import numpy as np  # noqa: PLC0415 (a help page needs none)

        wanted = max(1, round(self.seconds * rate))
        lacking = wanted - samples.shape[-1]
        if lacking <= 0 or self.policy == "cut":
            return samples[..., :wanted]
        if self.policy == "zero":
            return np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(0, lacking)])
        return np.asarray(samples[..., np.arange(wanted) % samples.shape[-1]])


def read_length(text: str) -> Length | None:
    """Read ``SECONDS[:zero|tile|cut]``; ``whole`` is ``None``.

    Raises
    ------
    AsdError
        If it is anything else.
    """
    if text == WHOLE:
        return None
    number, colon, policy = text.partition(":")
    try:
        seconds = float(number)
    except ValueError:
        seconds = math.nan
    if not _LEAST <= seconds <= _MOST or (colon and policy not in POLICIES):
        raise AsdError(
            f"length {text!r}: expected {WHOLE}, or SECONDS[:{'|'.join(POLICIES)}] with seconds "
            f"from {_LEAST:g} to {_MOST:g}, e.g. 10:zero"
        )
    return Length(seconds, policy or "cut")


def read_channel(text: str) -> str:
    """Read the name of a channel, ``residual:.5`` becoming ``residual:0.5``.

    Raises
    ------
    AsdError
        If it is no name of one.
    """
    name, colon, weight = text.partition(":")
    if name == RESIDUAL:
        try:
            share = float(weight) if colon else 0.5
        except ValueError:
            share = math.nan
        if not 0 < share <= 10:
            raise AsdError(f"channel {text!r}: expected residual:W, W above 0 up to 10, e.g. 0.5")
        return f"{RESIDUAL}:{share:.10g}"
    if text in (AVERAGE, CANCEL, *CHANNELS) or (text.isascii() and text.isdigit()):
        return text
    raise AsdError(
        f"channel {text!r} is not one of {AVERAGE}, {', '.join(CHANNELS)}, 0, 1, ..., {CANCEL}, {RESIDUAL}:W"
    )


def rate_option() -> Any:
    """Declare ``--rate`` of recordings, the same in every request."""
    text = "of files of numbers (CSV, NPY, MAT, TDMS, HDF5, Parquet) that do not tell it"
    return option(None, text, metavar="HZ", least=1)


def column_option() -> Any:
    """Declare ``--column`` of recordings, the same in every request."""
    text = "columns of files of numbers, by name or number (default: all, as channels)"
    return option("", text, metavar="NAME[,NAME...]")


@documented
@dataclass(frozen=True)
class Heard(Options):
    """Options of what is heard of a recording; `hearings` makes a `Hearing` a table of them."""

    channel: str = option(
        AVERAGE,
        "average of all channels; near, far (2026's first and second) or a number; cancel: near "
        "less what far hears too; residual:W: near's embedding less W times far's; both: a table "
        "of near and one of far; 0,1,2: one of each; all: one of every channel, where all clips have as many",
        metavar="NAME",
    )
    length: str = option(
        WHOLE,
        "bring clips to it: longer ones are cut, shorter ones padded with silence (zero), repeated "
        "(tile) or left (cut, where no policy is named)",
        metavar="SECONDS[:POLICY]",
    )
    window: float | None = option(
        None, "cut longer recordings into windows, each a clip of its own", metavar="SECONDS",
        least=_LEAST,
    )  # fmt: skip
    hop: float | None = option(
        None, "between windows' starts (default: --window)", metavar="SECONDS", least=_LEAST
    )
    rate: int | None = rate_option()
    column: str = column_option()
    remove_dc: bool = option(False, "subtract each channel's mean before anything else")


Span = tuple[float, float]  # start and end in a file, s

_ID = re.compile(r"(?P<file>.+)#t=(?P<start>[0-9]+(?:\.[0-9]+)?)-(?P<stop>[0-9]+(?:\.[0-9]+)?)", re.DOTALL)


def window_id(file_id: str, span: Span) -> str:
    """Name a window of a file; times to the millisecond."""
    start, stop = (f"{second:.3f}".rstrip("0").rstrip(".") for second in span)
    return f"{file_id}#t={start}-{stop}"


def split_id(clip_id: str) -> tuple[str, Span | None]:
    """Tell a clip's file and which span of it the clip is; ``None`` for a whole file."""
    match = _ID.fullmatch(clip_id)
    if match is None:
        return clip_id, None
    return match["file"], (float(match["start"]), float(match["stop"]))
