"""Sources of recordings: a folder, object storage, samples on standard input, a microphone."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Protocol

import numpy as np
import soundfile

from cache.base.errors import AsdError
from cache.files.atomic import write_atomic
from cache.files.places import is_remote, listed
from extractors.clips.clip import Fault
from extractors.clips.folders import audio_files

_FORM = "%Y-%m-%dT%H-%M-%S.%f"  # of a recording's name
log = logging.getLogger(__name__)
_STAMP = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})[T_ -]?(\d{2})[-_:.h]?(\d{2})(?:[-_:.m]?(\d{2}))?")


@dataclass(frozen=True)
class Arrival:
    """A complete recording.

    Attributes
    ----------
    name
        What it is called at its source; the same recording has the same name again.
    path
        Where it lies.
    time
        Of the recording, s since 1970: what its name says, else when it was last written.
    version
        Changes where the recording does.
    fault
        Why it cannot be read; empty where that is still to be seen.
    """

    name: str
    path: Path
    time: float
    version: str
    fault: str = ""


class Stream(Protocol):
    """Bytes as they come."""

    def read(self, size: int, /) -> bytes:
        """Read at most so many; none at the end."""


class RecordingSource(Protocol):
    """A place where recordings arrive."""

    @property
    def ends(self) -> bool:
        """Whether the source has ended."""

    def arrived(self) -> list[Arrival]:
        """List the complete recordings, oldest first, also those listed before."""

    def wait(self, stop: Event, seconds: float) -> None:
        """Wait until something may have arrived, `stop` is set or the seconds are over."""


def recorded_at(name: str) -> float | None:
    """Read date and time from a file's name; ``None`` where it has none.

    Forms such as ``2026-11-26T21-54-00`` and ``20261126_215400``, taken for UTC.
    """
    for match in _STAMP.finditer(name):
        numbers = [int(part or 0) for part in match.groups()]
        try:
            return datetime(*numbers, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]
        except ValueError:
            continue
    return None


@dataclass
class FolderSource:
    """Recordings in a folder, at any depth, or below a prefix in object storage.

    A file counts when it has not changed for some seconds, by its own time or by ours from look to look: a
    recorder that is still writing is left alone.

    Attributes
    ----------
    root
        The folder.
    settled
        Seconds without a change after which a file is taken for whole.
    clock
        Seconds since 1970.
    """

    root: Path
    settled: float = 5.0
    clock: Callable[[], float] = time.time
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict, init=False)

    @property
    def ends(self) -> bool:
        """A folder never ends."""
        return False

    def wait(self, stop: Event, seconds: float) -> None:
        """Wait; a change in the folder ends it early if watchfiles is installed.

        What then arrived is not whole yet: the next wait is until it may be.
        """
        now = self.clock()
        unripe = [since + self.settled - now for _, since in self._seen.values()]
        soon = [left for left in unripe if left > 0]
        if soon or is_remote(self.root) or find_spec("watchfiles") is None:
            stop.wait(max(0.05, min([seconds, *soon])))
            return
        import watchfiles  # noqa: PLC0415 (an extra)

        changes = watchfiles.watch(
            self.root, stop_event=stop, rust_timeout=max(1, round(1000 * seconds)), step=20,
            debounce=100, yield_on_timeout=True, raise_interrupt=True,
        )  # fmt: skip
        next(changes, None)

    def arrived(self) -> list[Arrival]:
        """List the complete recordings, oldest first.

        Raises
        ------
        AsdError
            If the folder is not there.
        """
        if not self.root.is_dir():
            raise AsdError(f"{self.root} is not a folder: name the one that recordings arrive in")
        seen = dict[str, tuple[str, float]]()
        now = self.clock()
        root = listed(self.root)
        files, faults, _ = audio_files(root)
        found = self._refused(
            [replace(fault, path=self.root / fault.path.relative_to(root)) for fault in faults]
        )
        for file in files:
            name = file.relative_to(root).as_posix()
            path = self.root / name
            try:
                status = path.stat()
            except OSError:  # gone since it was listed
                continue
            written = float(getattr(status, "st_mtime", 0.0) or 0.0)
            version = f"{status.st_size}-{written:.6f}"
            before, since = self._seen.get(name, ("", now))
            seen[name] = version, since if before == version else now
            # The second by our own clock: another machine's, which wrote the file, may be ahead.
            quiet = max(now - written, now - seen[name][1])
            if (is_remote(self.root) or quiet >= self.settled) and status.st_size:
                stamp = recorded_at(path.name)
                found.append(Arrival(name, path, written if stamp is None else stamp, version))
        self._seen = seen
        return sorted(found, key=lambda arrival: (arrival.time, arrival.name))

    def _refused(self, faults: Sequence[Fault]) -> list[Arrival]:
        """List what is there and cannot be read as a recording, by its name or its kind."""
        found = []
        for fault in faults:
            try:
                written = float(getattr(fault.path.lstat(), "st_mtime", 0.0) or 0.0)
            except OSError:  # gone since it was listed
                continue
            name = Fault(fault.path.relative_to(self.root), "").name
            found.append(Arrival(name, fault.path, written, fault.reason, fault.reason))
        return found


@dataclass
class PcmSource:
    """Samples on a stream, cut into recordings of equal length.

    Attributes
    ----------
    stream
        Signed 16-bit little-endian samples, channels interleaved (``ffmpeg -f s16le``).
    rate, channels
        Hz and number.
    seconds
        Length of a recording.
    folder
        Where recordings are written: what is judged stays to be listened to.
    keep
        Recordings kept there; older ones are removed.
    clock
        Seconds since 1970.
    """

    stream: Stream
    rate: int
    seconds: float
    folder: Path
    channels: int = 1
    keep: int = 1000
    clock: Callable[[], float] = time.time
    ends: bool = field(default=False, init=False)
    _begun: bool = field(default=False, init=False)

    def wait(self, stop: Event, seconds: float) -> None:
        """Do nothing: reading a stream waits by itself."""

    def arrived(self) -> list[Arrival]:
        """Wait for the next recording; the remainder at the end is dropped.

        At first, what an earlier run wrote down comes again: it may have been killed before it was judged.
        """
        if not self._begun:
            self._begun = True
            if kept := [_recorded(path) for path in sorted(self.folder.glob("*.wav"))]:
                return kept
        frames = round(self.seconds * self.rate)
        data = bytearray()
        while missing := 2 * frames * self.channels - len(data):
            part = self.stream.read(missing)
            if not part:
                self.ends = True
                return []
            data += part
        samples = np.frombuffer(data, "<i2").reshape(frames, self.channels)
        stamp = datetime.fromtimestamp(self.clock() - self.seconds, UTC).strftime(_FORM)
        path = self.folder / f"{stamp}.wav"
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, self.rate, subtype="PCM_16", format="WAV")
        write_atomic(path, buffer.getvalue())
        for old in sorted(self.folder.glob("*.wav"))[: -self.keep]:
            old.unlink(missing_ok=True)
        return [_recorded(path)]


def _recorded(path: Path) -> Arrival:
    """Take a recording of `PcmSource`, whose name says when it began, to the microsecond."""
    began = datetime.strptime(path.stem, _FORM).replace(tzinfo=UTC).timestamp()
    return Arrival(path.name, path, began, "")


def microphone(rate: int, channels: int, device: str | None = None) -> Stream:
    """Open a microphone as a stream of signed 16-bit samples for `PcmSource`.

    Raises
    ------
    AsdError
        If sounddevice is not installed, or there is no such device.
    """
    try:
        import sounddevice  # noqa: PLC0415 (an extra)
    except (ImportError, OSError) as error:
        raise AsdError(
            f"a microphone needs sounddevice ({error}): pip install 'machine-asd[microphone]'"
        ) from error
    try:
        stream = sounddevice.RawInputStream(rate, channels=channels, dtype="int16", device=device)
        stream.start()
    except Exception as error:
        raise AsdError(f"microphone {device or 'default'}: {error}") from error
    return _Microphone(stream, 2 * channels)


class _Microphone:
    """A microphone as `PcmSource` reads it."""

    def __init__(self, stream: object, width: int) -> None:
        self._stream, self._width = stream, width

    def read(self, size: int) -> bytes:
        data, overflowed = self._stream.read(size // self._width)  # type: ignore[attr-defined]
        if overflowed:
            log.warning(
                "the microphone dropped samples: this machine is busy, or too slow for the bank's model"
            )
        return bytes(data)
