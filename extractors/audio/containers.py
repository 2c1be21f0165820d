"""How much sound a file really holds, whatever its header claims.

One function, `measured`, for every container that the decoder opens: RIFF, RF64, W64, AIFF, AU,
FLAC, Ogg (Vorbis, Opus) and MP3. A file that was cut short is refused, a header that tells of less
than follows is refused, and a header whose writer could not go back to it (a pipe, a recorder that
lost power) is put right in what the decoder reads, so that it reads to the end. Nothing here takes
time or memory by a claimed length: chunks are skipped, and at most the end of a file is read.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from cache.base.errors import AsdError
from extractors.audio.streams import Measure, flac, mp3, mp3_frame, ogg

# Bytes by which a length may be wrong and the file is read all the same: hobby recorders count
# their header of 44 bytes in, or lose the last few samples. 64 bytes of 16 bits at 16 kHz are 2 ms.
_SLIP = 64
# What writers leave where they do not know the length (ffmpeg, sox, arecord, mplayer), less the few
# bytes that some subtract because they are written by then.
_UNKNOWN = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_SUBTRACTED = 128
_MOST_CHUNKS = 10_000  # that any file has; more are an attack
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICS")  # what players append to any file
_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"_PMX",
           b"JUNK", b"PAD ", b"FLLR", b"DISP", b"afsp", b"ds64", b"NAME", b"ANNO", b"MARK")  # fmt: skip
_W64_SUFFIX = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of all its chunks but the first
_REWRITE = "write it anew with the program that made it, a WAV also with ffmpeg -ignore_length 1 -i IN OUT"


def measured(raw: BinaryIO) -> Measure:
    """Find out how much sound a file holds.

    Parameters
    ----------
    raw
        Its bytes, seekable; left at its beginning.

    Returns
    -------
    Measure
        With nothing to say where the header is right, or is none that is known here.

    Raises
    ------
    AsdError
        If the file was cut short, or its header tells of much less sound than there is.
    """
    total = raw.seek(0, io.SEEK_END)
    raw.seek(0)
    head, start = raw.read(10), 0
    if len(head) == 10 and head[:3] == b"ID3":  # in front of FLAC and MP3; 7 bits a byte of its size
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        start = 10 + size + (10 if head[5] & 16 else 0)
    raw.seek(start)
    magic = raw.read(16)
    try:
        for name, measure in _CONTAINERS.items():
            if magic.startswith(name):
                return measure(raw, start, total)
        return mp3(raw, start, total) if mp3_frame(magic[:4]) else Measure()
    except (struct.error, IndexError):
        return Measure()  # too short for a header: the decoder says so
    finally:
        raw.seek(0)


class PatchedFile(io.RawIOBase):
    """A file with some of its bytes replaced.

    Parameters
    ----------
    raw
        The file.
    patches
        Offset to bytes.
    """

    def __init__(self, raw: BinaryIO, patches: Mapping[int, bytes]) -> None:
        super().__init__()
        self._raw = raw
        self._patches = patches

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Read as `io.RawIOBase.readinto` does."""
        begin = self._raw.tell()
        data = bytearray(self._raw.read(len(buffer)))
        for offset, patch in self._patches.items():
            low, high = max(offset, begin), min(offset + len(patch), begin + len(data))
            if low < high:
                data[low - begin : high - begin] = patch[low - offset : high - offset]
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io.IOBase.seek` does."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._raw.tell()


# Chunks: the lengths of RIFF, RF64, W64, AIFF and AU.


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    begin: int  # of what it holds
    size: int
    where: int  # of the field that holds the size
    code: str  # how struct reads that field


@dataclass(frozen=True)
class _Form:
    """How chunks lie in a container: names, sizes, alignment."""

    name_length: int
    code: str
    align: int
    counted: int = 0  # bytes of its own header that a chunk's size counts in

    def chunks(self, raw: BinaryIO, position: int, total: int) -> Iterator[_Chunk]:
        head = self.name_length + struct.calcsize(self.code)
        for _ in range(_MOST_CHUNKS):
            if position + head > total:
                return
            raw.seek(position)
            name = raw.read(self.name_length)
            (size,) = struct.unpack(self.code, raw.read(head - self.name_length))
            size = max(0, size - self.counted)
            where = position + self.name_length
            yield _Chunk(name, position + head, size, where, self.code)
            position += head + size + -(head + size) % self.align

    def is_chain(self, raw: BinaryIO, position: int, total: int) -> bool:
        """Whether what follows is chunks to the end, tags, padding or a few bytes."""
        raw.seek(position)
        rest = raw.read(min(_SLIP * 1024, max(0, total - position)))
        if len(rest) <= _SLIP or rest.startswith(_TAGS) or not rest.strip(b"\0"):
            return True
        end, named = position, False
        for chunk in self.chunks(raw, position, total):
            printable = all(32 <= byte < 127 for byte in chunk.name[:4])
            if not printable or chunk.begin + chunk.size > total + 1:
                return named or chunk.name in _CHUNKS
            named, end = named or chunk.name in _CHUNKS, chunk.begin + chunk.size
        return total - end <= _SLIP


_RIFF = _Form(4, "<I", 2)
_RIFX = _Form(4, ">I", 2)
_AIFF = _Form(4, ">I", 2)
_W64 = _Form(16, "<Q", 8, counted=24)


def _sound(raw: BinaryIO, chunk: _Chunk, total: int, form: _Form | None, bare: int = 0) -> tuple[int, str]:
    """Tell how many bytes of sound a chunk holds, and what to remark.

    Parameters
    ----------
    raw, total
        The file and its size.
    chunk
        Its sound, of the claimed size.
    form
        How chunks that may follow lie; ``None`` where none do.
    bare
        The size of such a chunk without sound.
    """
    there, size = total - chunk.begin, chunk.size
    if size > there:
        if any(0 <= known - size <= _SUBTRACTED for known in _UNKNOWN):
            return there, ""
        if size - there > _SLIP:
            raise AsdError(f"cut short: its header promises {size - there} bytes more than there are")
        return there, f"its header tells of {size - there} bytes more than there are"
    end = chunk.begin + size
    if form is None:
        raw.seek(end)
        rest = raw.read(_SLIP * 1024)
        whole = there - size <= _SLIP or rest.startswith(_TAGS) or not rest.strip(b"\0")
    else:
        whole = form.is_chain(raw, end + -size % form.align, total) or form.is_chain(raw, end, total)
    if size <= bare:  # a writer that never came back, unless nothing follows
        return (size if whole else there), ""
    if not whole:
        raise AsdError(f"its header tells of {size - bare} of {there - bare} bytes of sound: {_REWRITE}")
    return size, ""


def _patch(chunk: _Chunk, size: int) -> dict[int, bytes]:
    most = 2 ** (8 * struct.calcsize(chunk.code)) - 1
    return {chunk.where: struct.pack(chunk.code, min(size, most))}


def _riff(raw: BinaryIO, start: int, total: int) -> Measure:
    raw.seek(start)
    magic = raw.read(12)
    if magic[8:] != b"WAVE":
        return Measure()
    form = _RIFX if magic[:4] == b"RIFX" else _RIFF
    large: _Chunk | None = None
    for chunk in form.chunks(raw, start + 12, total):
        if chunk.name == b"ds64":
            raw.seek(chunk.begin + 8)
            (size,) = struct.unpack("<Q", raw.read(8))
            large = _Chunk(b"data", chunk.begin, size, chunk.begin + 8, "<Q")
        elif chunk.name == b"data":
            found = chunk
            if large is not None and chunk.size == 0xFFFFFFFF:
                found = _Chunk(b"data", chunk.begin, large.size, large.where, "<Q")
            size, remark = _sound(raw, found, total, form)
            if size == found.size:
                return Measure(sound=(found.begin, size) if form is _RIFF else None)
            of_all = struct.pack(form.code, min(total - start - 8, 0xFFFFFFFF))
            whole = {start + 4: of_all} if large is None else {}
            return Measure({**whole, **_patch(found, size)}, remark)
    return Measure()


def _w64(raw: BinaryIO, start: int, total: int) -> Measure:
    for chunk in _W64.chunks(raw, start + 40, total):
        if chunk.name == b"data" + _W64_SUFFIX:
            size, remark = _sound(raw, chunk, total, _W64)
            if size == chunk.size:
                return Measure()
            return Measure({start + 16: struct.pack("<Q", total - start), **_patch(chunk, size + 24)}, remark)
    return Measure()


def _aiff(raw: BinaryIO, start: int, total: int) -> Measure:
    width = frames_at = 0
    for chunk in _AIFF.chunks(raw, start + 12, total):
        if chunk.name == b"COMM":
            raw.seek(chunk.begin)
            channels, _, bits = struct.unpack(">HIH", raw.read(8))
            raw.seek(chunk.begin + 18)
            # Other encodings of AIFF-C have no fixed number of bytes a sample.
            plain = raw.read(4) in (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"raw ")
            if chunk.size <= 18 or plain:
                width, frames_at = channels * -(-bits // 8), chunk.begin + 2
        elif chunk.name == b"SSND":
            size, remark = _sound(raw, chunk, total, _AIFF, bare=8)
            if size == chunk.size:
                return Measure()
            patches = {start + 4: struct.pack(">I", min(total - start - 8, 0xFFFFFFFF))}
            if width:
                frames = (size - 8) // width
                patches[frames_at] = struct.pack(">I", min(frames, 0xFFFFFFFF))
            return Measure({**patches, **_patch(chunk, size)}, remark)
    return Measure()


def _au(raw: BinaryIO, start: int, total: int) -> Measure:
    raw.seek(start)
    order = ">" if raw.read(4) == b".snd" else "<"
    offset, size = struct.unpack(f"{order}2I", raw.read(8))
    chunk = _Chunk(b"", start + offset, size, start + 8, f"{order}I")
    if chunk.begin >= total:
        return Measure()
    found, remark = _sound(raw, chunk, total, None)
    return Measure({} if found == size else _patch(chunk, found), remark)


_CONTAINERS: Mapping[bytes, Callable[[BinaryIO, int, int], Measure]] = {
    b"RIFF": _riff,
    b"RIFX": _riff,
    b"RF64": _riff,
    b"BW64": _riff,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"FORM": _aiff,
    b".snd": _au,
    b"dns.": _au,
    b"fLaC": flac,
    b"OggS": ogg,
}
