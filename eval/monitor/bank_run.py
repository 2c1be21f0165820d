"""Command lines that correct banks: add, remove, calibrate, log, undo, prune; others say what they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.base.arguments import Parser
from cache.base.console import parser_of, prog, read, typed
from cache.base.errors import guarded
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.places import place
from index.bank import locate
from index.versions import Versions

# Verb to what it does and to the arguments of a typical call.
_VERBS = {
    "add": (
        """Take recordings for normal: only they are embedded, their section is fitted and its threshold
learnt anew. Never happens by itself: a bank that followed what it hears would learn the fault.""",
        'pump.bank new/*.wav --because "new bearing"',
    ),
    "remove": (
        "Take training clips out of a bank; their section is fitted and its threshold learnt anew.",
        'pump.bank "monday/*" --because "was loose"',
    ),
    "calibrate": (
        "Learn the threshold alone anew, from normal recordings that are given or at another percentile.",
        'pump.bank december/ --because "winter"',
    ),
    "log": ("List what was done to a bank; * is what it is now, - was pruned.", "pump.bank"),
    "undo": (
        "Bring the version of a bank before this one back, byte by byte, or the one that is named.",
        "pump.bank",
    ),
    "prune": (
        "Remove all versions of a bank but the last ones; what was done stays in the log.",
        "pump.bank --keep 5",
    ),
}


@documented
@dataclass(frozen=True, kw_only=True)
class LogRequest(Options):
    """A bank."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)

    @property
    def versions(self) -> Versions:
        """All versions of the bank."""
        return Versions(locate(self.bank).root)


@documented
@dataclass(frozen=True, kw_only=True)
class UndoRequest(LogRequest):
    """A bank and the version of it to restore."""

    to: str | None = option(None, "its hash (default: the one before)", metavar="HASH")
    because: str = option("", "why, for the log", metavar="TEXT")


@documented
@dataclass(frozen=True, kw_only=True)
class PruneRequest(LogRequest):
    """A bank and the number of versions to keep."""

    keep: int = option(1, "versions that stay, the present one apart", least=0, metavar="N")


def _correct(verb: str, parser: Parser, argv: Sequence[str]) -> None:
    from eval.monitor import correct  # noqa: PLC0415 (models)

    kinds: dict[str, tuple[type[Any], Callable[[Any], correct.CorrectionResult]]] = {
        "add": (correct.Addition, correct.add),
        "remove": (correct.Removal, correct.remove),
        "calibrate": (correct.Recalibration, correct.calibrate),
    }
    kind, stage = kinds[verb]
    request, console = read(parser, kind, argv)
    done = stage(request)
    console.notes(done.notes)
    old, new = done.thresholds
    console.made(
        f"{done.section}: {verb} {done.clips} clips, threshold {old:.6g} -> {new:.6g}; {done.root} was "
        f"{done.before}, is {done.version} (`asd bank undo` brings it back)",
        section=done.section, clips=done.clips, threshold_before=old, threshold=new, bank=done.root,
        before=done.before, version=done.version,
    )  # fmt: skip


def _versions(verb: str, parser: Parser, argv: Sequence[str]) -> None:
    if verb == "undo":
        undo, console = read(parser, UndoRequest, argv)
        back = undo.versions.restore(undo.to, undo.because)
        console.made(f"{undo.versions.root} is {back.hash} again", version=back.hash)
        return
    if verb == "prune":
        prune, console = read(parser, PruneRequest, argv)
        gone = prune.versions.prune(prune.keep)
        console.made(f"{len(gone)} versions removed", removed=gone)
        return
    request, console = read(parser, LogRequest, argv)
    now, log = request.versions.current(), request.versions.log()
    for one in log:
        mark = "*" if one.hash == now else "-" if one.files is None else " "
        clips = one.facts.get("clips", ())
        count = f" {len(clips) if isinstance(clips, list) else clips} clips" if clips else ""
        line = f"{mark} {one.number:4d}  {one.time}  {one.hash}  {one.action}{count}"
        console.made(
            f"{line}: {one.because}" if one.because else line, **vars(one) | {"now": one.hash == now}
        )
    if now not in {one.hash for one in log} and not console.speech.json:
        console.made(f"*        {now}  as it was built")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Correct a bank, or say what banks hold."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else ""
    if verb not in _VERBS:
        from index.show import main as show  # noqa: PLC0415

        return show(arguments)
    with typed(f"{prog('eval.monitor.bank_run')} {verb}"):
        about, example = _VERBS[verb]
        parser = parser_of("eval.monitor.bank_run", about, example)
        work = _versions if verb in ("log", "undo", "prune") else _correct
        work(verb, parser, arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
