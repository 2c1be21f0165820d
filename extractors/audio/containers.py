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
from dataclasses import dataclass, field
from typing import BinaryIO

from cache.base.errors import AsdError

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


@dataclass(frozen=True)
class Measure:
    """What a header should have said.

    Attributes
    ----------
    patches
        Offset to bytes: the header put right, for the decoder.
    remark
        What was put right that the user should know; empty where nothing was.
    frames
        Samples of a channel, where the stream itself tells; ``None`` where the decoder will.
    """

    patches: Mapping[int, bytes] = field(default_factory=dict)
    remark: str = ""
    frames: int | None = None


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
    start = _after_tag(raw)
    raw.seek(start)
    magic = raw.read(16)
    try:
        for name, measure in _CONTAINERS.items():
            if magic.startswith(name):
                return measure(raw, start, total)
        return _mp3(raw, start, total) if _mp3_frame(magic[:4]) else Measure()
    except (struct.error, IndexError):
        return Measure()  # too short for a header: the decoder says so
    finally:
        raw.seek(0)


class PatchedFile(io.RawIOBase):
    """A file in which some bytes are others.

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


def _after_tag(raw: BinaryIO) -> int:
    """Skip an ID3v2 tag in front, which FLAC and MP3 may have: 7 bits a byte of its size."""
    raw.seek(0)
    head = raw.read(10)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 16 else 0)


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


def _is_unknown(size: int) -> bool:
    return any(0 <= known - size <= _SUBTRACTED for known in _UNKNOWN)


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
        if _is_unknown(size):
            return there, ""
        if size - there > _SLIP:
            raise AsdError(f"cut short: its header promises {size - there} bytes more than there are")
        return there, f"its header tells of {size - there} bytes more than there are"
    end = chunk.begin + size
    if form is None:
        whole = there - size <= _SLIP or _is_padding(raw, end)
    else:
        whole = form.is_chain(raw, end + -size % form.align, total) or form.is_chain(raw, end, total)
    if size <= bare:  # a writer that never came back, unless nothing follows
        return (size if whole else there), ""
    if not whole:
        raise AsdError(f"its header tells of {size - bare} of {there - bare} bytes of sound: {_REWRITE}")
    return size, ""


def _is_padding(raw: BinaryIO, position: int) -> bool:
    raw.seek(position)
    rest = raw.read(_SLIP * 1024)
    return rest.startswith(_TAGS) or not rest.strip(b"\0")


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
                return Measure()
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


# FLAC: its frames tell where they are (RFC 9639, section 9).

_RATE_BYTES = {12: 1, 13: 2, 14: 2}
_SIZE_BYTES = {6: 1, 7: 2}
_CANDIDATES = 3
_FLAC_END = 2**20  # bytes; the largest frame of a file that players take has less


def _table(polynomial: int, bits: int) -> list[int]:
    mask, found = (1 << bits) - 1, []
    for value in range(256):
        value <<= bits - 8  # noqa: PLW2901
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> (bits - 1) else 0)) & mask  # noqa: PLW2901
        found.append(value)
    return found


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
    return crc


def _flac_frame(data: bytes, at: int, block: int) -> tuple[int, int] | None:
    """First sample and number of samples of a frame; ``None`` where no header is.

    Parameters
    ----------
    data, at
        Bytes, and where among them.
    block
        Samples a frame, where frames are counted rather than samples.
    """
    head = data[at : at + 16]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if size_code == 0 or rate_code == 15 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    lead = head[4]
    more = 0 if lead < 0x80 else 8 - (lead ^ 0xFF).bit_length() - 1  # as UTF-8, up to 36 bits
    if more < 0 or more > 6 or lead in range(0x80, 0xC0) or len(head) < 6 + more:
        return None
    number = lead if more == 0 else lead & (0x3F >> more)
    for byte in head[5 : 5 + more]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 63
    end = 5 + more
    own = _SIZE_BYTES.get(size_code, 0)
    told = int.from_bytes(head[end : end + own], "big") + 1
    end += own + _RATE_BYTES.get(rate_code, 0)
    if end >= len(head) or _crc8(head[:end]) != head[end]:
        return None
    if not own:
        told = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    return (number if head[1] & 1 else number * block), told


def _flac(raw: BinaryIO, start: int, total: int) -> Measure:
    raw.seek(start + 4)
    head = raw.read(38)
    if len(head) < 38 or head[0] & 127:
        return Measure()
    _, block = struct.unpack(">2H", head[4:8])
    claimed = int.from_bytes(head[17:22], "big") & (2**36 - 1)
    position = _flac_sound(raw, start + 4, total)
    if position is None and claimed:
        raise AsdError(f"cut short: its header promises {claimed} samples more than there are")
    if position is None:
        raise AsdError("zero-length audio: a header without samples")
    raw.seek(position)
    first = _flac_frame(raw.read(16), 0, block)
    begin = max(position, total - _FLAC_END)
    raw.seek(begin)
    data = raw.read()
    if data[-128:-125] == b"TAG":
        data = data[:-128]
    if first is None:
        return Measure()
    last, whole = _last_frame(data, block)
    if last is None or last[0] < first[0]:
        return Measure()
    frames = last[0] - first[0] + (last[1] if whole else 0)
    return _of_frames(frames, claimed, whole, start + 21, head[17])


def _last_frame(data: bytes, block: int) -> tuple[tuple[int, int] | None, bool]:
    """Find the last frame, and whether it is whole; what looks like one may be sound by chance."""
    at, candidates = len(data), list[tuple[int, int]]()
    while len(candidates) < _CANDIDATES and (at := data.rfind(b"\xff", 0, at)) >= 0:
        found = _flac_frame(data, at, block)
        if found is not None and _crc16(data[at:-2]) == int.from_bytes(data[-2:], "big"):
            return found, True
        if found is not None:
            candidates.append(found)
    return (candidates[0] if candidates else None), False


def _flac_sound(raw: BinaryIO, position: int, total: int) -> int | None:
    """Where the frames begin: behind the blocks of metadata."""
    for _ in range(_MOST_CHUNKS):
        raw.seek(position)
        head = raw.read(4)
        if len(head) < 4:
            return None
        position += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 128:
            return position if position < total else None
    return None


def _of_frames(frames: int, claimed: int, whole: bool, where: int, kept: int) -> Measure:
    if claimed == 0:
        if not whole:
            raise AsdError("cut short: its last frame is not whole")
        # The upper four bits of that byte belong to the field before it.
        packed = (kept & 0xF0) << 32 | min(frames, 2**36 - 1)
        return Measure({where: packed.to_bytes(5, "big")}, frames=frames)
    if claimed > frames:
        raise AsdError(f"cut short: its header promises {claimed - frames} samples more than there are")
    if claimed < frames:
        raise AsdError(
            f"its header tells of {claimed} of {frames} samples: write it anew, for instance with "
            "ffmpeg -i IN OUT"
        )
    return Measure(frames=frames)


# Ogg: pages, the last of which says that it is the last (RFC 3533, section 6).

_PAGE = 27 + 255 + 255 * 255  # bytes of the largest


def _ogg(raw: BinaryIO, start: int, total: int) -> Measure:
    begin = max(start, total - 2 * _PAGE)
    raw.seek(begin)
    data = raw.read()
    at = data.rfind(b"OggS\0")
    if at < 0:
        return Measure()
    head = data[at : at + 27]
    lacing = data[at + 27 : at + 27 + head[26]] if len(head) == 27 else b""
    whole = len(head) == 27 and at + 27 + head[26] + sum(lacing) <= len(data)
    if not whole or not head[5] & 4:
        raise AsdError(
            "cut short: the page that ends an Ogg stream is not there; what there is of it can be "
            "kept with ffmpeg -i IN OUT"
        )
    return Measure()


# MP3: frames of a few bytes, and what an encoder wrote into the first (MPEG-1 and 2, layer III).

_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_BITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    0: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # kbit/s of layer III


def _mp3_frame(head: bytes) -> tuple[int, int, int] | None:
    """Bytes, samples and length of the side information of a frame; ``None`` for no header."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bits in {0, 15} or rate == 3:
        return None
    first, mono = version == 3, head[3] >> 6 == 3
    samples = 1152 if first else 576
    per_second = _MP3_BITS[int(first)][bits] * 1000 // 8
    size = samples * per_second // _MP3_RATES[version][rate] + (head[2] >> 1 & 1)
    return size, samples, (17 if mono else 32) if first else (9 if mono else 17)


def _mp3(raw: BinaryIO, start: int, total: int) -> Measure:
    raw.seek(max(start, total - 128))
    if raw.read(3) == b"TAG":
        total -= 128
    raw.seek(start)
    head = raw.read(64)
    frame = _mp3_frame(head)
    if frame is None:
        return Measure()
    told = head[4 + frame[2] :]
    if told[:4] in (b"Xing", b"Info") and told[7] & 2:
        at = 8 + 4 * (told[7] & 1)
        size = int.from_bytes(told[at : at + 4], "big")
        if size and total - start < size:
            raise AsdError(f"cut short: its header promises {size - total + start} bytes more than there are")
        if size:
            return Measure()
    return _walked(raw, start, total)


def _walked(raw: BinaryIO, position: int, total: int) -> Measure:
    """Count the frames of a file that does not tell how many there are."""
    frames = 0
    while position + 4 <= total:
        raw.seek(position)
        frame = _mp3_frame(raw.read(4))
        if frame is None:  # tags, or bytes of which only the decoder knows how to get over them
            return Measure()
        if position + frame[0] > total:
            missing = position + frame[0] - total
            raise AsdError(f"cut short: its last frame lacks {missing} bytes")
        position += frame[0]
        frames += frame[1]
    return Measure(frames=frames)


_CONTAINERS: Mapping[bytes, Callable[[BinaryIO, int, int], Measure]] = {
    b"RIFF": _riff,
    b"RIFX": _riff,
    b"RF64": _riff,
    b"BW64": _riff,
    b"riff\x2e\x91\xcf\x11": _w64,
    b"FORM": _aiff,
    b".snd": _au,
    b"dns.": _au,
    b"fLaC": _flac,
    b"OggS": _ogg,
}
