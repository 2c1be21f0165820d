"""The backbones there are: one file in ``extractors/backbones/`` each."""

from __future__ import annotations

from typing import cast

from cache.plugins import Plugins
from extractors.backbone import BackboneFile

_PLUGINS = Plugins("extractors.backbones", "backbone")


def names() -> list[str]:
    """Names to choose from; none of them is imported."""
    return _PLUGINS.names()


def find(name: str) -> BackboneFile:
    """Import one backbone's module.

    Raises
    ------
    AsdError
        If there is none of that name.
    """
    return cast(BackboneFile, _PLUGINS.find(name))
