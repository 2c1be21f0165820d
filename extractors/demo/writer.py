"""Clips and attribute files of the task's layout, written: for the data sets we make ourselves."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from cache.files.atomic import write_atomic
from extractors.clips.names import Name
from extractors.demo.waves import Wave


@dataclass(frozen=True)
class ClipName:
    """What a clip's name in the 2023 layout tells, its attributes apart.

    Attributes
    ----------
    split, domain, condition
        ``train`` or ``test``, ``source`` or ``target``, ``normal`` or ``anomaly``.
    number
        Running number.
    section
        Number of the section.
    """

    split: str
    domain: str
    condition: str
    number: int
    section: int = 0

    def name(self, attributes: Mapping[str, str]) -> str:
        """Give the clip's name without suffix.

        Characters that would end a word of the name, or the name itself, are written as ``-``: the
        attribute file has the values as they are.
        """
        words = [_word(text) for pair in attributes.items() for text in pair]
        named = Name(
            self.section, f"{self.number:04d}", self.domain, self.split, self.condition,
            "_".join(words) if words else None,
        )  # fmt: skip
        return named.stem


def wav_bytes(wave: Wave, sample_rate: int, comment: str = "") -> bytes:
    """Encode a waveform as a 16-bit WAV file.

    Parameters
    ----------
    wave
        (T,) float in [-1, 1]; libsndfile takes 1 for the largest integer, 32767.
    sample_rate
        Hz.
    comment
        Text to put into the file beside the sound, in ASCII; none where empty.

    Returns
    -------
    bytes
        The file.
    """
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=sample_rate, channels=1, format="WAV", subtype="PCM_16"
    ) as file:
        if comment:
            file.comment = comment
        file.write(wave)
    return buffer.getvalue()


def write_attributes(path: Path, attributes: Mapping[str, Mapping[str, str]]) -> None:
    """Write an attribute file, ``file_name,d1p,d1v,...``, whole or not at all.

    Parameters
    ----------
    path
        ``<machine>/attributes_<nn>.csv``.
    attributes
        Clip id to its attributes, name to value; at least one clip.
    """
    rows: list[dict[str, str]] = []
    for clip, pairs in attributes.items():
        numbered = enumerate(pairs.items(), start=1)
        cells = {f"d{i}{kind}": text for i, pair in numbered for kind, text in zip("pv", pair, strict=True)}
        rows.append({"file_name": clip, **cells})
    longest = max(range(len(rows)), key=lambda row: len(rows[row]))
    write_table(path, list(rows[longest]), rows)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV file with a header, whole or not at all; what a row lacks stays empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


def _word(text: str) -> str:
    return re.sub(r"[_/\\\s]+", "-", text)
