"""Command line of the task's baselines: data roots in, submissions and a table over seeds out."""

from __future__ import annotations

import sys
from dataclasses import replace

from cache.base.console import Console, entry_point
from cache.base.text import command_line
from eval.baselines.request import BaselineRequest

_ABOUT = "Train the task's autoencoder once a machine and seed, score its test clips."
_EXAMPLE = """--mode mahalanobis --data dev_data eval_data --ground-truth ground_truth --out mahalanobis
--mode paper --data dev_data --out paper"""


@entry_point(BaselineRequest, "eval.baselines.run", _ABOUT, _EXAMPLE)
def main(request: BaselineRequest, console: Console) -> int:
    """Run the task's baselines; exit code 1 where clips were left out or a loss did not fall."""
    from eval.baselines.evaluate import evaluate  # noqa: PLC0415 (torch)
    from eval.baselines.published import format_comparison  # noqa: PLC0415
    from eval.ranking.tables import format_ranking  # noqa: PLC0415

    request = replace(request, command=command_line("python -m eval.baselines.run", console.arguments))
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
