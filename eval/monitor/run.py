"""Command lines of every day: judge recordings by a bank, watch where they arrive, or serve banks."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from cache.base.console import parser_of, read, typed
from cache.base.errors import AsdError, guarded
from cache.base.text import counted
from eval.monitor.check import CheckRequest, check, names_bank
from eval.monitor.history import Judgement, facts_of, line_of
from eval.monitor.prometheus import HistoryMetrics
from eval.monitor.request import WatchOptions
from eval.monitor.watch import watch

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


@guarded
def check_main(argv: Sequence[str] | None = None) -> int:
    """Judge recordings by a bank, or survey a data root; the exit code says what was found."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and not {"-h", "--help"} & set(arguments) and not names_bank(arguments):
        from extractors.data.run import main as survey  # noqa: PLC0415

        with typed("asd"):
            return survey(["check", *arguments])
    parser = parser_of("eval.monitor.run check", _CHECK, _CHECKS)
    request, console = read(parser, CheckRequest, arguments)
    done = check(request, lambda one: console.made(line_of(one), **facts_of(one)))
    console.notes(done.cautions)
    return done.code


@guarded
def watch_main(argv: Sequence[str] | None = None) -> int:
    """Judge recordings as they arrive, until the source ends or a signal stops the watch."""
    parser = parser_of("eval.monitor.run watch", _WATCH, _WATCHES)
    options, console = read(parser, WatchOptions, argv)
    request, promise = options.prepared()
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


@guarded
def serve_main(argv: Sequence[str] | None = None) -> int:
    """Serve banks until stopped."""
    parser = parser_of("eval.monitor.run serve", _SERVE, "pump.bank fan.bank --port 8765")
    try:
        import uvicorn  # noqa: PLC0415 (an extra)

        from eval.monitor.serve import ServeRequest, application  # noqa: PLC0415
    except ImportError as error:
        raise AsdError(f"serving needs FastAPI ({error}): pip install 'machine-asd[serve]'") from error
    request, console = read(parser, ServeRequest, argv)
    app = application(request)
    console.made(f"http://{request.host}:{request.port}/docs", host=request.host, port=request.port)
    uvicorn.run(
        app, host=request.host, port=request.port, log_level="warning", access_log=False,
        timeout_keep_alive=10, limit_concurrency=max(64, 4 * request.queue),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    verbs = {"check": check_main, "watch": watch_main, "serve": serve_main}
    sys.exit(verbs.get(sys.argv[1] if sys.argv[1:] else "", watch_main)(sys.argv[2:]))
