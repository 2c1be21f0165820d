"""Command line of the task's baselines: data roots in, submissions and a table over seeds out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from cache.base.console import parser_of, read
from cache.base.errors import guarded
from cache.base.text import command_line
from eval.baselines.request import BaselineRequest
from eval.page.ranking_tables import format_ranking

_ABOUT = "Train the task's autoencoder once a machine and seed, score its test clips."
_EXAMPLE = """--mode mahalanobis --data dev_data eval_data --ground-truth ground_truth --out mahalanobis
--mode paper --data dev_data --out paper"""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the task's baselines.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out or a loss did not fall; 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    request, console = read(parser_of("eval.baselines.run", _ABOUT, _EXAMPLE), BaselineRequest, arguments)
    request = replace(request, command=command_line("python -m eval.baselines.run", arguments))
    # Torch comes with them.
    from eval.baselines.evaluate import evaluate  # noqa: PLC0415
    from eval.baselines.published import format_comparison  # noqa: PLC0415

    with console.progress("epoch") as told:
        done = evaluate(request, told)
    for ranking in done.rankings:
        found = ranking.entries[0].system
        console.made(f"{format_ranking(ranking)}\n", system=found.name, official=found.official)
    for mode, rows in done.comparisons.items():
        console.made(f"{format_comparison(mode, rows)}\n", table=mode)
    if len(done.reported) == 1:
        for verdict in done.reported[0].verdicts:
            console.made(
                verdict.text, **{key: value for key, value in vars(verdict).items() if key != "name"}
            )
    runs = len(done.reported)
    console.made(
        f"{runs} runs of {len(request.seeds)} seeds: submissions and results in {request.out}",
        made=request.out, runs=runs, left_out=len(done.left_out),
    )  # fmt: skip
    console.notes(done.notes)
    console.some("left out", done.left_out)
    console.some("not played", done.silent)
    console.some("warning", done.warnings)
    return 1 if done.left_out or done.warnings else 0


if __name__ == "__main__":
    sys.exit(main())
