"""Sounds from text: prompts, and the latent diffusion pipelines of `diffusers` that answer them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import soxr
from numpy.random import Generator

from cache.base.options import Span, option
from cache.table import SYNTHETIC
from extractors.audio.waves import Wave, fitted
from extractors.device import transformers
from finetune.synthesis.method import Material, MethodUnavailable, Parameters, SyntheticSound, draw

_LOG = logging.getLogger(__name__)

_NEGATIVE = "low quality, music, speech"  # what the model is led away from


@dataclass(frozen=True)
class PublishedPipeline:
    """A model of the hub, at one commit.

    Attributes
    ----------
    name
        ``owner/name@commit``.
    licence
        Of its weights.
    """

    name: str
    licence: str


def shipped_phrases() -> tuple[str, ...]:
    """Fault phrases that come with the project."""
    return parse_phrases(files("finetune.synthesis").joinpath("phrases.txt").read_text("utf-8"))


def parse_phrases(text: str) -> tuple[str, ...]:
    """Read phrases, one a line; blank lines and lines that start with ``#`` are skipped."""
    lines = [line.strip() for line in text.splitlines()]
    return tuple(line for line in lines if line and not line.startswith("#"))


def prompt(machine_type: str, attributes: Mapping[str, str], phrase: str) -> str:
    """Describe a machine in words.

    Parameters
    ----------
    machine_type
        As its folder is called: ``ToyCar`` becomes "toy car".
    attributes
        Operating conditions.
    phrase
        What is wrong with it; empty for a sound machine.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_-]+", " ", machine_type).lower()
    known = [f"{name} {value}" for name, value in attributes.items() if name != SYNTHETIC and value]
    parts = [f"the sound of a {words} running {phrase or 'smoothly'}".strip(), *known]
    return ", ".join(parts)


@dataclass(frozen=True)
class TextToAudio:
    """A pipeline of `diffusers`, opened when the first sound is made.

    Attributes
    ----------
    guidance
        How closely the prompt is followed; 3.5 in AudioLDM 2 (Liu et al. 2023, arXiv 2308.05734).
    steps
        Of denoising; 200 in the papers.
    device
        ``auto``, or torch's own name.
    model
        ``owner/name@commit`` of the hub, or a folder of the user's own; empty for `published`.
    phrases
        Of which an anomaly gets one; a normal clip gets none.
    """

    guidance: Span = option(Span(3.5, 3.5), "guidance scale", least=1.0, most=20.0)
    steps: int = option(200, "steps of denoising", least=1)
    device: str = option("auto", "auto, or torch's own name")
    model: str = ""
    phrases: tuple[str, ...] = field(default_factory=shipped_phrases)

    clips: ClassVar[int] = 1
    is_fault: ClassVar[bool] = False
    pipeline: ClassVar[str]
    published: ClassVar[PublishedPipeline]
    settings: ClassVar[Mapping[str, object]] = MappingProxyType({})  # of each call, beside ours

    def apply(self, rng: Generator, material: Material) -> SyntheticSound:
        """Make a sound from text; of the recording it takes rate, length and attributes alone."""
        guidance, seed = draw(rng, self.guidance), int(rng.integers(2**31))
        is_anomaly = material.condition == "anomaly"
        phrase = str(rng.choice(self.phrases)) if is_anomaly else ""
        text = prompt(material.machine_type, material.attributes, phrase)
        wave, rate = self._generate(text, guidance, seed, len(material.wave) / material.sample_rate)
        wave = soxr.resample(wave, rate, material.sample_rate, quality="HQ")
        drawn: Parameters = {"prompt": text, "guidance": guidance, "model": self.named}
        return SyntheticSound(fitted(wave, len(material.wave)), {**drawn, "seed": float(seed)})

    @property
    def named(self) -> str:
        """The model, whoever chose it."""
        return self.model or self.published.name

    def parts(self, name: str, how: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Load the parts that the pipeline would load as something else; none unless overridden.

        Parameters
        ----------
        name, how
            The model, and what every part of it is loaded with.
        """
        return {}

    def _generate(self, text: str, guidance: float, seed: int, seconds: float) -> tuple[Wave, int]:
        """Run the pipeline: (about rate * seconds,) float64 and the model's rate in Hz."""
        torch = import_module("torch")
        pipe = self._pipe
        # Noise drawn on the CPU is the same whichever device denoises it.
        answer = pipe(
            text,
            negative_prompt=_NEGATIVE,
            num_inference_steps=self.steps,
            guidance_scale=guidance,
            audio_length_in_s=ceil(10 * seconds) / 10,
            num_waveforms_per_prompt=1,
            generator=torch.Generator("cpu").manual_seed(seed),
            **self.settings,
        )
        wave = np.asarray(answer.audios[0], dtype=np.float64).ravel()
        return wave, int(pipe.vocoder.config.sampling_rate)

    @cached_property
    def _pipe(self) -> Any:
        """Load the pipeline: safetensors alone, no code of the model's own."""
        from extractors.device import find_device  # noqa: PLC0415 - torch only where it is needed

        cls, device = _pipeline_class(self.pipeline), find_device(self.device)
        torch = import_module("torch")
        kind = torch.float16 if device.type == "cuda" else torch.float32
        name, revision = self._located()
        try:
            how = {"revision": revision, "use_safetensors": True, "torch_dtype": kind}
            pipe = cls.from_pretrained(name, **how, **self.parts(name, how))
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MethodUnavailable(
                f"{self.pipeline}: {self.named} cannot be loaded ({reason}); bring the model's "
                "folder, weights as safetensors, and name it: --model FOLDER"
            ) from error
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device)

    def _located(self) -> tuple[str, str | None]:
        """Name and revision, the licence told before anything is fetched."""
        if self.model and Path(self.model).is_dir():
            return self.model, None
        name, _, revision = self.named.partition("@")
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise MethodUnavailable(
                f"--model {self.named}: neither a folder nor OWNER/NAME@COMMIT with the 40 digits "
                "of a commit, without which the same command could give other sounds"
            )
        known = self.named == self.published.name
        licence = self.published.licence if known else "see its page on the hub"
        _LOG.info("%s: licence %s", self.named, licence)
        return name, revision


def _pipeline_class(name: str) -> Any:
    """Import a pipeline, by way of the guard that lets transformers load its audio models."""
    from extractors.device import transformers  # noqa: PLC0415 - imports nothing before it is asked to

    transformers()
    try:
        diffusers = import_module("diffusers")
    except ModuleNotFoundError as error:
        raise MethodUnavailable(
            "sounds from text need diffusers, which is not installed: pip install 'machine-asd[synthesis]'"
        ) from error
    found = getattr(diffusers, name, None)
    if found is None:
        raise MethodUnavailable(f"diffusers {diffusers.__version__} has no {name}; try another --method")
    return found


@dataclass(frozen=True)
class AudioLDM(TextToAudio):
    """The published model of medium size, 16 kHz, trained on clips of 10 s."""

    pipeline: ClassVar[str] = "AudioLDMPipeline"
    published: ClassVar[PublishedPipeline] = PublishedPipeline(
        "cvssp/audioldm-m-full@77e8492b2710bf733ffaf1dfdbeb8b9347cc0bd4",
        "CC BY-NC-SA 4.0: no commercial use",
    )


@dataclass(frozen=True)
class AudioLDM2(TextToAudio):
    """The published model of 1.1 billion parameters, 16 kHz, trained on clips of 10 s."""

    pipeline: ClassVar[str] = "AudioLDM2Pipeline"
    published: ClassVar[PublishedPipeline] = PublishedPipeline(
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


CHOICES = {
    "audioldm": AudioLDM,
    "audioldm2": AudioLDM2,
}
