"""Commands of every day: judge recordings by a bank, watch where they arrive, serve banks, read histories."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from cache.base.arguments import values_by_place
from cache.base.console import Console, Speech, entry_point, typed
from cache.base.errors import guarded, needed
from cache.base.text import counted
from cache.files.atomic import write_atomic
from cache.files.places import place
from eval.monitor.request import CheckRequest, DriftRequest, HistoryRequest, ServeRequest, WatchOptions

if TYPE_CHECKING:
    from eval.monitor.history import Judgement

_CHECK = """Judge recordings by a bank: a line each, with what is different from the nearest normal one.
Exit code 1 where something is abnormal, else 2 where something was not judged, else 0.
A data root alone, `asd check ROOT`, is surveyed instead: what it holds, and what is wrong with it."""
_CHECKS = "results/bank today.wav\npump.bank new/ --json"
_WATCH = """Judge recordings as they arrive, each once, write down what was found, and tell alarms.
It may be stopped or killed at any time: the next one goes on where it was.
With --once, exit code 1 where an alarm was raised, else 2 where something was not judged, else 0."""
_WATCHES = "pump.bank /srv/recordings --false-alarms 1/month --clip-interval 600 --alarms alarms.jsonl\n\
pump.bank - --rate 16000 --webhook https://example.org/alarm"
_SERVE = """Judge recordings over HTTP: POST /score (a file as form data, or raw samples with ?rate=), GET
/banks, /health, /metrics, and /docs, which explains them. A token comes from ASD_SERVE_TOKEN."""
_HISTORY = "Print what a watch has judged, in that order; with filters, what fits all of them."
_HISTORIES = "watch --events\nwatch --abnormal --since 2026-11-01 --table november.csv"
_DRIFT = """Say whether the scores of unflagged clips have moved since the bank was built, since when,
and what is different; of several, given as BANK HISTORY BANK HISTORY ..., whose drift is alone.
Changes nothing. Exit code 1 where one has moved, 2 where there are too few clips to tell, else 0."""


@guarded
def check_main(argv: Sequence[str] | None = None) -> int:
    """Judge recordings by a bank, or survey a data root; the exit code says what was found."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and not {"-h", "--help"} & set(arguments):
        from eval.monitor.check import names_bank  # noqa: PLC0415
        from extractors.data.survey import SurveyRequest  # noqa: PLC0415

        named = values_by_place([Speech, CheckRequest, SurveyRequest], arguments)
        if not names_bank([place(text) for text in named]):
            from extractors.data.run import main as survey  # noqa: PLC0415

            with typed("asd"):
                return survey(["check", *arguments])
    return _check(arguments)


@entry_point(CheckRequest, "eval.monitor.run check", _CHECK, _CHECKS)
def _check(request: CheckRequest, console: Console) -> int:
    from eval.monitor.check import check  # noqa: PLC0415
    from eval.monitor.history import facts_of, line_of  # noqa: PLC0415

    done = check(request, lambda one: console.made(line_of(one), **facts_of(one)))
    console.notes(done.cautions)
    return done.code


@entry_point(WatchOptions, "eval.monitor.run watch", _WATCH, _WATCHES)
def watch_main(options: WatchOptions, console: Console) -> int:
    """Judge recordings as they arrive, until the source ends or a signal stops the watch."""
    from tqdm import tqdm  # noqa: PLC0415

    from eval.monitor.history import facts_of, line_of  # noqa: PLC0415
    from eval.monitor.prometheus import HistoryMetrics  # noqa: PLC0415
    from eval.monitor.watch import prepared, watch  # noqa: PLC0415

    request, promise = prepared(options)
    console.notes([promise, *request.detector.cautions(request.section)])
    if options.plan:
        console.made(promise, promise=promise, limit=request.rule.limit, votes=request.rule.votes)
        return 0
    metrics = HistoryMetrics(request.history, options.metrics) if options.metrics else None
    counts: Counter[str] = Counter()
    quiet = console.speech.quiet or None
    with tqdm(total=0, bar_format="{desc} [{elapsed}]", disable=quiet) as status:

        def told(one: Judgement) -> None:
            console.made(line_of(one), **facts_of(one))
            counts[{1: "abnormal", 0: "normal", None: "not judged"}[one.decision]] += 1
            known = ", ".join(f"{count} {name}" for name, count in counts.items())
            status.set_description_str(f"{known}, last {one.clip}")
            if metrics:
                metrics.update()

        done = watch(request, told, _stop(options.streams))
    if metrics:
        metrics.update(done.waiting)
    if done.waiting:
        console.notes([f"{done.waiting} messages are not delivered yet; the next watch delivers them"])
    made = (
        f"{done.judged} judged, {done.abnormal} abnormal, {done.unreadable} not readable, "
        f"{counted(done.raised, 'alarm')} -> {request.state}"
    )
    console.made(made, **vars(done), state=request.state)
    return 0 if not options.once else 1 if done.raised else 2 if done.unreadable else 0


def _stop(streams: bool) -> threading.Event:
    """Let SIGTERM end a watch after the current batch, or at once while it waits for a stream."""
    stop = threading.Event()

    def ended(*_: object) -> None:
        stop.set()
        if streams:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ended)
    return stop


@entry_point(ServeRequest, "eval.monitor.run serve", _SERVE, "pump.bank fan.bank --port 8765")
def serve_main(request: ServeRequest, console: Console) -> int:
    """Serve banks until stopped."""
    try:
        import uvicorn  # noqa: PLC0415 (an extra)

        from eval.monitor.serve import application  # noqa: PLC0415
    except ImportError as error:
        raise needed("serving", error, "serve") from error
    app = application(request)
    console.made(f"http://{request.host}:{request.port}/docs", host=request.host, port=request.port)
    uvicorn.run(
        app, host=request.host, port=request.port, log_level="warning", access_log=False,
        timeout_keep_alive=10, limit_concurrency=max(64, 4 * request.queue),
    )  # fmt: skip
    return 0


@entry_point(HistoryRequest, "eval.monitor.run history", _HISTORY, _HISTORIES)
def history_main(request: HistoryRequest, console: Console) -> int:
    """Print or write down judgements."""
    from eval.monitor.history import facts_of, judgement_of, line_of, rows_of, write_rows  # noqa: PLC0415

    rows = rows_of(request)
    if request.table is not None:
        write_rows(request.table, rows)
    if request.page is not None and rows:
        from eval.page.build import history_page  # noqa: PLC0415 (the page's parts)

        write_atomic(request.page, history_page(rows).encode())
    made = [where for where in (request.table, request.page if rows else None) if where is not None]
    for where in made:
        console.made(f"{len(rows)} judgements -> {where}", made=where, rows=len(rows))
    if made:
        return 0
    for one in map(judgement_of, rows):
        console.made(line_of(one), **facts_of(one))
    if not rows and not console.speech.json:
        console.made("nothing fits")
    return 0


@entry_point(DriftRequest, "eval.monitor.run drift", _DRIFT, "pump.bank watch")
def drift_main(request: DriftRequest, console: Console) -> int:
    """Look for drift."""
    from eval.monitor.drift import advice, drift  # noqa: PLC0415
    from index.threshold import share_of  # noqa: PLC0415

    limit = 1 / share_of(request.false_alarms, 1.0)
    pairs = zip(request.pairs[::2], request.pairs[1::2], strict=True)
    found = [one for bank, history in pairs for one in drift(bank, history, limit)]
    for one in found:
        console.made(one.text, **asdict(one) | {"section": str(one.section)})
    console.notes(advice(found))
    return 1 if any(one.direction for one in found) else 2 if not all(one.enough for one in found) else 0


if __name__ == "__main__":
    verbs = {"check": check_main, "watch": watch_main, "serve": serve_main, "history": history_main}
    sys.exit((verbs | {"drift": drift_main})[sys.argv[1]](sys.argv[2:]))
