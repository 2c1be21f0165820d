"""Command line that serves banks over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cache.base.console import parser_of
from cache.base.errors import AsdError, guarded

_ABOUT = """Judge recordings over HTTP: POST /score (a file as form data, or raw samples with ?rate=), GET
/banks, /health, /metrics, and /docs, which explains them. A token comes from ASD_SERVE_TOKEN."""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Serve banks until told to stop."""
    parser = parser_of("eval.monitor.serve_run", _ABOUT, "pump.bank fan.bank --port 8765")
    try:
        import uvicorn  # noqa: PLC0415 (an extra)

        from eval.monitor.serve import ServeRequest, application  # noqa: PLC0415
    except ImportError as error:
        raise AsdError(f"serving needs FastAPI ({error}): pip install 'machine-asd[serve]'") from error
    from cache.base.console import read  # noqa: PLC0415

    request, console = read(parser, ServeRequest, argv)
    app = application(request)
    console.made(f"http://{request.host}:{request.port}/docs", host=request.host, port=request.port)
    uvicorn.run(
        app, host=request.host, port=request.port, log_level="warning", access_log=False,
        timeout_keep_alive=10, limit_concurrency=max(64, 4 * request.queue),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
