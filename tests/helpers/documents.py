"""Commands and programs as our pages show them, and the parsers behind ``asd``."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cache.asd import main
from cache.base.arguments import Parser

REPOSITORY = Path(__file__).parents[2]
_MARK = r"(?:<!-- (?P<mark>stand-in|parsed|fails|exit-1): (?P<reason>[^\n]+?) -->\n)?"
_BLOCK = re.compile(_MARK + r"```(?P<language>\w*)\n(?P<text>.*?)```", re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `mark` and `reason` stand in an invisible comment before it."""

    language: str
    text: str
    mark: str | None = None
    reason: str | None = None

    def commands(self) -> list[tuple[str, str]]:
        """Commands with the output that is shown for each, the empty string where none is."""
        if self.language == "sh":
            joined = self.text.replace("\\\n", " ")
            return [(line.strip(), "") for line in joined.splitlines() if line.strip()]
        if self.language != "console":
            return []
        parts = re.split(r"^\$ ", self.text.replace("\\\n", " "), flags=re.M)[1:]
        return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def blocks(page: Path) -> list[Block]:
    """Read the fenced blocks of a page, in order."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["language"], m["text"], m["mark"], m["reason"]) for m in found]


class _Parsed(Exception):  # noqa: N818 -- not an error: it ends a command that was understood
    pass


def parse_only(arguments: Sequence[str]) -> None:
    """Let the command of a verb parse its arguments, every option and value, and do no more.

    Raises
    ------
    AssertionError
        If it does not understand them.
    """
    parse = Parser.parse_args

    def parsed(self: Parser, argv: Any = None, namespace: Any = None) -> Namespace:
        parse(self, argv, namespace)
        raise _Parsed

    with patch.object(Parser, "parse_args", parsed):
        try:
            code: Any = main(arguments)
        except _Parsed:
            return
        except SystemExit as left:
            code = left.code
    raise AssertionError(f"asd {shlex.join(arguments)}: exit code {code} before anything was done")


def asd_calls(command: str) -> list[list[str]]:
    """The arguments of every ``asd`` in a line of shell."""
    calls: list[list[str]] = []
    for part in re.split(r"&&|\|\||[|;]", re.sub(r"\s#.*", "", command)):
        words = shlex.split(part)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            del words[0]
        if words[:1] == ["asd"] and words[1:]:
            calls.append(words[1:])
    return calls
