"""One planned clip to the bytes of its file, its record inside; and the record of such a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from cache.base.errors import AsdError
from cache.base.text import parse_json
from extractors.audio.decode import decode_file, resampled
from extractors.audio.waves import Wave, fitted, wav_bytes
from extractors.clips.listing import Clip
from finetune.synthesis.method import Material, Method, Parameters, levelled
from finetune.synthesis.plan import FilePlan

_SHORTEST = 0.05  # s; in less, no method does what it says


@dataclass(frozen=True)
class SoundRecord:
    """How a clip was made: written into its file, as a comment in JSON.

    Attributes
    ----------
    method
        Name on the command line.
    sources
        Ids of the recordings that it is made of.
    parameters
        What was drawn, name to value.
    seed
        Of its randomness.
    lowered
        By how much it is quieter than its first recording, dB, so that 16 bits hold its peaks.
    """

    method: str
    sources: tuple[str, ...]
    parameters: Parameters
    seed: tuple[int, ...]
    lowered: float = 0.0

    def matches(self, planned: FilePlan) -> bool:
        """Whether this is the record of that clip."""
        return (self.method, self.sources, self.seed) == _identity(planned)


def render(planned: FilePlan, method: Method) -> tuple[bytes, SoundRecord]:
    """Make a clip.

    It has the rate, length and level (RMS) of its first recording: of these none tells it apart.

    Parameters
    ----------
    planned
        Which, with at least one recording; other recordings are brought to the first one's rate.
    method
        Its method.

    Returns
    -------
    file, record
        A WAV file of 16 bits, and what is written into it.

    Raises
    ------
    AsdError
        If a recording cannot be read, is silent or too short, or the method gives silence.
    """
    waves, rate = _decoded(planned.sources)
    first = planned.sources[0]
    material = Material(
        waves, rate, planned.section.machine_type, str(planned.name.condition), first.attributes
    )
    made = method.apply(np.random.default_rng(planned.seed), material)
    wave = fitted(made.wave, len(waves[0]))
    if not np.isfinite(wave).all() or not wave.any():
        raise AsdError(f"{first.path}: {planned.method} gives silence or no numbers")
    wave, lowered = levelled(wave, waves[0])
    name, sources, seed = _identity(planned)
    # Six significant digits: more than anybody hears, the same text on every machine.
    parameters = {
        key: value if isinstance(value, str) else float(f"{value:.6g}")
        for key, value in made.parameters.items()
    }
    record = SoundRecord(name, sources, parameters, seed, round(lowered, 3))
    return wav_bytes(wave, rate, json.dumps(asdict(record))), record


def read_record(path: Path) -> SoundRecord | None:
    """Read how a clip was made; ``None`` if its file does not say so."""
    try:
        with soundfile.SoundFile(path) as file:
            found = parse_json(file.comment)
        return SoundRecord(
            str(found["method"]),
            tuple(map(str, found["sources"])),
            dict(found["parameters"]),
            tuple(map(int, found["seed"])),
            float(found["lowered"]),
        )
    except (OSError, soundfile.SoundFileError, ValueError, KeyError, TypeError):
        return None


def _identity(planned: FilePlan) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    return planned.method, tuple(clip.clip_id for clip in planned.sources), planned.seed


def _decoded(clips: tuple[Clip, ...]) -> tuple[tuple[Wave, ...], int]:
    """Waveforms (T,) float64 at the first clip's rate, and that rate in Hz."""
    waves = []
    rate = 0
    for clip in clips:
        try:
            decoding = decode_file(clip.path, signal=clip.signal)
            rate = rate or decoding.sample_rate
            wave = resampled(decoding, rate).samples.astype(np.float64)
        except AsdError as error:
            raise AsdError(f"{clip.path}: {error}") from error
        if len(wave) < _SHORTEST * rate:
            raise AsdError(f"{clip.path}: {len(wave)} samples are less than {_SHORTEST} s")
        if not wave.any():
            raise AsdError(f"{clip.path}: silent, so that no level can be set against it")
        waves.append(wave)
    return tuple(waves), rate
