"""One file from one address over HTTP, continued where an earlier try was cut off."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from cache.base.progress import underway
from cache.base.text import parse_json

if TYPE_CHECKING:
    import requests

_TIMEOUT = (10.0, 60.0)  # seconds to connect, and without a byte
_TRIES = 3  # in a row that bring nothing
_PAUSE = 1.0  # seconds before the second of them, doubled each time
_BUSY = (429, 500, 502, 503, 504)  # worth another try
_CHUNK = 1 << 16  # bytes; a cut connection loses the one in flight


class SourceError(Exception):
    """An address did not give the file; another one may."""


class _AgainError(Exception):
    """One try came to nothing, the next may not."""


@dataclass
class PartialFile:
    """The part of a file that has come so far, and the answer it began with.

    Attributes
    ----------
    path
        A hidden file beside the final one.
    checked
        Whether a hash will tell in the end that the pieces belong together. Else only a server
        that vouches for its file being the same (``If-Range``) may continue it.
    """

    path: Path
    checked: bool

    @property
    def _origin(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def size(self) -> int:
        """Count the bytes that have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def drop(self) -> None:
        """Delete the part, to begin again."""
        self.path.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)

    def headers(self, url: str) -> dict[str, str]:
        """Ask for the rest, where there is a beginning that can be trusted."""
        try:
            origin = dict(parse_json(self._origin.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            origin = {}
        same = origin.get("etag", "") if origin.get("url") == url else ""
        if not self.size() or not (same or self.checked):
            self.drop()
            return {}
        wanted = {"Range": f"bytes={self.size()}-"}
        return wanted | ({"If-Range": same} if same else {})

    def began(self, url: str, headers: Mapping[str, str]) -> None:
        """Note which answer the file begins with; a weak tag vouches for nothing."""
        etag = headers.get("ETag", "")
        origin = {"url": url, "etag": "" if etag.startswith("W/") else etag}
        self._origin.write_text(json.dumps(origin), "utf-8")


@dataclass
class Transfer:
    """The download of one file.

    Attributes
    ----------
    part
        Where it goes.
    name
        What the progress bar calls it.
    size
        Bytes it must have, where that is known.
    room
        Called with the bytes to come, before they do; raises where they do not fit.
    halt
        Set by another thread to stop.
    """

    part: PartialFile
    name: str
    size: int | None
    room: Callable[[int], None]
    halt: Event | None = None

    def run(self, url: str) -> bool:
        """Bring the rest of the file; cut connections are taken up again.

        Parameters
        ----------
        url
            An http or https address.

        Returns
        -------
        bool
            Whether it continued what an earlier run had begun.

        Raises
        ------
        SourceError
            If the address does not give it.
        OSError
            If it cannot be written.
        """
        import requests  # noqa: PLC0415 (a fifth of a second, for fetching only)

        interrupted = requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError
        continued = self.part.size() > 0
        failures = 0
        while self.size is None or self.part.size() != self.size:
            before = self.part.size()
            try:
                self._stream(url)
                break
            except (*interrupted, _AgainError) as error:
                failures = 1 if self.part.size() > before else failures + 1
                if failures >= _TRIES:
                    raise SourceError(f"{url}: {reason_of(error)}") from error
                time.sleep(_PAUSE * 2 ** (failures - 1))
            except requests.RequestException as error:
                raise SourceError(f"{url}: {reason_of(error)}") from error
        if not self.part.size():
            raise SourceError(f"{url}: gives an empty file")
        return continued

    def _stream(self, url: str) -> None:
        import requests  # noqa: PLC0415

        headers = {"Accept-Encoding": "identity"} | self.part.headers(url)
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                whole = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
                if whole and int(whole[1]) == self.part.size():
                    return  # there is nothing behind what is here
                self.part.drop()
                raise _AgainError("the server no longer has the file that was begun")
            start, total = self._extent(response, url)
            self.room(max(total or 0, self.size or 0) - start)
            if start == 0:
                self.part.drop()
                self.part.began(url, response.headers)
            with underway(self.name, "B", total, start) as told, self.part.path.open("ab") as file:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    told(len(chunk))
                    if self.halt is not None and self.halt.is_set():
                        raise KeyboardInterrupt
        if total is not None and self.part.size() < total:
            raise _AgainError(f"the connection ended after {self.part.size()} of {total} bytes")

    def _extent(self, response: requests.Response, url: str) -> tuple[int, int | None]:
        """Where the answer's bytes begin in the file, and how long the file is."""
        if response.status_code in _BUSY:
            raise _AgainError(f"{response.status_code} {response.reason}")
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise SourceError(f"{url}: {response.status_code} {response.reason}")
        if "text/html" in response.headers.get("Content-Type", ""):
            raise SourceError(f"{url}: gives a web page, perhaps a log-in")
        length = response.headers.get("Content-Length", "")
        start, total = 0, int(length) if length.isdigit() else None
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if given is None or int(given[1]) != self.part.size():
                self.part.drop()
                raise _AgainError("the server gave another range than the one asked for")
            start = int(given[1])
            total = int(given[2]) if given[2] != "*" else None
        if None not in (self.size, total) and self.size != total:
            raise SourceError(f"{url}: has {total} bytes where {self.size} are expected")
        return start, total


def reason_of(error: Exception) -> str:
    """Say in a line why a request failed, without the library's own wrapping."""
    text = str(error)
    found = re.search(r"(\[Errno[^'\"()]*|Name or service not known|timed out|"
                      r"IncompleteRead\([^)]*\)|Exceeded \d+ redirects)", text)  # fmt: skip
    return found[0].strip() if found else text.splitlines()[0] if text else type(error).__name__
