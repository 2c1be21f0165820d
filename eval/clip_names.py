"""What result files call test clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePosixPath

from cache.errors import AsdError


def result_names(clip_ids: Sequence[str]) -> tuple[str, ...]:
    """Name a section's test clips as its result files do.

    Parameters
    ----------
    clip_ids
        Paths of all of them, each once.

    Returns
    -------
    tuple of str
        Base names, as the task wants them. Where two clips in different folders have one, all take
        the folders below their common one with them, joined by two underscores.

    Raises
    ------
    AsdError
        If that does not tell them apart.
    """
    paths = [PurePosixPath(clip_id) for clip_id in clip_ids]
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        common = commonpath([path.parent.as_posix() for path in paths])
        names = ["__".join(path.relative_to(common).parts) for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AsdError(f"several test clips would be called {twice[0]!r} in results; rename one")
    return tuple(names)
