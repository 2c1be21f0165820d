"""Command line of the evaluation: scores in, or a bank and test clips; result tables out."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from cache.base.console import Console, entry_point
from cache.base.text import command_line, counted
from eval.request import EvaluateRequest
from extractors.fetching.offline import apply_offline

if TYPE_CHECKING:
    from eval.evaluate import EvaluateResult

_ABOUT = """Score test clips with a bank, take submission folders of any system, or run a whole experiment;
compute the task's official figures where the truth is known."""
_EXAMPLES = """--backbone logmel --ground-truth ground_truth --out results
--submission ours theirs --ground-truth ground_truth --out results
logmel --data dev_data eval_data --ground-truth ground_truth --out results"""
_MACHINES = 12  # of which a verdict is told; the page has them all


def _show(done: EvaluateResult, wanted: EvaluateRequest, console: Console) -> None:
    out, runs = wanted.out, len(done.results)
    from eval.ranking.tables import format_ranking  # noqa: PLC0415
    from eval.results.tables import format_table  # noqa: PLC0415

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
            f"{table}{counted(sections, 'section')} scored{how}{lost}: {', '.join(made)} in {out}",
            made=out, sections=sections, left_out=len(done.left_out), official_score=result.summary.official,
        )  # fmt: skip
    if wanted.report and done.results and not console.speech.json:
        console.made(f"look and listen: asd open {shlex.quote(str(out))}")


@entry_point(EvaluateRequest, "eval.run", _ABOUT, _EXAMPLES)
def main(wanted: EvaluateRequest, console: Console) -> int:
    """Score test clips, judge, report; 1 where clips were left out, submissions refused or clips outdated."""
    apply_offline(wanted)
    wanted = replace(wanted, command=command_line("python -m eval.run", console.arguments))
    if wanted.experiment:
        from eval.experiments.chain import run_experiment as stage  # noqa: PLC0415 (all stages come with it)
    else:
        from eval.evaluate import evaluate as stage  # noqa: PLC0415
    with console.progress("section") as told:
        done = stage(wanted, told)
    console.notes(done.notes)
    for kind, name in {"left_out": "left out", "silent": "not played", "refused": "refused"}.items():
        console.some(name, getattr(done, kind))
    _show(done, wanted, console)
    return 2 if not done.results else 1 if done.left_out or done.refused or done.outdated else 0


if __name__ == "__main__":
    sys.exit(main())
