"""Sounds from text by AudioLDM (Liu et al. 2023, arXiv 2301.12503)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from finetune.synthesis.text_to_audio import Checkpoint, TextToAudio


@dataclass(frozen=True)
class AudioLDM(TextToAudio):
    """The published model of medium size, 16 kHz, trained on clips of 10 s."""

    pipeline: ClassVar[str] = "AudioLDMPipeline"
    published: ClassVar[Checkpoint] = Checkpoint(
        "cvssp/audioldm-m-full@77e8492b2710bf733ffaf1dfdbeb8b9347cc0bd4",
        "CC BY-NC-SA 4.0: no commercial use",
    )


METHOD = AudioLDM
