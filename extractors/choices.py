"""Options that may be given for one backbone of several: ``--layers 4 beats=12``."""

from __future__ import annotations

from collections.abc import Sequence

from cache.base.errors import AsdError
from cache.files.places import here
from extractors import registry
from extractors.backbone import Source

RANDOM_SEED = 0  # of `--weights random`


def split_name(text: str) -> tuple[str, str]:
    """Split ``NAME[:VARIANT]``: a backbone's name and its variant."""
    name, _, variant = text.partition(":")
    return name, variant


def chosen(values: Sequence[str], name: str, names: Sequence[str]) -> list[str]:
    """Pick what an option says of one backbone.

    Parameters
    ----------
    values
        ``VALUE``, meant for every backbone, or ``NAME=VALUE``. Only a backbone's name counts as
        one: a value may hold ``=`` itself.
    name
        The backbone.
    names
        All of this call.

    Returns
    -------
    list of str
        Its own values where there are any, else the common ones.

    Raises
    ------
    AsdError
        If a value is meant for a backbone that this call does not have.
    """
    own, common = [], []
    for value in values:
        before, equals, after = value.partition("=")
        if equals and before in registry.names():
            if before not in names:
                raise AsdError(f"{value} is meant for {before}, this call has {', '.join(names)}")
            own += [after] if before == name else []
        else:
            common.append(value)
    return own or common


def source(values: Sequence[str], text: str, names: Sequence[str], accepted: Sequence[str] = ()) -> Source:
    """Read ``--weights`` for one backbone.

    Parameters
    ----------
    values
        ``FILE``, ``NAME=FILE``, ``random`` or ``NAME=random``.
    text
        The backbone as named in the call, with its variant.
    names
        The names of this call.
    accepted
        Files, by their SHA-256, that need not be what is published under their names.

    Raises
    ------
    AsdError
        If two files are meant for one backbone, or one for several.
    """
    name, variant = split_name(text)
    files = chosen(values, name, names)
    if files == ["random"]:
        return Source(variant, seed=RANDOM_SEED)
    shared = [file for file in files if file in values and file != "random"]
    if shared and len(names) > 1:
        raise AsdError(
            f"--weights {shared[0]}: of {len(names)} backbones, say which it is for: "
            f"--weights {names[0]}={shared[0]}"
        )
    if len(files) > 1:
        raise AsdError(f"--weights: {name} takes one file, given are {', '.join(files)}")
    sums = tuple(sha256.lower() for sha256 in accepted)
    return Source(variant, here(files[0]) if files else None, accepted=sums)


def numbers(values: Sequence[str], option: str) -> list[int]:
    """Read whole numbers.

    Raises
    ------
    AsdError
        If one is not.
    """
    wrong = [value for value in values if not value.isdigit()]
    if wrong:
        raise AsdError(f"{option} {wrong[0]}: expected a whole number, or NAME=NUMBER")
    return [int(value) for value in values]
