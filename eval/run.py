"""Command line of the evaluation: scores in, or a bank and test clips; result tables out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from cache.base.console import Console, parser_of, read
from cache.base.errors import guarded
from cache.base.text import command_line, counted
from eval.evaluate import EvaluateRequest, EvaluateResult, evaluate
from eval.page.ranking_tables import format_ranking
from eval.results.tables import format_table
from extractors.fetching.offline import apply_offline

_ABOUT = """Score test clips with a bank, take submission folders of any system, or run a whole experiment;
compute the task's official figures where the truth is known."""
_EXAMPLES = """--backbone logmel --ground-truth ground_truth --out results
--submission ours theirs --ground-truth ground_truth --out results
logmel --data dev_data eval_data --ground-truth ground_truth --out results"""
_MACHINES = 12  # of which a verdict is told; the page has them all


def _show(done: EvaluateResult, wanted: EvaluateRequest, console: Console) -> None:
    out, runs = wanted.out, len(done.results)
    if done.ranking is not None:
        systems, refused = len(done.ranking.entries), len(done.refused)
        console.made(
            f"{format_ranking(done.ranking)}\n\n{counted(systems, 'system')}, {counted(runs, 'run')} "
            f"evaluated, {counted(refused, 'system')} refused: ranking.{{csv,json,md}} and a folder a run "
            f"in {out}",
            made=out, systems=systems, runs=runs, refused=refused,
        )  # fmt: skip
        return
    for one in done.verdicts[:_MACHINES]:
        console.made(one.text, **{key: value for key, value in vars(one).items() if key != "name"})
    if len(done.verdicts) > _MACHINES:
        console.made(f"and {len(done.verdicts) - _MACHINES} machines more: see the page")
    lost = f", {counted(len(done.left_out), 'clip')} left out" * bool(done.left_out)
    for result in done.results:
        judged, sections = bool(result.sections), len(result.sections) + len(result.unknown)
        made = ["report.html"] * wanted.report + ["results.{csv,json,md}"] * judged + ["submission"]
        table, how = (f"{format_table(result)}\n\n", "") if judged else ("", " without ground truth")
        console.made(
            f"{table}{counted(sections, 'section')} scored{lost}{how}: {', '.join(made)} in {out}",
            made=out, sections=sections, left_out=len(done.left_out), official_score=result.summary.official,
        )  # fmt: skip
    if wanted.report and done.results and not console.speech.json:
        console.made(f"look and listen: asd open {shlex.quote(str(out))}")


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
    wanted, console = read(parser_of("eval.run", _ABOUT, _EXAMPLES), EvaluateRequest, arguments)
    wanted = replace(wanted, command=command_line("python -m eval.run", arguments))
    apply_offline(wanted)
    with console.progress("section") as told:
        if wanted.experiment:
            from eval.experiment import run_experiment  # noqa: PLC0415 (all stages come with it)

            done = run_experiment(wanted, told)
        else:
            done = evaluate(wanted, told)
    console.notes(done.notes)
    for kind in ("left_out", "silent", "refused"):
        name = {"silent": "not played"}.get(kind, kind.replace("_", " "))
        console.some(name, getattr(done, kind))
    _show(done, wanted, console)
    incomplete = done.left_out or done.refused or done.outdated
    return 2 if not done.results else 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
