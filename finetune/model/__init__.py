"""The model that is trained: a network, what of it is trained, and the heads there are by name."""

from cache.base.plugins import Plugins

HEADS = Plugins("", "head", kin={
    "adacos": "finetune.model.heads:AdaCosOptions",
    "arcface": "finetune.model.heads:ArcFaceOptions",
    "linear": "finetune.model.heads:LinearOptions",
    "subcluster-adacos": "finetune.model.heads:SubclusterAdaCosOptions",
})  # fmt: skip
