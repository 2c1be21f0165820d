"""The model that is trained: a backbone's network, the embedding on top of it, and a head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cache.base.errors import AsdError
from extractors.backbone import OWN, Features, Inputs, Tunable
from extractors.embedding.finetuned import Embedding, embed
from finetune.data.augmentation import Mixture
from finetune.model.head import Head, HeadOptions


class Learner(nn.Module):
    """A backbone with an embedding and a head.

    The network stays in evaluation mode: its normalisation does not follow the batches, so that
    what is trained is what is extracted.

    Parameters
    ----------
    backbone
        On its device.
    embedding
        What is trained on top of it.
    head
        The classifier.
    """

    def __init__(self, backbone: Tunable, embedding: Embedding, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedding = embedding
        self.network = backbone.trainable.network
        self.pooling = embedding.pooling()
        self.head = head

    def train(self, mode: bool = True) -> Learner:
        """Set the mode of head and pooling."""
        super().train(mode)
        self.network.eval()
        return self

    def embed(self, inputs: Inputs) -> Tensor:
        """Compute (B, D) float32 embeddings of what `Tunable.inputs` made."""
        features = self.backbone.states(inputs, [self.embedding.layer])[0]
        return embed(self.pooling, features).float()

    def forward(self, inputs: Inputs, mixture: Mixture) -> Tensor:
        """Compute the mean loss of a batch, a float32 scalar."""
        return self.head.loss(self.embed(inputs), mixture)


def measured(backbone: Tunable, layer: int, kind: str, size: int) -> Embedding:
    """Find out the sizes of a layer by a second of silence.

    Parameters
    ----------
    backbone
        On its device.
    layer
        One of ``spec.layers``.
    kind
        Of `extractors.embedding.finetuned.Embedding`.
    size
        Wanted; the backbone's own where `kind` is `OWN`.

    Raises
    ------
    AsdError
        If there is no such layer, or it has no embedding of its own and that is wanted.
    """
    spec = backbone.spec
    if layer not in spec.layers:
        raise AsdError(f"{spec.name} has no layer {layer}; it has {', '.join(map(str, spec.layers))}")
    device = backbone.trainable.device
    silence = torch.zeros(1, max(spec.sample_rate, spec.min_samples), device=device)
    with torch.inference_mode():
        features: Features = backbone.features(silence, [layer])[0]
    if kind == OWN and features.native is None:
        known = ", ".join(map(str, spec.native)) or "none"
        raise AsdError(f"{spec.name} has no embedding of its own at layer {layer}, only: {known}")
    own = features.native.shape[1] if kind == OWN and features.native is not None else size
    return Embedding(layer, kind, features.frames.shape[3], features.frames.shape[2], own)


def build(backbone: Tunable, embedding: Embedding, options: HeadOptions, classes: int, seed: int) -> Learner:
    """Put a learner together; what is new in it is drawn from `seed`.

    Parameters
    ----------
    backbone, embedding
        See `Learner`.
    options
        The head.
    classes
        K, at least 2.
    seed
        Of torch's generator, whose state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = options.build(embedding.size, classes)
        learner = Learner(backbone, embedding, head)
    return learner.to(backbone.trainable.device)
