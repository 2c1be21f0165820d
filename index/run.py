"""Command line of the index: embedding tables in, a bank of fitted sections out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from cache.base.arguments import add_arguments, from_arguments, option_value
from cache.base.console import console_of, parser_of
from cache.base.errors import AsdError, guarded
from cache.base.options import option_names
from cache.base.text import counted
from index.request import BuildRequest
from index.scorer import DEFAULT, find, names

_ABOUT = "Fit one scorer a section to the training clips and save them as a bank."


def _refuse(unknown: str, scorer: str) -> None:
    """Say whose option it is that this scorer does not have."""
    option = unknown.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
    owners = []
    for other in names():
        with suppress(AsdError):  # another package's scorer that is broken
            owners += [other] if option in option_names(find(other)) else []
    if owners:
        raise AsdError(
            f"{unknown} means nothing to {scorer}: it is an option of {', '.join(owners)}; {scorer} "
            f"has {', '.join(option_names(find(scorer)))}"
        )


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Build a bank.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else argv
    scorer = option_value("--scorer", arguments, DEFAULT).partition(":")[0]
    parser = parser_of("index.run", _ABOUT, "--backbone logmel --scorer min-distance")
    add_arguments(parser, BuildRequest)
    add_arguments(parser.add_argument_group(f"options of {scorer}"), find(scorer))
    for unknown in parser.parse_known_args(arguments)[1][:1]:
        _refuse(unknown, scorer)
    args = parser.parse_args(arguments)
    own = {name: getattr(args, name) for name in option_names(find(scorer)) if hasattr(args, name)}
    request = replace(from_arguments(BuildRequest, args), scorer_options=own)
    console = console_of(args)
    from index.build import build  # noqa: PLC0415 (a help page needs no Arrow)

    with console.progress("section") as told:
        built = build(request, told)
    for texts in built.notes:
        console.notes(texts)
    count = len(built.sections)
    console.made(
        f"{counted(count, 'section')} fitted with {scorer} -> {built.root} ({built.recipe})",
        made=built.root, recipe=built.recipe, scorer=scorer, sections=count, kept=built.kept,
    )  # fmt: skip
    if built.kept and not console.speech.json:
        console.made(f"{built.kept} of them were there already, of the same clips (--rebuild fits anew)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
