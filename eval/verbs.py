"""Commands of `asd` that stand before and after the chain: demo, list, choose, open, export."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cache.base.console import Console, entry_point
from cache.base.errors import AsdError, Main, listing
from cache.base.options import Options, documented, option
from cache.base.text import counted
from cache.files.places import here
from eval.request import ChoiceRequest, ExportRequest

_DEMO = """Synthesise recordings of machines, normal and broken, and tell them apart: data, embeddings, a
bank and results with a report. Every step is shown as the command that does it."""
_LIST = """List backbones, poolings and scorers, ours and those of other installed packages, and see whether
each can be loaded. Exit code 1 if one cannot: the others work without it."""
_CHOOSE = """Rank embeddings and scorers by how they tell pseudo-outliers from normal clips left out.
A weak hint: on two real machines its rank correlation with the truth was .40 and .65
(benchmarks/choose.md)."""
_OPEN = "Open the page of a results folder in the browser; where there is no browser, say where the page is."
_EXPORT = """Write a bank as a folder whose score.py prints a score and a decision a clip, on a machine with
NumPy alone, and onnxruntime where a network listens; nothing of this project need be installed there."""
_PAGE = "report.html"


@documented
@dataclass(frozen=True, kw_only=True)
class DemoRequest(Options):
    """Where the demonstration goes."""

    to: Path = option(Path("demo"), "a folder for all of it", read=here, metavar="DIR")

    def steps(self) -> Iterator[tuple[str, list[str]]]:
        """Name the modules of the chain and their arguments."""
        from extractors.request import ExtractRequest  # noqa: PLC0415 (models' names)

        data = [str(self.to / "data" / part) for part in ("dev_data", "eval_data")]
        cache = ["--cache-dir", str(self.to / "artifacts")]
        yield "extractors.demo.run", ["--to", str(self.to / "data")]
        yield "extractors.run", ["--data", *data, *cache]
        backbone = ["--backbone", *ExtractRequest().backbone]
        yield "index.run", [*backbone, *cache]
        truth = ["--ground-truth", str(self.to / "data" / "ground_truth")]
        out = ["--out", str(self.to / "results"), "--audio", *data]
        yield "eval.run", [*backbone, *cache, *truth, *out]


@entry_point(DemoRequest, "eval.verbs demo", _DEMO, "--to demo")
def demo(request: DemoRequest, console: Console) -> int:
    """Run the chain on made-up machines; the exit code is that of the step that failed."""
    speech = console.speech
    spoken = ["--quiet"] * speech.quiet + ["--json"] * speech.json
    for module, arguments in request.steps():
        if not speech.quiet:
            sys.stderr.write(f"$ {shlex.join(['python', '-m', module, *arguments])}\n")
        call: Main = import_module(module).main
        if code := call([*arguments, *spoken]):
            return code
    return 0


@entry_point(Options, "eval.verbs list", _LIST)
def list_names(_: Options, console: Console) -> int:
    """List what may be chosen by name, and the package that each comes from."""
    from extractors import backbones, pooling  # noqa: PLC0415
    from index import scorer  # noqa: PLC0415

    faults = []
    kinds: dict[str, tuple[Sequence[str], Callable[[str], object]]] = {
        "backbone": (backbones.names(), backbones.find),
        "pooling": (pooling.names(), lambda name: pooling.find(name, {})),
        "scorer": (scorer.names(), scorer.find),
    }
    for kind, (names, find) in kinds.items():
        for name in names:
            origin = getattr(name, "origin", "") or "machine-asd"
            try:
                find(name)
                told = ""
            except (AsdError, ImportError) as error:
                faults.append(str(error))
                told = "  cannot be loaded"
            console.made(f"{kind:8}  {name:16}  {origin}{told}", name=name, kind=kind, origin=origin,
                         loads=not told)  # fmt: skip
    console.some("fault", faults)
    return 1 if faults else 0


@entry_point(ChoiceRequest, "eval.verbs choose", _CHOOSE, "--scorer fusion ldn --group folder")
def choose(request: ChoiceRequest, console: Console) -> int:
    """Rank candidates."""
    from eval import choice  # noqa: PLC0415

    with console.progress("candidate") as told:
        made = choice.choose(request, told)
    for line in [] if console.speech.json else made.table():
        console.made(line)
    level = [{"recipe": one.recipe.fingerprint, "scorer": one.scorer} for one in made.level]
    console.made(made.verdict, level=level)
    return 0


@documented
@dataclass(frozen=True, kw_only=True)
class OpenRequest(Options):
    """Whose page is opened."""

    results: Path = option(Path("results"), "what --out named, or the page itself", flag="RESULTS", read=here)

    def page(self) -> Path:
        """Find the page of a results folder.

        Raises
        ------
        AsdError
            If there is none, or one for each of several runs.
        """
        folder = self.results
        if folder.is_file():
            return folder
        if not folder.is_dir():
            raise AsdError(f"{folder} is no folder; name the one that --out named when it was scored")
        pages = [folder / _PAGE] if (folder / _PAGE).is_file() else sorted(folder.glob(f"*/{_PAGE}"))
        if not pages:
            raise AsdError(
                f"{folder} holds no {_PAGE}: score again without --no-report, or name another folder"
            )
        if len(pages) > 1:
            named = listing([page.parent for page in pages])
            raise AsdError(f"{folder} holds {len(pages)} pages; name one: {named}")
        return pages[0]


@entry_point(OpenRequest, "eval.verbs open", _OPEN, "results")
def open_page(request: OpenRequest, console: Console) -> int:
    """Open a page; no fault where no browser opens."""
    import webbrowser  # noqa: PLC0415

    page = request.page().resolve()
    opened = webbrowser.open(page.as_uri())
    said = f"{page} is open in the browser" if opened else f"no browser here; open {page} in one"
    console.made(said, page=page, opened=opened)
    return 0


@entry_point(ExportRequest, "eval.verbs export", _EXPORT, "results/bank edge")
def export(request: ExportRequest, console: Console) -> int:
    """Export a bank."""
    from eval.export.bank import export as write  # noqa: PLC0415

    done = write(request)
    told = f"{counted(len(done.sections), 'section')}, {listing(done.sections)}, of {', '.join(done.parts)}"
    console.made(f"{told} -> {done.folder}", made=done.folder, sections=done.sections, parts=done.parts)
    return 0
