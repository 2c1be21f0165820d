"""Command line that lists what may be chosen by name, and the package each comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from cache.base.console import console_of, parser_of
from cache.base.errors import AsdError, guarded
from extractors import backbones, pooling
from index import scorer

_ABOUT = """List backbones, poolings and scorers, ours and those of other installed packages, and see whether
each can be loaded. Exit code 1 if one cannot: the others work without it."""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """List backbones, poolings and scorers.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where one cannot be loaded; 2 for a mistake in the call.
    """
    parser = parser_of("eval.list", _ABOUT)
    console = console_of(parser.parse_args(argv))
    faults = []
    kinds: dict[str, tuple[Sequence[str], Callable[[str], object]]] = {
        "backbone": (backbones.names(), backbones.find),
        "pooling": (pooling.names(), lambda name: pooling.find(name, {})),
        "scorer": (scorer.names(), scorer.find),
    }
    for kind, (names, find) in kinds.items():
        for name in names:
            origin = getattr(name, "origin", "") or "machine-asd"
            try:
                find(name)
                told = ""
            except (AsdError, ImportError) as error:
                faults.append(str(error))
                told = "  cannot be loaded"
            console.made(f"{kind:8}  {name:16}  {origin}{told}", name=name, kind=kind, origin=origin,
                         loads=not told)  # fmt: skip
    console.some("fault", faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
