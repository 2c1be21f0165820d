"""An S3 server on this machine that counts what it is asked and fails as it is told."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Fault = str  # refuse: 503; cut: half the body; reset: no answer at all; swallow: done, no answer


def quiet(_kind: str, _path: str) -> None:
    pass


@dataclass
class ObjectStore:
    """Moto's S3 behind a door that counts and fails.

    Attributes
    ----------
    requests
        What it was asked, by kind: LIST, HEAD, GET, PUT ...
    sent
        Bytes of its answers, by kind.
    faults
        What happens to the next requests of a kind, in order.
    before
        Called with every request's kind and path before it is served.
    """

    requests: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    before: Callable[[str, str], None] = quiet

    def start(self) -> None:
        self._one = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        self.requests.clear()
        self.sent.clear()
        self.faults.clear()
        self.before = quiet

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        kind = _kind(environ)
        self.requests[kind] += 1
        self.before(kind, environ["PATH_INFO"])
        waiting = self.faults.get(kind)
        fault = waiting.pop(0) if waiting else ""
        if fault == "refuse":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = b"<Error><Code>SlowDown</Code><Message>busy</Message></Error>"
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [body]
        if fault == "reset":
            environ["werkzeug.socket"].shutdown(2)
            return []
        with self._one:  # moto closes what it stores while another thread still reads it out
            answer = list(self._app(environ, start_response))
        self.sent[kind] += sum(map(len, answer))
        if fault == "swallow":
            environ["werkzeug.socket"].shutdown(2)
            return []
        return _halved(answer) if fault == "cut" else answer


def _kind(environ: dict[str, Any]) -> str:
    listing = environ["REQUEST_METHOD"] == "GET" and "list-type" in environ["QUERY_STRING"]
    return "LIST" if listing else environ["REQUEST_METHOD"]


def _halved(answer: Any) -> Iterator[bytes]:
    body = b"".join(answer)
    yield body[: len(body) // 2]
