"""Command line of the demonstration: made-up machines, from recordings to a report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from cache.base.console import console_of, parser_of
from cache.base.errors import Main, guarded
from cache.files.places import here
from extractors.request import ExtractRequest

_ABOUT = """Synthesise recordings of machines, normal and broken, and tell them apart: data, embeddings, a
bank and results with a report. Every step is shown as the command that does it."""


def _steps(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Name the modules of the chain and their arguments."""
    data = [str(folder / "data" / part) for part in ("dev_data", "eval_data")]
    cache = ["--cache-dir", str(folder / "artifacts")]
    yield "extractors.demo.run", ["--to", str(folder / "data")]
    yield "extractors.run", ["--data", *data, *cache]
    backbone = ["--backbone", *ExtractRequest().backbone]
    yield "index.run", [*backbone, *cache]
    truth = ["--ground-truth", str(folder / "data" / "ground_truth")]
    out = ["--out", str(folder / "results"), "--audio", *data]
    yield "eval.run", [*backbone, *cache, *truth, *out]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, or the exit code of the step that failed.
    """
    parser = parser_of("eval.demo", _ABOUT, "--to demo")
    parser.add_argument("--to", type=here, default=Path("demo"), metavar="DIR", help="(default: ./demo)")
    args = parser.parse_args(argv)
    speech = console_of(args).speech
    spoken = ["--quiet"] * speech.quiet + ["--json"] * speech.json
    for module, arguments in _steps(args.to):
        if not speech.quiet:
            sys.stderr.write(f"$ {shlex.join(['python', '-m', module, *arguments])}\n")
        call: Main = import_module(module).main
        if code := call([*arguments, *spoken]):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
