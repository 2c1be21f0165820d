"""What result files call test clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePosixPath
from posixpath import basename

from cache.base.errors import AsdError
from cache.windows import split_id


def result_names(clip_ids: Sequence[str]) -> tuple[str, ...]:
    """Name a section's test clips as its result files do.

    Parameters
    ----------
    clip_ids
        Ids of all of them, each once.

    Returns
    -------
    tuple of str
        A name a clip; windows of a file have the file's. Base names, as the task wants them. Where
        two files in different folders have one, all take the folders below their common one with
        them, joined by two underscores.

    Raises
    ------
    AsdError
        If that does not tell files apart.
    """
    files = [split_id(clip_id)[0] for clip_id in clip_ids]
    unique = list(dict.fromkeys(files))
    names = [basename(file) for file in unique]
    if len(set(names)) < len(names):
        paths = [PurePosixPath(file) for file in unique]
        common = commonpath([path.parent.as_posix() for path in paths])
        names = ["__".join(path.relative_to(common).parts) for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AsdError(f"several test clips would be called {twice[0]!r} in results; rename one")
    known = dict(zip(unique, names, strict=True))
    return tuple(known[file] for file in files)
