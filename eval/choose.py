"""Command line of the choice: tables in, embeddings and scorers ranked from normal clips alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cache.base.console import parser_of, read
from cache.base.errors import guarded
from eval.choice import Candidate, Choice, ChoiceRequest, choose
from eval.results.grid import align_rows, percent

_ABOUT = (
    "Rank embeddings and scorers by how they tell pseudo-outliers from normal clips left out.\n"
    "A weak hint: on two real machines its rank correlation with the truth was .40 and .65\n"
    "(benchmarks/choose.md)."
)


def _row(one: Candidate, kinds: Sequence[str]) -> list[str]:
    if one.veto:
        return [str(one.recipe), one.scorer, *["-"] * (len(kinds) + 1), f"vetoed: {one.veto}"]
    each = [percent(float(sum(v) / len(v))) for v in one.known.values()]
    return [str(one.recipe), one.scorer, *each, percent(one.area), "behind" if one.behind else ""]


def _verdict(choice: Choice) -> str:
    level = choice.level
    if not level:
        return "every candidate is vetoed: none can be recommended"
    if len(level) == 1:
        return f"choose {level[0].scorer} on {level[0].recipe}"
    return (
        f"no difference shown between the best {len(level)}: keep the default where it is among "
        "them, else the one that is cheapest to extract"
    )


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Rank candidates.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or 2 for a mistake in the call.
    """
    parser = parser_of("eval.choose", _ABOUT, "--scorer fusion ldn --group folder")
    request, console = read(parser, ChoiceRequest, argv)
    with console.progress("candidate") as told:
        choice = choose(request, told)
    head = ["embeddings", "scorer", *choice.kinds, "pseudo-AUC, %", ""]
    rows = [_row(one, choice.kinds) for one in choice.candidates]
    if not console.speech.json:
        for line in align_rows([head, *rows], 2):
            console.made(line)
    level = [{"recipe": one.recipe.fingerprint, "scorer": one.scorer} for one in choice.level]
    console.made(_verdict(choice), level=level)
    return 0


if __name__ == "__main__":
    sys.exit(main())
