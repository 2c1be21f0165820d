"""The batched filter bank, against torchaudio's, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors.audio.decode import read_audio
from extractors.device import torchaudio
from extractors.nets.melspectrogram import KaldiFbank


def torchaudios(waveform: torch.Tensor, window: str) -> torch.Tensor:
    torchaudio()
    from torchaudio.compliance import kaldi  # noqa: PLC0415  # only after the guard

    return kaldi.fbank(
        waveform[None],
        htk_compat=True,
        sample_frequency=16_000,
        use_energy=False,
        window_type=window,
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )


TIME = torch.arange(40_123) / 16_000
SOUNDS: dict[str, Callable[[], torch.Tensor]] = {
    "noise": lambda: torch.randn(40_123, generator=torch.Generator().manual_seed(0)) / 10,
    "tone": lambda: torch.sin(2 * torch.pi * 1000 * TIME) / 2,
    "silence": lambda: torch.zeros(16_000),
    "offset": lambda: torch.full((16_000,), 0.3),
    "click": lambda: torch.eye(1, 16_000)[0],
    "shortest": lambda: torch.ones(400) / 7,
}


@pytest.mark.parametrize("window", ["povey", "hanning"])
@pytest.mark.parametrize("scale", [1.0, 2.0**15])
@pytest.mark.parametrize("sound", SOUNDS)
def test_it_is_torchaudios(sound: str, scale: float, window: str) -> None:
    waveform = SOUNDS[sound]() * scale
    ours = KaldiFbank(window)(waveform[None])[0]
    theirs = torchaudios(waveform, window)
    assert ours.shape == (1 + (len(waveform) - 400) // 160, 128)
    # Equal to the last digit where the arithmetic libraries are; elsewhere to float32's precision.
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=2e-6)


def test_it_is_torchaudios_on_recordings(real_data: Path) -> None:
    for path in sorted((real_data / "dev_data").rglob("*.wav"))[::60]:
        waveform = torch.from_numpy(read_audio(path, 16_000).samples)
        ours = KaldiFbank("povey")(waveform[None] * 2**15)[0]
        theirs = torchaudios(waveform * 2**15, "povey")
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=2e-6)


def test_a_batch_is_its_clips() -> None:
    waveforms = torch.randn(5, 8000, generator=torch.Generator().manual_seed(0))
    fbank = KaldiFbank("povey")
    alone = torch.cat([fbank(each[None]) for each in waveforms])
    assert torch.equal(fbank(waveforms), alone)


def test_the_empty_filter_gives_the_floor_and_autocast_changes_nothing() -> None:
    waveforms = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) * 1000
    fbank = KaldiFbank("povey")
    plain = fbank(waveforms)
    assert (plain[..., 3] == np.log(np.finfo(np.float32).eps, dtype=np.float32)).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fbank(waveforms), plain)
