"""A small MQTT 3.1.1 broker for tests: it takes connections and messages, and can stall or refuse."""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Broker(socketserver.ThreadingTCPServer):
    """Keeps what was published to it; the bytes are those of OASIS MQTT 3.1.1, section 3."""

    allow_reuse_address = daemon_threads = True
    stalls = refuses = False

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, dict[str, Any], bool]] = []  # topic, message, whether retained
        self.users: list[tuple[str, str] | None] = []
        self.ended = threading.Event()
        super().__init__(("127.0.0.1", port), _Session)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.BaseRequestHandler):
    server: Broker

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.request.recv(size - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def _packet(self) -> tuple[int, bytes]:
        head, size, shift = self._take(1)[0], 0, 0
        while True:
            byte = self._take(1)[0]
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return head, self._take(size)

    def handle(self) -> None:
        try:
            while True:
                self._answer(*self._packet())
        except (ConnectionError, OSError):
            pass

    def _answer(self, head: int, body: bytes) -> None:
        kind, server = head >> 4, self.server
        if server.stalls:
            server.ended.wait(10)
            raise ConnectionError
        if kind == 1:  # CONNECT
            flags = body[7]
            texts, rest = [], body[10:]
            while rest:
                (size,) = struct.unpack(">H", rest[:2])
                texts.append(rest[2 : 2 + size].decode())
                rest = rest[2 + size :]
            server.users.append((texts[-2], texts[-1]) if flags & 0xC0 == 0xC0 else None)
            self.request.sendall(bytes([0x20, 2, 0, 5 if server.refuses else 0]))
            if server.refuses:  # and hangs up, as MQTT 3.1.1 section 3.2.2.3 demands
                raise ConnectionError
        elif kind == 3:  # PUBLISH, quality of service 1
            assert (head >> 1) & 3 == 1
            (size,) = struct.unpack(">H", body[:2])
            topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
            server.got.append((topic, json.loads(rest[2:]), bool(head & 1)))
            self.request.sendall(bytes([0x40, 2]) + rest[:2])
        elif kind == 12:  # PINGREQ
            self.request.sendall(bytes([0xD0, 0]))
        elif kind == 14:  # DISCONNECT
            raise ConnectionError


@contextmanager
def broker(port: int = 0) -> Iterator[Broker]:
    """Run a broker for a while."""
    with Broker(port) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        made.ended.set()
        made.shutdown()
        thread.join()
