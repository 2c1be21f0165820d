"""Text from elsewhere: decoded, and what a terminal, a page and a message may show of it.

Names of files, cells of tables and the answers of servers are written by others. Control characters
in them would steer a terminal, and a URL may hold a password or a signature in its query.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

# C0 but tab and line feed, DEL, C1; line and paragraph separators; what overrides the direction of
# writing (Unicode UAX #9: embeddings, overrides, isolates); halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A URL's user and password, RFC 3986 section 3.2.1. A secret that is pasted as it is may hold a
# slash: behind a colon that no port number follows, all up to the @ belongs to it.
_USER = re.compile(r"(?<=://)(?:[^\s/]*|[^\s/:@]+:(?![0-9]+(?:[/\s]|$))\S*)@")
_QUERY = re.compile(r"(://[^\n?]*\?)\S+?(?=[\"'<>)\]},;:.]*(?:\s|$))")
_MASK = "***"
# How tqdm moves about: to the start of a line before a bar, up over the bars below it.
_BAR = re.compile(r"\r|(?:\x1b\[A)+$")


def shown(text: str) -> str:
    r"""Make text fit to be shown: no control characters, no secrets of URLs.

    Parameters
    ----------
    text
        Any; line feeds and tabs stay.

    Returns
    -------
    str
        Control characters as ``\u001b``, which JSON reads back; URLs as of `masked`.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", masked(text))


def masked(text: str) -> str:
    """Replace user, password and query string of every URL in a text by ``***``."""
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{_MASK}", _USER.sub(f"{_MASK}@", text))


def counted(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: ``1 clip``, ``2 clips``.

    Parameters
    ----------
    number
        How many.
    one
        The noun of one.
    many
        Of several; `one` with an s by default.
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def command_line(program: str, arguments: Sequence[str]) -> str:
    """Write a command as a shell reads it, for a record; secrets of URLs are masked."""
    return shlex.join([*program.split(), *map(masked, arguments)])


def control_character(text: str) -> str | None:
    """Name the first control character of a text, e.g. ``U+001B``; ``None`` where there is none.

    Line feeds and tabs are control characters here.
    """
    found = _CONTROL.search(text.replace("\n", "\x1f").replace("\t", "\x1f"))
    return f"U+{ord(text[found.start()]):04X}" if found else None


def composed(name: str) -> str:
    """Write a name the way that is the same on every system: Unicode's form NFC.

    Macs used to decompose names (``u`` and two dots), tables hold them composed; both look alike.
    """
    return unicodedata.normalize("NFC", name)


def decoded(data: bytes) -> str:
    """Decode a text file as editors and spreadsheets of any system write it.

    Parameters
    ----------
    data
        UTF-8 with or without a byte order mark, or UTF-16 with one.

    Returns
    -------
    str
        Its text without the mark; line ends as they are.

    Raises
    ------
    ValueError
        If it is in another encoding; with the first line that is not UTF-8 and the remedy.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"line {line} is not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
            ) from error
    if "\0" in text:
        raise ValueError("it holds NUL characters, as UTF-16 without a mark does; save it as UTF-8")
    return text


def parse_json(text: str | bytes) -> Any:
    """Read JSON, however deep.

    Raises
    ------
    ValueError
        If it is not JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error


def integers(value: object, place: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of what was read as JSON or TOML, after the keys that lead to it, dots between."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from integers(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from integers(inner, place)
    elif isinstance(value, int):
        yield place, value


def align_rows(rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """Lay a table out in columns with a rule below its header.

    Parameters
    ----------
    rows
        The header first; the same number of cells in each.
    names
        How many columns from the left hold names, which stand to the left; figures to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [str.ljust] * names + [str.rjust] * (len(widths) - names)
    lines = [
        "  ".join(put(cell, width) for put, cell, width in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


@contextmanager
def shown_streams() -> Iterator[None]:
    """Let nothing reach the terminal that is not `shown`, while this is entered."""
    outer = (sys.stdout, sys.stderr)
    out, err = (one if isinstance(one, _Shown) else cast("TextIO", _Shown(one)) for one in outer)
    with redirect_stdout(out), redirect_stderr(err):
        yield


class _Shown:
    """A stream of which only writing is changed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what may be shown, escaped where the stream's encoding lacks a character."""
        bar = _BAR.match(text) if self._stream.isatty() else None
        start = bar[0] if bar else ""
        safe = start + shown(text[len(start) :])
        try:
            self._stream.write(safe)
        except UnicodeEncodeError as error:
            self._stream.write(safe.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
