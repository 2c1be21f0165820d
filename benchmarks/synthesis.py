"""A picture of every signal method of synthesis on the demo's valve, almost without noise.

usage: python -m benchmarks.synthesis docs/synthesis.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import spectrogram

from cache.base.options import parse
from extractors.audio.waves import SAMPLE_RATE, ratio
from extractors.demo.machines import NOISES, Valve
from finetune.synthesis.method import Material, find, levelled

# One strength of each that the eye can see, and what to look for.
PANELS = {
    "": "the recording",
    "mixup:weight=0.5": "mixup with another, half and half",
    "speed:change=0.4": "speed, 40 % faster",
    "pitch:semitones=12": "pitch, an octave up",
    "noise:snr=5:slope=-3": "noise, 5 dB below",
    "equalisation:deviation=6:tilt=1.5": "equalisation",
    "bearing:frequency=12:resonance=0.5:decay=0.002:level=0": "bearing, 12 impacts a second",
    "modulation:frequency=4:depth=0.9": "modulation, 4 Hz",
    "harmonics:frequency=115:level=0": "harmonics of 115 Hz",
    "rubbing:frequency=5:contact=0.2:level=0": "rubbing, 5 turns a second",
    "clipping:share=0.3": "clipping of 30 %",
    "dropouts:share=0.2:length=0.1": "dropouts, a fifth of the time",
}
SECONDS = 2
WINDOW = 1024


def recording(interval: int) -> NDArray[np.float64]:
    """Return two seconds of a healthy valve that opens at an interval, ms, 20 dB above noise."""
    rng, samples = np.random.default_rng(interval), SECONDS * SAMPLE_RATE
    valve = Valve(interval, 4).sound(rng, samples)
    return 0.05 * (valve + ratio(-20) * NOISES["factory"].sound(rng, samples))


def made(text: str) -> NDArray[np.float64]:
    """Apply a method at a fixed strength."""
    waves = (recording(500), recording(330))
    if not text:
        return waves[0]
    method = parse(text, find)
    material = Material(waves[: method.clips], SAMPLE_RATE)
    result = method.apply(np.random.default_rng(3), material).wave
    return levelled(result, waves[0])[0]


def draw(axes: Axes, wave: NDArray[np.float64], title: str) -> None:
    """Draw one spectrogram, 70 dB from black to white, the same scale in every panel."""
    frequency, time, power = spectrogram(wave, SAMPLE_RATE, nperseg=WINDOW, noverlap=WINDOW * 7 // 8)
    decibel = 10 * np.log10(power + 1e-14)
    axes.pcolormesh(time, frequency[1:], decibel[1:], cmap="magma", vmin=-115, vmax=-45, rasterized=True)
    axes.set_yscale("log")
    axes.set_ylim(60, SAMPLE_RATE / 2)
    axes.set_yticks([100, 300, 1000, 3000], ["0.1", "0.3", "1", "3"])
    axes.set_yticks([], minor=True)
    axes.set_xlim(0, SECONDS)
    axes.set_title(title, fontsize=9, loc="left", pad=3)
    axes.tick_params(labelsize=8)


def main() -> None:
    """Write the picture."""
    mpl.use("agg")
    figure, grid = plt.subplots(3, 4, figsize=(11, 6.6), sharex=True, sharey=True)
    for axes, (text, title) in zip(grid.flat, PANELS.items(), strict=True):
        draw(axes, made(text), title)
    for axes in grid[-1]:
        axes.set_xlabel("time, s", fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("frequency, kHz", fontsize=8)
    figure.tight_layout(pad=0.6)
    target = Path(sys.argv[1])
    figure.savefig(target, dpi=90)
    # A picture of noise does not compress: 64 colours take a quarter of the room.
    Image.open(target).convert("RGB").quantize(64).save(target, optimize=True)
    print(f"{len(PANELS)} spectrograms -> {target}")


if __name__ == "__main__":
    main()
