"""Command line of the weights: list, fetch, verify; none of it needs torch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from cache.base.arguments import Parser, add_arguments
from cache.base.console import Console, Speech, console_of, parser_of
from cache.base.errors import AsdError, guarded
from cache.files.atomic import file_sha256
from cache.files.places import here
from extractors.fetching.offline import Offline, apply_offline, home
from extractors.weights.published import AST_REVISION, CHECKPOINTS, find, named, path_of
from extractors.weights.store import expected_hash, fetch, is_intact, matching


def _parser() -> Parser:
    about = f"""Published checkpoints: what there is, bring it here, check it.
They lie in {home() / "weights"}; ASD_HOME chooses another place."""
    parser = parser_of("extractors.weights", about)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="what is known, and what of it is here")
    listing.set_defaults(call=_list)
    fetching = commands.add_parser("fetch", help="bring checkpoints here")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="of the list")
    add_arguments(fetching, Offline)
    fetching.set_defaults(offline=False)
    fetching.set_defaults(call=_fetch)
    verifying = commands.add_parser("verify", help="hold files against what is published")
    verifying.add_argument("files", nargs="+", type=here, metavar="FILE")
    verifying.set_defaults(call=_verify)
    for command in (listing, fetching, verifying):
        add_arguments(command, Speech)
    return parser


def _list(_: Namespace, console: Console) -> int:
    for checkpoint in CHECKPOINTS:
        variant = f":{checkpoint.variant}" if checkpoint.variant else ""
        state = "here" if path_of(checkpoint).is_file() else "not here"
        if not checkpoint.urls:
            state = "(in the hub's own cache)"
        lines = [
            f"{checkpoint.name}  --backbone {checkpoint.backbone}{variant}  {state}",
            f"    {checkpoint.about}; {checkpoint.paper}; {checkpoint.source}",
            f"    {expected_hash(checkpoint) or 'no hash is published'}",
            *(f"    {url}" for url in checkpoint.urls),
        ]
        console.made(
            "\n".join(lines), name=checkpoint.name, backbone=f"{checkpoint.backbone}{variant}",
            hash=expected_hash(checkpoint), licence=checkpoint.licence, urls=checkpoint.urls,
            here=path_of(checkpoint).is_file(),
        )  # fmt: skip
    folder = home() / "weights"
    told = f"{len(CHECKPOINTS)} checkpoints; what is fetched lies in {folder}"
    console.made(told, checkpoints=len(CHECKPOINTS), folder=folder)
    return 0


def _fetch(args: Namespace, console: Console) -> int:
    apply_offline(args)
    for checkpoint in [named(name) for name in args.names]:
        if checkpoint.model:
            # The hub's client, and torch behind it, are loaded only where they are needed.
            from extractors.backbone import Source  # noqa: PLC0415
            from extractors.weights.hub import locate  # noqa: PLC0415

            path = locate(checkpoint.backbone, Source(f"{checkpoint.model}@{AST_REVISION}")).path
        else:
            path = fetch(checkpoint)
            if is_intact(path, checkpoint) is False:
                raise AsdError(
                    f"{path} is not the published file ({expected_hash(checkpoint)}); delete it "
                    "and fetch it again"
                )
        console.made(f"{checkpoint.name} -> {path}", made=path, name=checkpoint.name)
    return 0


def _verify(args: Namespace, console: Console) -> int:
    code = 0
    for path in args.files:
        sha256, is_known = file_sha256(path), matching(path)
        expected = find(path.name)
        if is_known is None and expected is not None and is_intact(path, expected):
            is_known = expected
        if is_known is not None:
            told = f"{path}: is the published {is_known.name} ({is_known.licence})"
            console.made(told, file=path, sha256=sha256, name=is_known.name)
            continue
        code = 1
        told = f"; {expected_hash(expected)} is expected of {expected.name}" if expected else ""
        told = f"{path}: SHA-256 {sha256} is of no checkpoint known here{told}"
        console.made(told, file=path, sha256=sha256, name=None)
    return code


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """List, fetch or verify checkpoints.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where a file is not what is published; 2 for a mistake, or a file that cannot be had.
    """
    args = _parser().parse_args(argv)
    code: int = args.call(args, console_of(args))
    return code
