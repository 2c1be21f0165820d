"""The model that is trained: a network, what of it is trained, and the heads there are by name."""

from cache.base.plugins import Plugins

HEADS = Plugins("", "head", shared=("finetune.model.heads",))
