"""Training clips in memory: waveforms, sampling, batches, and the augmentations there are by name."""

from cache.base.plugins import Plugins

AUGMENTATIONS = Plugins("", "augmentation", kin={
    "mixup": "finetune.data.augmentations:Mixup",
    "noise": "finetune.data.augmentations:Noise",
    "other-machine": "finetune.data.augmentations:OtherMachine",
    "pitch": "finetune.data.augmentations:Pitch",
    "specaugment": "finetune.data.augmentations:SpecAugment",
    "speed": "finetune.data.augmentations:Speed",
})  # fmt: skip
