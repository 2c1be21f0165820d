"""Sounds from text by AudioLDM 2 (Liu et al. 2023, arXiv 2308.05734)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from finetune.synthesis.text_to_audio import Checkpoint, TextToAudio


@dataclass(frozen=True)
class AudioLDM2(TextToAudio):
    """The published model of 1.1 billion parameters, 16 kHz, trained on clips of 10 s."""

    pipeline: ClassVar[str] = "AudioLDM2Pipeline"
    published: ClassVar[Checkpoint] = Checkpoint(
        "cvssp/audioldm2@c8e7e189d324425c05c4c2f81214041ef4107983",
        "CC BY-NC-SA 4.0: no commercial use, of its sounds either where the law says so",
    )


METHOD = AudioLDM2
