"""Command lines that correct banks: add, remove, calibrate, log, undo, prune; others say what they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.base.console import parser_of, prog, read, typed
from cache.base.errors import guarded
from cache.base.options import REQUIRED, Options, documented, option
from cache.files.places import place
from index.bank import locate
from index.versions import Version, Versions

_ADD = """Take recordings for normal: only they are embedded, their section is fitted and its threshold learnt
anew. Never happens by itself: a bank that followed what it hears would learn the fault."""
_REMOVE = "Take training clips out of a bank; their section is fitted and its threshold learnt anew."
_CALIBRATE = "Learn the threshold alone anew, from normal recordings that are given or at another percentile."


@documented
@dataclass(frozen=True, kw_only=True)
class LogRequest(Options):
    """A bank."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)

    @property
    def versions(self) -> Versions:
        """What it was, and is."""
        return Versions(locate(self.bank).root)


@documented
@dataclass(frozen=True, kw_only=True)
class UndoRequest(LogRequest):
    """A bank, and which of its versions is brought back."""

    to: str | None = option(None, "its hash (default: the one before)", metavar="HASH")
    because: str = option("", "why, for the log", metavar="TEXT")


@documented
@dataclass(frozen=True, kw_only=True)
class PruneRequest(LogRequest):
    """A bank, and how many of its versions stay."""

    keep: int = option(1, "versions that stay, the present one apart", least=0, metavar="N")


def _line(one: Version, now: str) -> str:
    mark = "*" if one.hash == now else "-" if one.files is None else " "
    clips = one.facts.get("clips", ())
    count = f" {len(clips) if isinstance(clips, list) else clips} clips" if clips else ""
    why = f": {one.because}" if one.because else ""
    return f"{mark} {one.number:4d}  {one.time}  {one.hash}  {one.action}{count}{why}"


def _correct(verb: str, about: str, example: str, argv: Sequence[str]) -> int:
    from eval.monitor import correct  # noqa: PLC0415 (models)

    kinds: dict[str, tuple[type[Any], Callable[[Any], correct.CorrectionResult]]] = {
        "add": (correct.Addition, correct.add),
        "remove": (correct.Removal, correct.remove),
        "calibrate": (correct.Recalibration, correct.calibrate),
    }
    kind, stage = kinds[verb]
    request, console = read(parser_of("eval.monitor.bank_run", about, example), kind, argv)
    done = stage(request)
    console.notes(done.notes)
    old, new = done.thresholds
    console.made(
        f"{done.section}: {verb} {done.clips} clips, threshold {old:.6g} -> {new:.6g}; {done.root} was "
        f"{done.before}, is {done.version} (`asd bank undo` brings it back)",
        section=done.section, clips=done.clips, threshold_before=old, threshold=new, bank=done.root,
        before=done.before, version=done.version,
    )  # fmt: skip
    return 0


def _log(argv: Sequence[str]) -> int:
    about = "List what was done to a bank; * is what it is now, - was pruned."
    request, console = read(parser_of("eval.monitor.bank_run", about, "pump.bank"), LogRequest, argv)
    versions = request.versions
    now, log = versions.current(), versions.log()
    for one in log:
        console.made(_line(one, now), **vars(one) | {"now": one.hash == now})
    if now not in {one.hash for one in log} and not console.speech.json:
        console.made(f"*        {now}  as it was built")
    return 0


def _undo(argv: Sequence[str]) -> int:
    about = "Bring the version of a bank before this one back, byte by byte, or the one that is named."
    request, console = read(parser_of("eval.monitor.bank_run", about, "pump.bank"), UndoRequest, argv)
    back = request.versions.restore(request.to, request.because)
    console.made(f"{request.versions.root} is {back.hash} again", version=back.hash)
    return 0


def _prune(argv: Sequence[str]) -> int:
    about = "Remove all versions of a bank but the last ones; what was done stays in the log."
    example = "pump.bank --keep 5"
    request, console = read(parser_of("eval.monitor.bank_run", about, example), PruneRequest, argv)
    gone = request.versions.prune(request.keep)
    console.made(f"{len(gone)} versions removed", removed=gone)
    return 0


_VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "add": lambda argv: _correct("add", _ADD, 'pump.bank new/*.wav --because "new bearing"', argv),
    "remove": lambda argv: _correct("remove", _REMOVE, 'pump.bank "monday/*" --because "was loose"', argv),
    "calibrate": lambda argv: _correct(
        "calibrate", _CALIBRATE, 'pump.bank december/ --because "winter"', argv
    ),
    "log": _log,
    "undo": _undo,
    "prune": _prune,
}


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Correct a bank, or say what banks hold."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] and arguments[0] in _VERBS:
        with typed(f"{prog('eval.monitor.bank_run')} {arguments[0]}"):
            return _VERBS[arguments[0]](arguments[1:])
    from index.show import main as show  # noqa: PLC0415

    return show(arguments)


if __name__ == "__main__":
    sys.exit(main())
