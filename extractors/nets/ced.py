"""The encoder of CED, for inference and fine-tuning.

Written from Dinkel et al. 2023, "CED: Consistent Ensemble Distillation for Audio Tagging" (arXiv
2308.11957, section 2), the model card (Apache 2.0) and the keys of the published checkpoints. Their
batch normalisation of the mel bands is a scale and a shift here, see `from_published`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from extractors.nets.vit import EPSILON, Vit, VitSizes

PATCH = 16  # side of a square patch of the (frequency, time) plane, also its step
MELS = 64
UNUSED = ("outputlayer.", "front_end.")  # the classifier; the filter bank of the first release
_BATCH_EPSILON = 1e-5  # PyTorch's default
_NAMES = {
    "patch_embed.proj.": "patch_embedding.",
    "time_pos_embed": "time",
    "freq_pos_embed": "frequency",
    "init_bn.1.": "init_bn.",  # in the first release
}


class Ced(Vit):
    """Spectrogram to tokens.

    Parameters
    ----------
    sizes
        Of the transformer, which normalises what goes into a block, and what leaves the last.
    columns
        Patches in time that have a position.
    """

    FRONT = ("scale", "shift", "patch_embedding.", "time", "frequency")
    TOP = ("norm.",)

    def __init__(self, sizes: VitSizes, columns: int) -> None:
        super().__init__(sizes, before=True)
        self.scale = nn.Parameter(torch.full((MELS,), 1 / 30))  # of dB, where nothing is learnt yet
        self.shift = nn.Parameter(torch.full((MELS,), 1.0))
        self.patch_embedding = nn.Conv2d(1, sizes.width, PATCH, PATCH)
        self.time = nn.Parameter(torch.randn(1, sizes.width, 1, columns) / 50)
        self.frequency = nn.Parameter(torch.randn(1, sizes.width, MELS // PATCH, 1) / 50)
        self.norm = nn.LayerNorm(sizes.width, EPSILON)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Compute the tokens of several layers, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, frames, 64) mel power in dB, 16 frames at least and no more than have positions;
            frames beyond whole patches are not heard.
        layers
            From 1 to the number of blocks.

        Returns
        -------
        list of Tensor
            (B, frames // 16, 4, C) a layer, in the order asked for.
        """
        normalised = spectrograms * self.scale + self.shift
        patches = self.patch_embedding(normalised.transpose(1, 2)[:, None])  # (B, C, band, time)
        band, time = patches.shape[2:]
        patches = patches + self.time[..., :time] + self.frequency
        states = self.states(patches.flatten(2).transpose(1, 2), layers)
        if self.sizes.depth in states:
            states[self.sizes.depth] = self.norm(states[self.sizes.depth])
        grid = (len(spectrograms), band, time, -1)
        return [states[number].reshape(grid).transpose(1, 2) for number in layers]


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a checkpoint's tensors into those of `Ced`.

    Parameters
    ----------
    state
        Of the hub's files, or of the first release.

    Returns
    -------
    dict
        Float32. The batch normalisation (Ioffe and Szegedy 2015, algorithm 2) is folded into a scale
        and a shift; a name that is not known stays as it is.
    """
    ours: dict[str, Tensor] = {}
    for published, value in state.items():
        name = published.removeprefix("encoder.")
        for theirs, own in _NAMES.items():
            if name.startswith(theirs):
                name = own + name.removeprefix(theirs)
        ours[name] = value.float()
    parts = [f"init_bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    if ours.keys() >= set(parts):
        weight, bias, mean, variance = (ours.pop(part) for part in parts)
        ours.pop("init_bn.num_batches_tracked", None)
        ours["scale"] = weight / (variance + _BATCH_EPSILON).sqrt()
        ours["shift"] = bias - mean * ours["scale"]
    return ours
