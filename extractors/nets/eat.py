"""The encoder of EAT, SSLAM and FISHER, for inference and fine-tuning.

Written from Chen et al. 2024, "EAT: Self-Supervised Pre-Training with Efficient Audio Transformer"
(arXiv 2401.03497, section 3) and the keys of the published checkpoints. SSLAM (Alex et al. 2025, ICLR)
trains the same network otherwise; FISHER (Fan et al. 2025, arXiv 2507.16696) feeds it band by band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from extractors.nets.vit import EPSILON, Vit, VitSizes

PATCH = 16  # side of a square patch of the (time, frequency) plane, also its step
UNUSED = (  # of training, and of fine-tuned files' classifiers
    "decoder.", "shared_decoder.", "recon_proj.", "cls_proj.", "center", "encoder_mask", "alibi",
    "fc_norm.", "head.",
)  # fmt: skip
# Where the publishers keep what is one thing here: files of the hub, of the training code, fine-tuned.
_WRAPPINGS = ("model.", "modality_encoders.IMAGE.")
_NAMES = {
    "local_encoder.proj.": "patch_embedding.",
    "extra_tokens": "token",
    "fixed_positional_encoder.positions": "positions",
    "context_encoder.norm.": "norm.",
    "pre_norm.": "norm.",
}


class Eat(Vit):
    """Spectrogram to tokens.

    Parameters
    ----------
    sizes
        Of the transformer, which normalises after its residuals.
    positions
        Patches that have a position.
    """

    FRONT = ("patch_embedding.", "token", "norm.")
    positions: Tensor

    def __init__(self, sizes: VitSizes, positions: int) -> None:
        super().__init__(sizes, before=False)
        self.patch_embedding = nn.Conv2d(1, sizes.width, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, sizes.width) / 50)
        self.register_buffer("positions", torch.empty(1, positions, sizes.width))
        self.norm = nn.LayerNorm(sizes.width, EPSILON)

    def forward(self, spectrograms: Tensor, layers: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Compute the tokens of several layers, and nothing above the highest.

        Parameters
        ----------
        spectrograms
            (B, frames, bins) normalised, at least one patch long and wide; frames and bins beyond
            whole patches are not heard.
        layers
            From 1 to the number of blocks.

        Returns
        -------
        list of (Tensor, Tensor)
            A layer, in the order asked for: (B, frames // 16, bins // 16, C) patches, and (B, C), the
            token that stands for all of them.
        """
        patches = self.patch_embedding(spectrograms[:, None])  # (B, C, time, band)
        time, band = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2)  # time-major
        tokens = tokens + self.positions[:, : time * band]
        tokens = self.norm(torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1))
        states = self.states(tokens, layers)
        grid = (len(tokens), time, band, -1)
        return [(states[n][:, 1:].reshape(grid), states[n][:, 0]) for n in layers]


def grid_positions(rows: int, columns: int, width: int) -> Tensor:
    """Compute sines and cosines of where each patch is; Vaswani et al. 2017, section 3.5, on two axes.

    Parameters
    ----------
    rows, columns
        Of the grid: time and frequency.
    width
        Values a position, a multiple of 4: the first half tells the column, the second the row.

    Returns
    -------
    Tensor
        (1, rows x columns, width) float32, row after row.
    """
    rates = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    column, row = torch.arange(columns).repeat(rows), torch.arange(rows).repeat_interleave(columns)
    halves = [number[:, None] * rates for number in (column, row)]
    parts = [wave for angles in halves for wave in (angles.sin(), angles.cos())]
    return torch.cat(parts, dim=1).float()[None]


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a checkpoint's tensors into those of `Eat`.

    Parameters
    ----------
    state
        Of the hub's files, or of the training code's.

    Returns
    -------
    dict
        Float32. A name that is not known stays as it is.
    """
    ours: dict[str, Tensor] = {}
    for published, value in state.items():
        name = published
        for wrapping in _WRAPPINGS:
            name = name.removeprefix(wrapping)
        for theirs, own in _NAMES.items():
            if name.startswith(theirs):
                name = own + name.removeprefix(theirs)
        ours[name] = value.float()
    return ours
