"""Commands on banks: what they hold, corrections of them, and their earlier versions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cache.base.console import Console, entry_point, prog, typed
from cache.base.errors import AsdError, Main, guarded
from cache.base.text import counted
from eval.monitor.request import (
    Addition,
    LogRequest,
    PruneRequest,
    Recalibration,
    Removal,
    ShowRequest,
    UndoRequest,
)

if TYPE_CHECKING:
    from eval.monitor.correct import CorrectionResult
    from index.versions import Versions

_MODULE = "eval.monitor.bank_run"
_ADD = """Take recordings for normal: only they are embedded, their section is fitted and its threshold
learnt anew. Never happens by itself: a bank that followed what it hears would learn the fault."""
_REMOVE = "Take training clips out of a bank; their section is fitted and its threshold learnt anew."
_CALIBRATE = "Learn the threshold alone anew, from normal recordings that are given or at another percentile."
_LOG = "List what was done to a bank; * is what it is now, - was pruned."
_UNDO = "Bring the version of a bank before this one back, byte by byte, or the one that is named."
_PRUNE = "Remove all versions of a bank but the last ones; what was done stays in the log."
_SHOW = """Say what banks hold, a line a section, and read each in full. Exit code 1 if one is damaged.
`asd bank add`, `remove` and `calibrate` change one, `log`, `undo` and `prune` are about what it was."""


@entry_point(Addition, _MODULE, _ADD, 'pump.bank new/*.wav --because "new bearing"')
def add(request: Addition, console: Console) -> int:
    """Add normal recordings."""
    from eval.monitor import correct  # noqa: PLC0415 (models)

    return _tell("add", correct.add(request), console)


@entry_point(Removal, _MODULE, _REMOVE, 'pump.bank "monday/*" --because "was loose"')
def remove(request: Removal, console: Console) -> int:
    """Remove training clips."""
    from eval.monitor import correct  # noqa: PLC0415 (models)

    return _tell("remove", correct.remove(request), console)


@entry_point(Recalibration, _MODULE, _CALIBRATE, 'pump.bank december/ --because "winter"')
def calibrate(request: Recalibration, console: Console) -> int:
    """Learn the threshold anew."""
    from eval.monitor import correct  # noqa: PLC0415 (models)

    return _tell("calibrate", correct.calibrate(request), console)


def _tell(verb: str, done: CorrectionResult, console: Console) -> int:
    console.notes(done.notes)
    (old, new), clips = done.thresholds, counted(done.clips, "clip")
    console.made(
        f"{done.section}: {verb} {clips}, threshold {old:.6g} -> {new:.6g}; {done.root} was "
        f"{done.before}, is {done.version} (`asd bank undo` brings it back)",
        section=done.section, clips=done.clips, threshold_before=old, threshold=new, bank=done.root,
        before=done.before, version=done.version,
    )  # fmt: skip
    return 0


def _versions(request: LogRequest) -> Versions:
    from index.bank import locate  # noqa: PLC0415
    from index.versions import Versions  # noqa: PLC0415

    return Versions(locate(request.bank).root)


@entry_point(LogRequest, _MODULE, _LOG, "pump.bank")
def log(request: LogRequest, console: Console) -> int:
    """List the versions of a bank."""
    versions = _versions(request)
    now, done = versions.current(), versions.log()
    for one in done:
        mark = "*" if one.hash == now else "-" if one.files is None else " "
        # What `undo` brings back keeps its facts, which tell of the correction that made it.
        clips = one.facts.get("clips", ()) if one.action != "undo" else ()
        count = f" {counted(len(clips) if isinstance(clips, list) else clips, 'clip')}" if clips else ""
        line = f"{mark} {one.number:4d}  {one.time}  {one.hash}  {one.action}{count}"
        console.made(
            f"{line}: {one.because}" if one.because else line, **vars(one) | {"now": one.hash == now}
        )
    if now not in {one.hash for one in done} and not console.speech.json:
        console.made(f"*        {now}  as it was built")
    return 0


@entry_point(UndoRequest, _MODULE, _UNDO, "pump.bank")
def undo(request: UndoRequest, console: Console) -> int:
    """Restore a version of a bank."""
    versions = _versions(request)
    back = versions.restore(request.to, request.because)
    console.made(f"{versions.root} is {back.hash} again", version=back.hash)
    return 0


@entry_point(PruneRequest, _MODULE, _PRUNE, "pump.bank --keep 5")
def prune(request: PruneRequest, console: Console) -> int:
    """Remove old versions of a bank."""
    gone = _versions(request).prune(request.keep)
    console.made(f"{counted(len(gone), 'version')} removed", removed=gone)
    return 0


@entry_point(ShowRequest, _MODULE, _SHOW, "artifacts/banks/0123456789abcdef/fusion-01234567")
def show(request: ShowRequest, console: Console) -> int:
    """Show banks; exit code 1 where a section cannot be read."""
    from index.bank import locate  # noqa: PLC0415

    faults = []
    for root in request.banks:
        bank = locate(root)
        recipe = bank.recipe()
        console.made(f"{root}: {recipe}", bank=root, recipe=recipe, fingerprint=recipe.fingerprint)
        for section in bank.sections():
            try:
                fitted = bank.read(section, recipe)
            except AsdError as error:
                faults.append(str(error))
                continue
            clips = ", ".join(f"{count} {domain}" for domain, count in sorted(fitted.clips.items()))
            limit = fitted.threshold
            console.made(
                f"  {section}  {fitted.scorer_name}  {clips} clips  threshold {limit.value:.6g} "
                f"({limit.method}, {limit.percentile:g} %)",
                section=section, scorer=fitted.scorer_name, clips=dict(fitted.clips),
                threshold=limit.value, method=limit.method, percentile=limit.percentile,
            )  # fmt: skip
            console.notes([f"{section}: {text}" for text in fitted.cautions().values()])
    console.some("fault", faults)
    return 1 if faults else 0


_VERBS: dict[str, Main] = {
    "add": add, "remove": remove, "calibrate": calibrate, "log": log, "undo": undo, "prune": prune,
}  # fmt: skip


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Correct a bank, or say what banks hold."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else ""
    if verb not in _VERBS:
        return show(arguments)
    with typed(f"{prog(_MODULE)} {verb}"):
        return _VERBS[verb](arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
