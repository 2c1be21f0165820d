"""Sounds from text by AudioLDM 2 (Liu et al. 2023, arXiv 2308.05734)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from extractors.device import transformers
from finetune.synthesis.text_to_audio import Checkpoint, TextToAudio


@dataclass(frozen=True)
class AudioLDM2(TextToAudio):
    """The published model of 1.1 billion parameters, 16 kHz, trained on clips of 10 s."""

    pipeline: ClassVar[str] = "AudioLDM2Pipeline"
    published: ClassVar[Checkpoint] = Checkpoint(
        "cvssp/audioldm2@c8e7e189d324425c05c4c2f81214041ef4107983",
        "CC BY-NC-SA 4.0: no commercial use, of its sounds either where the law says so",
    )
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({"max_new_tokens": 8})

    def parts(self, name: str, how: Mapping[str, Any]) -> dict[str, Any]:
        """Load the language model with a head, without which newer libraries cannot run it.

        The published folder calls it a ``GPT2Model``, which generates nothing since transformers
        4.53 (huggingface/diffusers, issue 12630); the head itself is never used.
        """
        cls = transformers().GPT2LMHeadModel
        return {"language_model": cls.from_pretrained(name, subfolder="language_model", **how)}


METHOD = AudioLDM2
