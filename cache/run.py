"""Command line of the store: list, verify, clean up."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from cache.base.arguments import Parser, add_arguments
from cache.base.console import Console, Speech, console_of, parser_of
from cache.base.errors import AsdError, guarded
from cache.files import places
from cache.files.atomic import leftovers
from cache.recipe import Recipe
from cache.select import DEFAULT_CACHE_DIR, Cache
from cache.store import DAMAGED, Store, StoredTable


def _parser() -> Parser:
    about = "What the cache folder holds: list, verify, clean up."
    parser = parser_of("cache.run", about, "ls --cache-dir artifacts")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ls = commands.add_parser("ls", help="what the cache holds, a line a recipe")
    verify = commands.add_parser("verify", help="read every table in full; exit code 1 on a fault")
    verify.add_argument("--repair", action="store_true",
        help=f"move faulty tables to {DAMAGED}/ in the cache folder, so that the next extraction "
        "makes them anew")  # fmt: skip
    gc = commands.add_parser("gc", help="remove what killed runs left, and recipes no longer wanted")
    for command, action in ((ls, _ls), (verify, _verify), (gc, _gc)):
        command.set_defaults(action=action)
        add_arguments(command, Speech)
    for command in (ls, verify, gc):
        add_arguments(command, Cache)
        command.set_defaults(cache_dir=DEFAULT_CACHE_DIR)
    gc.add_argument("--recipe", nargs="+", default=[], metavar="FINGERPRINT", help="remove these")
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    return parser


def _ls(args: Namespace, console: Console) -> int:
    store = Store(args.cache_dir)
    for recipe in store.recipes():
        paths = [s.path for s in store.tables(recipe) if s.fingerprint == recipe.fingerprint]
        size = sum(path.stat().st_size for path in paths) / 2**20
        rows = sum(len(store.keys(recipe, s.section, s.split)) for s in store.tables(recipe))
        console.made(
            f"{recipe.fingerprint}  {recipe}  {len(paths)} tables, {rows} clips, {size:.1f} MiB",
            fingerprint=recipe.fingerprint, recipe=recipe, tables=len(paths), clips=rows, mib=size,
        )  # fmt: skip
    if not store.recipes():
        console.made(f"no tables in {store.root}", tables=0, root=store.root)
    return 0


def _verify(args: Namespace, console: Console) -> int:
    store = Store(args.cache_dir)
    checked = list(store.verify())
    faulty = [(stored, fault) for stored, fault in checked if fault is not None]
    for stored, fault in faulty:
        console.made(f"fault: {fault}", fault=fault)
        if args.repair:
            _set_aside(store, stored, console)
    console.made(
        f"{len(checked)} tables read in full, {len(faulty)} faulty, in {args.cache_dir}",
        read=len(checked), faulty=len(faulty),
    )  # fmt: skip
    if args.repair and faulty:
        console.made("run the same extraction again: it makes what was moved", remedy="extract")
    return 1 if faulty else 0


def _set_aside(store: Store, stored: StoredTable, console: Console) -> None:
    try:
        target = store.set_aside(stored)
    except AsdError as error:
        console.made(f"not moved: {error}", not_moved=error)
    else:
        told = f"moved {stored.path} to {target}" if target else f"{stored.path} is whole by now"
        console.made(told, moved=stored.path, to=target)


def _gc(args: Namespace, console: Console) -> int:
    store = Store(args.cache_dir)
    unwanted = [_recipe(store, fingerprint) for fingerprint in args.recipe]
    files = leftovers(args.cache_dir)
    say, refused = "would remove" if args.dry_run else "removing", []
    for file in files:
        console.made(f"{say} {file}", removed=file, only_said=args.dry_run)
        if not args.dry_run:
            places.remove(file)
    for recipe in unwanted:
        folder = store.root / recipe.fingerprint
        console.made(f"{say} {folder}", removed=folder, only_said=args.dry_run)
        try:
            if not args.dry_run:
                store.remove(recipe)
        except AsdError as error:
            refused.append(str(error))
    done = "to remove" if args.dry_run else "removed"
    gone = len(unwanted) - len(refused)
    console.made(
        f"{len(files)} leftover files and {gone} recipes {done} in {store.root}",
        files=len(files), recipes=gone,
    )  # fmt: skip
    if refused:
        raise AsdError("\nerror: ".join(refused))
    return 0


def _recipe(store: Store, fingerprint: str) -> Recipe:
    found = [r for r in store.recipes() if r.fingerprint == fingerprint]
    if not found:
        raise AsdError(f"no recipe {fingerprint!r} in {store.root}; `cache.run ls` lists them whole")
    return found[0]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the store.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or 1 where `verify` found a fault, or 2 for a mistake in the call.
    """
    args = _parser().parse_args(argv)
    result: int = args.action(args, console_of(args))
    return result


if __name__ == "__main__":
    sys.exit(main())
