"""Random draws of augmentations, and changes of batches of waveforms; see `extractors.audio.waves`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from cache.base.options import Span
from extractors.audio.waves import F, Wave, at_speed, colour, lengthened, with_part

_UNIT = Span(0.0, 1.0)


def uniform(count: int, generator: Generator, span: Span = _UNIT) -> Tensor:
    """Draw (count,) float64 from a span."""
    values = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    return span.low + (span.high - span.low) * values


def chosen(count: int, p: float, generator: Generator) -> Tensor:
    """Choose each of `count` rows with probability p: (n,) int64 on the CPU, ascending."""
    return (uniform(count, generator) < p).nonzero()[:, 0].cpu()


def beta(count: int, alpha: float, generator: Generator) -> Tensor:
    """Draw (count,) float32 of Beta(alpha, alpha) on the CPU.

    Torch's own takes no generator: NumPy's is seeded by this one.
    """
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    drawn = np.random.default_rng(int(seed)).beta(alpha, alpha, count)
    return torch.from_numpy(drawn.astype(np.float32))


def partners(allowed: Tensor, generator: Generator) -> Tensor:
    """Choose one of the allowed columns for each row, all with the same probability.

    Parameters
    ----------
    allowed
        (B, N) bool.
    generator
        Of the choice.

    Returns
    -------
    Tensor
        (B,) int64 on the CPU, -1 for a row that allows none.
    """
    draws = uniform(allowed.numel(), generator).cpu().view(allowed.shape)
    best = draws.masked_fill(~allowed.cpu(), -1).max(1)
    return best.indices.masked_fill(best.values < 0, -1)


def cropped(waveforms: Tensor, length: int, generator: Generator) -> Tensor:
    """Cut (B, T) to (B, length), T >= length, each clip from a beginning of its own."""
    latest = waveforms.shape[1] - length
    if latest == 0:
        return waveforms
    starts = (uniform(len(waveforms), generator) * (latest + 1)).long().to(waveforms.device)
    return waveforms.gather(1, starts[:, None] + torch.arange(length, device=waveforms.device))


def fitted(wave: NDArray[F], samples: int, generator: Generator) -> Tensor:
    """Bring a (T,) wave to (1, samples) float32: cut at random, or `lengthened`."""
    return cropped(torch.from_numpy(lengthened(wave, samples)).float()[None], samples, generator)


def played(
    waveforms: Tensor, factors: Tensor, play: Callable[[Wave, float], Wave], generator: Generator
) -> Tensor:
    """Play each of (B, T) clips by a factor of its own, on the CPU, and bring it to its length again.

    Parameters
    ----------
    waveforms
        (B, T) float32.
    factors
        (B,).
    play
        `at_speed` or `at_pitch`.
    generator
        See `fitted`.
    """
    clips = zip(waveforms.cpu().double().numpy(), factors.tolist(), strict=True)
    whole = [fitted(play(clip, factor), waveforms.shape[1], generator) for clip, factor in clips]
    return torch.cat(whole).to(waveforms.device)


def stripe(clips: int, length: int, widest: int, generator: Generator) -> Tensor:
    """Draw one stripe a clip, its width from 0 to the widest, then its place: (clips, length) bool."""
    width = (uniform(clips, generator) * (widest + 1)).long()
    start = (uniform(clips, generator) * (length - width + 1)).long()
    places = torch.arange(length, device=start.device)
    return (places >= start[:, None]) & (places < (start + width)[:, None])


def with_noise(waveforms: Tensor, noise: Tensor, snr: Span, generator: Generator) -> Tensor:
    """Add noise to each clip, at a ratio of its own.

    Parameters
    ----------
    waveforms, noise
        (B, T).
    snr
        Range of ``10 log10(energy of the clip / energy of its noise)``, dB.
    generator
        Of the ratios.

    Returns
    -------
    Tensor
        (B, T). A silent clip, or one whose noise is silent, has no ratio and stays as it is.
    """
    ratios = uniform(len(waveforms), generator, snr).to(waveforms.device, waveforms.dtype)
    is_silent = ~noise.any(1, keepdim=True)
    noisy = with_part(waveforms, noise, -ratios[:, None])
    return torch.where(is_silent, waveforms, noisy)


def coloured(white: Tensor, exponent: float) -> Tensor:
    """Shape white noise (B, T) to a power density of ``1 / f^exponent``, without a mean."""
    spectrum = torch.fft.rfft(white)
    bins = torch.arange(1, spectrum.shape[1], device=white.device, dtype=white.dtype)
    spectrum[:, 1:] *= colour(bins / len(bins), -exponent / 2)
    spectrum[:, 0] = 0
    noise: Tensor = torch.fft.irfft(spectrum, n=white.shape[1])
    return noise


_FFT, _HOP = 1024, 256  # samples: 64 ms at 16 kHz, four windows over each other
SHORTEST = 2 * _FFT  # samples: less has no pitch to shift


def at_pitch(wave: Wave, factor: float) -> Wave:
    """Shift the pitch of a wave: stretched in time without a change of pitch, then played faster.

    The vocoder takes about 3 dB from noise, whose bins lose their common phase.

    Parameters
    ----------
    wave
        (T,), at least `SHORTEST` samples.
    factor
        Of every frequency, above 0.

    Returns
    -------
    Wave
        (about T - 1024,), the tempo as it was.
    """
    return at_speed(stretched(torch.from_numpy(wave), factor).numpy(), factor)


def stretched(wave: Tensor, factor: float) -> Tensor:
    """Make a wave longer at the same pitch, by a phase vocoder (Flanagan and Golden 1966).

    Parameters
    ----------
    wave
        (T,), at least `SHORTEST` samples.
    factor
        Of the length, above 0.

    Returns
    -------
    Tensor
        (about factor (T - 1024),) of the same type.
    """
    window = torch.hann_window(_FFT, dtype=wave.dtype)
    # Not centred: of a first frame that is half reflection, the bins have phases that part for the
    # whole clip.
    spectrum = torch.stft(wave, _FFT, _HOP, window=window, center=False, return_complex=True)
    return torch.istft(vocoder(spectrum, factor), _FFT, _HOP, window=window)


def vocoder(spectrum: Tensor, ratio: float) -> Tensor:
    """Stretch a spectrum in time.

    Magnitudes are interpolated between frames; each bin's phase goes on by what it went on between
    the same two frames. The distance of frames does not change, so whole turns do not matter and
    phases can stay what they are, complex numbers of length 1.

    Parameters
    ----------
    spectrum
        (bins, frames) complex, frames >= 2.
    ratio
        Of the lengths, new to old.

    Returns
    -------
    Tensor
        (bins, ceil(ratio (frames - 1))).
    """
    times = torch.arange(0, spectrum.shape[1] - 1, 1 / ratio, dtype=torch.float64)
    before = times.long()
    after = (times - before).to(spectrum.real.dtype)
    magnitude, turns = spectrum.abs(), torch.sgn(spectrum)
    turns = torch.where(turns == 0, 1, turns)  # a silent bin has no phase
    steps = (turns[:, 1:] * turns[:, :-1].conj())[:, before[:-1]]
    phases = torch.cat([turns[:, :1], steps], dim=1).cumprod(1)
    return torch.lerp(magnitude[:, before], magnitude[:, before + 1], after) * torch.sgn(phases)
