"""Experiments."""

from __future__ import annotations

from importlib.resources import files


def shipped() -> list[str]:
    """Names of the experiments that come with the project."""
    folder = files("eval") / "experiments"
    names = [entry.name for entry in folder.iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
