"""Command line that says what a bank holds: sections, clips, thresholds, what to beware of."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cache.base.console import console_of, parser_of
from cache.base.errors import AsdError, guarded
from cache.files.places import place
from index.bank import locate

_ABOUT = """Say what banks hold, a line a section, and read each in full. Exit code 1 if one is damaged.
`asd bank add`, `remove` and `calibrate` change one, `log`, `undo` and `prune` are about what it was."""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Show banks.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where a section cannot be read; 2 for a mistake in the call.
    """
    parser = parser_of("index.show", _ABOUT, "artifacts/banks/0123456789abcdef/fusion-01234567")
    parser.add_argument("banks", nargs="+", type=place, metavar="BANK", help="a bank's folder")
    args = parser.parse_args(argv)
    console, faults = console_of(args), []
    for root in args.banks:
        bank = locate(root)
        recipe = bank.recipe()
        console.made(f"{root}: {recipe}", bank=root, recipe=recipe, fingerprint=recipe.fingerprint)
        for section in bank.sections():
            try:
                fitted = bank.read(section, recipe)
            except AsdError as error:
                faults.append(str(error))
                continue
            clips = ", ".join(f"{count} {domain}" for domain, count in sorted(fitted.clips.items()))
            limit = fitted.threshold
            console.made(
                f"  {section}  {fitted.scorer_name}  {clips} clips  threshold {limit.value:.6g} "
                f"({limit.method}, {limit.percentile:g} %)",
                section=section, scorer=fitted.scorer_name, clips=dict(fitted.clips),
                threshold=limit.value, method=limit.method, percentile=limit.percentile,
            )  # fmt: skip
            console.notes([f"{section}: {text}" for text in fitted.cautions().values()])
    console.some("fault", faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
