"""Command line of the weights: list, fetch, verify; none of it needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.base.console import Command, Console, call_one, parser_of
from cache.base.errors import AsdError, guarded
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.atomic import file_sha256
from cache.files.places import here
from extractors.fetching.offline import apply_offline, home, offline_option
from extractors.weights.published import AST_REVISION, CHECKPOINTS, find, named, path_of
from extractors.weights.store import expected_hash, fetch, is_intact, matching


@documented
@dataclass(frozen=True)
class BringRequest(Options):
    """Checkpoints to bring here."""

    names: tuple[str, ...] = option(REQUIRED, "of the list", flag="NAME")
    offline: bool = offline_option()


@documented
@dataclass(frozen=True)
class ProofRequest(Options):
    """Files to compare with what is published."""

    files: tuple[Path, ...] = option(REQUIRED, "weights files", read=here, flag="FILE")


def _list(_: Options, console: Console) -> int:
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


def _fetch(request: BringRequest, console: Console) -> int:
    apply_offline(request)
    for checkpoint in [named(name) for name in request.names]:
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


def _verify(request: ProofRequest, console: Console) -> int:
    code = 0
    for path in request.files:
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


_COMMANDS = {
    "list": Command("what is known, and what of it is here", Options, _list),
    "fetch": Command("bring checkpoints here", BringRequest, _fetch),
    "verify": Command("compare files with what is published", ProofRequest, _verify),
}


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """List, fetch or verify checkpoints; 0, 1 where a file is not what is published, 2 for a mistake."""
    about = f"""Published checkpoints: what there is, bring it here, check it.
They lie in {home() / "weights"}; ASD_HOME chooses another place."""
    return call_one(parser_of("extractors.weights", about), _COMMANDS, argv)
