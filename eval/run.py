"""Command line of the evaluation: scores in, or a bank and test clips; result tables out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tqdm import tqdm

from cache.errors import guarded, tell_some
from cache.text import command_line
from eval.evaluate import Evaluated, evaluate
from eval.experiment import run_experiment
from eval.experiment_file import parse, read_text
from eval.ranking_tables import format_ranking
from eval.request import evaluation_of, parser
from eval.tables import SystemResult, format_table
from extractors.offline import apply_offline


def _show(done: Evaluated, out: str, page: bool) -> int:
    """Say what was done; the exit code."""
    tell_some("left out", done.left_out)
    tell_some("note", done.notes)
    tell_some("not played", done.silent)
    for fault in done.refused:
        sys.stderr.write(f"refused: {fault}\n")
    if done.ranking is not None:
        entries = done.ranking.entries
        print(format_ranking(done.ranking))
        counts = f"{len(entries)} systems, {len(done.results)} runs evaluated"
        print(
            f"\n{counts}, {len(done.refused)} systems refused: ranking.{{csv,json,md}} and a "
            f"folder a run in {out}"
        )
    elif done.results:
        _show_one(done.results[0], done, out, page)
    else:
        return 2
    return 1 if done.left_out or done.refused else 0


def _show_one(result: SystemResult, done: Evaluated, out: str, page: bool) -> None:
    scored = f"{len(result.sections) + len(result.unknown)} sections scored"
    if done.left_out:
        scored += f", {len(done.left_out)} clips left out"
    made = ["report.html"] if page else []
    if result.sections:
        print(format_table(result) + "\n")
        made.append("results.{csv,json,md}")
    else:
        scored += " without ground truth"
    print(f"{scored}: {', '.join([*made, 'submission'])} in {out}")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Score test clips and evaluate the scores where their truth is known.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out or submissions refused; 2 for a mistake in the call.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = parser().parse_args(arguments)
    apply_offline(args)
    wanted = evaluation_of(args, command_line("python -m eval.run", arguments))
    with tqdm(total=0, unit="section", disable=None) as drawn:

        def told(done: int, total: int) -> None:
            drawn.total = total
            drawn.update(done - drawn.n)

        if args.experiment is None:
            done = evaluate(wanted, told)
        else:
            text = read_text(args.experiment)
            experiment = parse(text, args.experiment, args.set)
            done = run_experiment(experiment, text, wanted, told)
    return _show(done, str(args.out), args.report)


if __name__ == "__main__":
    sys.exit(main())
