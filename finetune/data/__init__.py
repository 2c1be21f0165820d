"""Training clips in memory: waveforms, sampling, batches, and the augmentations there are by name."""

from cache.base.plugins import Plugins

AUGMENTATIONS = Plugins("", "augmentation", shared=("finetune.data.augmentations",))
