"""The backbones there are: one adapter a file, whose name is the one on the command line."""

from __future__ import annotations

from typing import cast

from cache.base.plugins import Plugins, part
from extractors.backbone import BackboneFile

_PLUGINS = Plugins("extractors.backbones", "backbone", "machine_asd.backbones")


def names() -> list[str]:
    """Names to choose from; none of them is imported."""
    return _PLUGINS.names()


def find(name: str) -> BackboneFile:
    """Import one backbone's module.

    Raises
    ------
    AsdError
        If there is none of that name, or the package that offers it is broken.
    """
    module = _PLUGINS.find(name)
    part(module, "load", "backbone")
    return cast(BackboneFile, module)


def split_name(text: str) -> tuple[str, str]:
    """Split ``NAME[:VARIANT]``: a backbone's name and its variant."""
    name, _, variant = text.partition(":")
    return name, variant
