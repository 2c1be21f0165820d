"""Command line of the store: list, verify, clean up."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cache.base.console import Command, Console, call_one, parser_of
from cache.base.errors import AsdError, guarded
from cache.select import Cache, CleanRequest, VerifyRequest


def _ls(request: Cache, console: Console) -> int:
    from cache.store import Store  # noqa: PLC0415 (a help page needs no Arrow)
    from cache.upkeep import holdings  # noqa: PLC0415

    held = list(holdings(Store(request.cache_dir)))
    for one in held:
        told = f"{one.tables} tables, {one.clips} clips, {one.mib:.1f} MiB"
        console.made(
            f"{one.recipe.fingerprint}  {one.recipe}  {told}", fingerprint=one.recipe.fingerprint, **vars(one)
        )
    if not held:
        console.made(f"no tables in {request.cache_dir}", tables=0, root=request.cache_dir)
    return 0


def _verify(request: VerifyRequest, console: Console) -> int:
    from cache.store import Store  # noqa: PLC0415
    from cache.upkeep import repaired, verify  # noqa: PLC0415

    store = Store(request.cache_dir)
    checked = list(verify(store))
    faulty = [(stored, fault) for stored, fault in checked if fault is not None]
    for stored, fault in faulty:
        console.made(f"fault: {fault}", fault=fault)
        if request.repair:
            told, facts = repaired(store, stored)
            console.made(told, **facts)
    told = f"{len(checked)} tables read in full, {len(faulty)} faulty, in {store.root}"
    console.made(told, read=len(checked), faulty=len(faulty))
    if request.repair and faulty:
        console.made("run the same extraction again: it makes what was moved", remedy="extract")
    return 1 if faulty else 0


def _gc(request: CleanRequest, console: Console) -> int:
    from cache.upkeep import clean  # noqa: PLC0415

    gone = clean(request)
    done, said = ("to remove", "would remove") if request.dry_run else ("removed", "removed")
    for path in (*gone.files, *gone.folders):
        console.made(f"{said} {path}", removed=path, only_said=request.dry_run)
    files, recipes = len(gone.files), len(gone.folders)
    told = f"{files} leftover files and {recipes} recipes {done} in {request.cache_dir}"
    console.made(told, files=files, recipes=recipes)
    if gone.refused:
        raise AsdError("\nerror: ".join(gone.refused))
    return 0


_COMMANDS = {
    "ls": Command("what the cache holds, a line a recipe", Cache, _ls),
    "verify": Command("read every table in full; exit code 1 on a fault", VerifyRequest, _verify),
    "gc": Command("remove what killed runs left, and recipes no longer wanted", CleanRequest, _gc),
}


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """List, verify or clean up; 0, 1 where `verify` found a fault, 2 for a mistake in the call."""
    about = "What the cache folder holds: list, verify, clean up."
    parser = parser_of("cache.run", about, "ls --cache-dir artifacts")
    return call_one(parser, _COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
