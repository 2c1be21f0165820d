"""Audio files with wrong bytes, read in a process whose memory is bounded.

``python -m tests.helpers.hostile_audio CASES SEED`` prints what came of it as JSON; a crash, a hang or an
exception that names no reason ends it with another exit code.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from cache.base.errors import AsdError
from extractors.audio.decode import read_audio, seconds_of
from tests.helpers.mutation import damage

RATE = 16_000
MEMORY = 3 * 2**30  # bytes of addresses beyond those at the start: 2 GiB of samples and their copy
_FORMS = {
    "wav": [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM")],
    "flac": [("FLAC", "PCM_16")],
    "ogg": [("OGG", "VORBIS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
}
_EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF)


def seeds() -> list[tuple[str, bytes]]:
    """Suffix and bytes of sound files of every kind, mono and stereo."""
    made = []
    for suffix, forms in _FORMS.items():
        for form, subtype in forms:
            for channels in (1, 2):
                noise = np.random.default_rng(channels).normal(0, 0.1, (4000, channels))
                buffer = io.BytesIO()
                soundfile.write(buffer, noise, RATE, format=form, subtype=subtype)
                made.append((suffix, buffer.getvalue()))
    return made


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage it anywhere, or write an extreme number into its header."""
    for _ in range(int(rng.integers(1, 4))):
        if not data or rng.random() < 0.5:
            return damage(data, rng) if data else data
        at = int(rng.integers(min(len(data), 64)))
        order = "little" if rng.random() < 0.5 else "big"
        data = data[:at] + int(rng.choice(_EXTREMES)).to_bytes(4, order) + data[at + 4 :]
    return data


def claiming(frames: int) -> bytes:
    """A FLAC file whose header claims that many samples; the field has 36 bits."""
    data = bytearray(seeds()[8][1])
    assert data[:4] == b"fLaC"
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | frames
    data[18:26] = packed.to_bytes(8, "big")
    return bytes(data)


def _bound() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _read(path: Path) -> bool:
    """Whether it is read; refused otherwise."""
    try:
        seconds_of(path)
        recording = read_audio(path, RATE)
    except AsdError:
        return False
    assert np.isfinite(recording.samples).all()
    return True


def main(cases: int, seed: int) -> int:
    """Read that many mutations."""
    rng, kinds = np.random.default_rng(seed), seeds()
    _bound()
    found: dict[str, dict[str, int]] = {}
    slowest = 0.0
    with TemporaryDirectory() as folder:
        for number in range(cases):
            suffix, data = kinds[number % len(kinds)]
            path = Path(folder) / f"case.{suffix}"
            path.write_bytes(mutate(data, rng))
            begin = time.perf_counter()
            try:
                result = "read" if _read(path) else "refused"
            except BaseException as error:
                error.add_note(f"case {number} of seed {seed}, a {suffix}")
                raise
            slowest = max(slowest, time.perf_counter() - begin)
            kind = found.setdefault(suffix, {"read": 0, "refused": 0})
            kind[result] += 1
    # getrusage would tell the parent's memory at the fork.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    sys.stdout.write(json.dumps({"found": found, "slowest_s": slowest, "peak_mib": peak}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
