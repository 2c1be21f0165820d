"""Heads and augmentations: the parts of a training that are files of their own, by name."""

from __future__ import annotations

from cache.base.plugins import Plugins

HEADS = Plugins("finetune.model.heads", "head")
AUGMENTATIONS = Plugins("finetune.augment", "augmentation")
