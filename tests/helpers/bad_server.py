"""A server on this machine that serves files well, or badly in a way of choice."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


@dataclass
class Served:
    """A file and how it is served.

    Attributes
    ----------
    content
        Its bytes.
    cut
        How many of the bytes asked for are sent before the connection is closed, answer by
        answer; the answers after those are whole.
    ranges, etag
        Whether the server takes up a file where it was left, and vouches for it.
    status
        What is answered instead of the file; 302 leads to itself.
    halt
        After how many bytes nothing more comes, and the connection stays open until the server stops.
    pause
        Seconds before each 64 KiB.
    kind
        Its ``Content-Type``.
    """

    content: bytes
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: bool = True
    status: int = 200
    halt: int | None = None
    pause: float = 0.0
    kind: str = "application/octet-stream"


class BadServer:
    """Paths to what is served there; `asked` holds each request's path and ``Range``."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str]] = []
        self.stopped = Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, path: str, content: bytes, **how: object) -> str:
        """Serve a file, and return its address."""
        self.files[path] = Served(content, **how)  # type: ignore[arg-type]
        return self.url + path

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: BadServer

    def do_GET(self) -> None:
        self.owner.asked.append((self.path, self.headers.get("Range", "")))
        file = self.owner.files.get(self.path)
        if file is None or file.status != 200:
            self._refuse(404 if file is None else file.status)
            return
        start, total = self._start(file), len(file.content)
        if start is not None and start >= total:
            self._refuse(416, f"bytes */{total}")
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if file.etag:
            self.send_header("ETag", _etag(file))
        self.send_header("Content-Type", file.kind)
        body = file.content[start or 0 :]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the client may have gone
            self._send(file, body)
        self.close_connection = True

    def _start(self, file: Served) -> int | None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        same = condition is None or (file.etag and condition == _etag(file))
        return int(wanted[1]) if wanted and file.ranges and same else None

    def _send(self, file: Served, body: bytes) -> None:
        end = min(file.cut.pop(0), len(body)) if file.cut else len(body)
        if file.halt is not None:
            self.wfile.write(body[: file.halt])
            self.owner.stopped.wait()
            return
        for position in range(0, end, 1 << 16):
            time.sleep(file.pause)
            self.wfile.write(body[position : min(position + (1 << 16), end)])

    def _refuse(self, status: int, extent: str = "") -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.path)
        if extent:
            self.send_header("Content-Range", extent)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _etag(file: Served) -> str:
    return f'"{hashlib.sha256(file.content).hexdigest()[:16]}"'
