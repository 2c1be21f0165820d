"""How much sound a stream of frames or pages holds: FLAC, Ogg (Vorbis, Opus) and MP3."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from cache.base.errors import AsdError

_MOST_BLOCKS = 10_000  # of metadata; more are an attack


@dataclass(frozen=True)
class Measure:
    """Corrections to a header that tells a wrong length.

    Attributes
    ----------
    patches
        Offset to bytes: the header put right, for the decoder.
    remark
        What was put right that the user should know; empty where nothing was.
    frames
        Samples of a channel, where the stream itself tells; ``None`` where the decoder will.
    sound
        First byte and bytes of samples that lie in the file one after the other, least byte first, its
        header being right; ``None`` where that is not so or not known.
    """

    patches: Mapping[int, bytes] = field(default_factory=dict)
    remark: str = ""
    frames: int | None = None
    sound: tuple[int, int] | None = None


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


def _crc(data: bytes, table: list[int], bits: int) -> int:
    crc, mask = 0, (1 << bits) - 1
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> (bits - 8) ^ byte]
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
    if end >= len(head) or _crc(head[:end], _CRC8, 8) != head[end]:
        return None
    if not own:
        told = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    return (number if head[1] & 1 else number * block), told


def flac(raw: BinaryIO, start: int, total: int) -> Measure:
    """Count the samples of a FLAC file by its last frame; see `extractors.audio.containers.measured`."""
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
        if found is not None and _crc(data[at:-2], _CRC16, 16) == int.from_bytes(data[-2:], "big"):
            return found, True
        if found is not None:
            candidates.append(found)
    return (candidates[0] if candidates else None), False


def _flac_sound(raw: BinaryIO, position: int, total: int) -> int | None:
    """Where the frames begin: behind the blocks of metadata."""
    for _ in range(_MOST_BLOCKS):
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


def ogg(raw: BinaryIO, start: int, total: int) -> Measure:
    """See that the last page of an Ogg file is there; see `extractors.audio.containers.measured`."""
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


def mp3_frame(head: bytes) -> tuple[int, int, int] | None:
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


def mp3(raw: BinaryIO, start: int, total: int) -> Measure:
    """Count the samples of an MP3 file that does not tell; see `extractors.audio.containers.measured`."""
    raw.seek(max(start, total - 128))
    if raw.read(3) == b"TAG":
        total -= 128
    raw.seek(start)
    head = raw.read(64)
    frame = mp3_frame(head)
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
    position, frames = start, 0  # a file that does not tell how many frames there are
    while position + 4 <= total:
        raw.seek(position)
        frame = mp3_frame(raw.read(4))
        if frame is None:  # tags, or bytes of which only the decoder knows how to get over them
            return Measure()
        if position + frame[0] > total:
            missing = position + frame[0] - total
            raise AsdError(f"cut short: its last frame lacks {missing} bytes")
        position += frame[0]
        frames += frame[1]
    return Measure(frames=frames)
