"""What every command says and how: results on stdout, all else on stderr, progress as a bar."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

from cache.base.arguments import Parser, add_arguments, from_arguments
from cache.base.errors import Main, guarded, tell_some
from cache.base.options import Options, option
from cache.base.progress import DRAWING, PACKAGES, Progress

T = TypeVar("T")
_TYPED: ContextVar[str] = ContextVar("typed", default="")


@dataclass(frozen=True)
class Speech(Options):
    """Options of what a command says; every command has them."""

    quiet: bool = option(False, "say nothing but warnings, faults and errors")
    json: bool = option(False, "results on stdout as JSON, an object a line, for programs")


class _Handler(logging.Handler):
    """Writes what libraries log to stderr, around a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        text = f"{kind}: {record.getMessage()}\n"
        drawn = sys.modules.get("tqdm")
        if drawn is None:
            sys.stderr.write(text)
        else:
            drawn.tqdm.write(text, sys.stderr, end="")


_HANDLER = _Handler()


@dataclass(frozen=True)
class Console:
    """Where a command says what it did.

    Attributes
    ----------
    speech
        How much, and in which form.
    arguments
        As the command was given them.
    """

    speech: Speech = Speech()
    arguments: Sequence[str] = ()

    def made(self, text: str, **facts: Any) -> None:
        """Say a result: a line for people, or an object with these facts."""
        if self.speech.json:
            print(json.dumps(facts, default=str), flush=True)  # noqa: T201
        elif not self.speech.quiet:
            print(text, flush=True)  # noqa: T201

    def some(self, kind: str, items: Sequence[object], key: str = "fault") -> None:
        """Name what deserves a look: the first of many on stderr, each of them as an object."""
        tell_some(kind, items)
        if self.speech.json:
            for item in items:
                self.made("", **{key: str(item), "kind": kind})

    def notes(self, texts: Sequence[object]) -> None:
        """Say what is worth knowing and no fault."""
        if not self.speech.quiet:
            tell_some("note", texts)

    @contextmanager
    def progress(self, unit: str) -> Iterator[Progress]:
        """Draw a bar on stderr while a stage works, if that is a terminal.

        Parameters
        ----------
        unit
            What is counted, one of it.
        """
        from tqdm import tqdm  # noqa: PLC0415 -- a help page needs none

        with tqdm(total=0, unit=unit, disable=self.speech.quiet or None) as drawn:

            def told(done: int, total: int) -> None:
                drawn.total = total
                drawn.update(done - drawn.n)

            yield told


@contextmanager
def typed(words: str) -> Iterator[None]:
    """Let usage lines name another command than ``python -m``: the words that were typed."""
    token = _TYPED.set(words)
    try:
        yield
    finally:
        _TYPED.reset(token)


def prog(module: str) -> str:
    """How a command was called, for its usage line."""
    return _TYPED.get() or f"python -m {module}"


def parser_of(module: str, about: str, example: str = "") -> Parser:
    """Make the parser of a command, its request's options still to be added.

    Parameters
    ----------
    module
        What ``python -m`` runs.
    about
        What the command does.
    example
        Its arguments in a typical call; of several lines, one call each.
    """
    name = prog(module)
    lines = [f"{name} {line}" for line in example.splitlines()]
    told = f"example: {lines[0]}" if len(lines) == 1 else "\n  ".join(["examples:", *lines])
    parser = Parser(prog=name, description=about, epilog=told if lines else None)
    add_arguments(parser.add_argument_group("what is said"), Speech)
    return parser


def entry_point(
    request: type[T], module: str, about: str, example: str = "", epilog: str = ""
) -> Callable[[Callable[[T, Console], int]], Main]:
    """Make a command of a function that does what a request asks for and returns the exit code.

    The function imports its stage itself: a help page and a wrong option load no more than the request.

    Parameters
    ----------
    request
        The dataclass whose options the command takes.
    module, about, example
        As of `parser_of`.
    epilog
        What the help says before the example.
    """

    def made(work: Callable[[T, Console], int]) -> Main:
        @guarded
        @wraps(work)
        def main(argv: Sequence[str] | None = None) -> int:
            parser = parser_of(module, about, example)
            if epilog:
                parser.epilog = f"{epilog}\n{parser.epilog or ''}"
            add_arguments(parser, request)
            arguments = sys.argv[1:] if argv is None else list(argv)
            args = parser.parse_args(arguments)
            wanted = from_arguments(request, args)
            return work(wanted, replace(console_of(args), arguments=arguments))

        return main

    return made


@dataclass(frozen=True)
class Command:
    """One of the commands that a module has.

    Attributes
    ----------
    does
        What the page of all of them says of it.
    request
        The dataclass whose options it takes.
    call
        Does it: request and console to exit code.
    about, epilog
        What its own help says before and after its options.
    """

    does: str
    request: type
    call: Callable[[Any, Console], int]
    about: str | None = None
    epilog: str | None = None


def call_one(parser: Parser, commands: Mapping[str, Command], argv: Sequence[str] | None) -> int:
    """Parse a command line that begins with a command, and call that one.

    Parameters
    ----------
    parser
        Of `parser_of`.
    commands
        By what is typed.
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        Its exit code.
    """
    several = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, each in commands.items():
        one = several.add_parser(name, help=each.does, description=each.about, epilog=each.epilog)
        add_arguments(one.add_argument_group("what is said"), Speech)
        add_arguments(one, each.request)
    args = parser.parse_args(argv)
    meant = commands[args.command]
    return meant.call(from_arguments(meant.request, args), console_of(args))


def console_of(args: Namespace) -> Console:
    """Say on stderr what the libraries log from here on, as much as the arguments ask for."""
    speech = from_arguments(Speech, args)
    DRAWING[0] = not speech.quiet
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.addHandler(_HANDLER)  # the same one again changes nothing
        logger.setLevel(logging.WARNING if speech.quiet else logging.INFO)
    return Console(speech)
