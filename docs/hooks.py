"""What the site holds beside the pages in this folder: it is made while the site is built, never checked in.

The front page is the README; measurements, changes and the like are the files of the project's folder; the
page of commands is made of the parsers behind ``asd``, which are made of the option declarations.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, _SubParsersAction
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import machine_asd
from cache.asd import VERBS, Verb, main
from cache.base.arguments import Parser

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
# File of the project's folder to its page.
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    **{f"benchmarks/{path.name}": f"benchmarks/{path.name}" for path in (_ROOT / "benchmarks").glob("*.md")},
}
_COMMANDS = "commands.md"


class _ParserFound(Exception):  # noqa: N818 -- not an error: it ends a command before it works
    pass


def parser_of(verb: str) -> Parser:
    """Take the parser of a verb, from the command itself."""

    def found(self: Parser, *_: Any, **__: Any) -> Any:
        raise _ParserFound(self)

    with patch.object(Parser, "parse_args", found), patch.object(Parser, "parse_known_args", found):
        try:
            main([verb])
        except _ParserFound as error:
            parser: Parser = error.args[0]
            return parser
    raise AssertionError(f"asd {verb} parses nothing")


def commands() -> str:
    """Write the page of all commands."""
    about = "Every verb of `asd`, by what it is about. `asd VERB --help` says the same."
    lines = ["# Commands", "", about, ""]
    for title, verbs in VERBS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", ""]
        for name, verb in verbs.items():
            if verb.before and name not in verb.before:  # the command of another verb, with an option
                other = next(one for one, its in _all_verbs() if its.target == verb.target and not its.before)
                does = f"{verb.does[0].upper()}{verb.does[1:].rstrip('?')}"
                same = f"`asd {other} {' '.join(verb.before)}`"
                told = f"{does}: {same}, with the same [options](#asd-{other})."
                lines += [f"### asd {name}", "", told, ""]
                continue
            lines += _command(f"asd {name}", _within(parser_of(name), name), "###")
    speech = next(group for group in parser_of("extract")._action_groups if group.title == "what is said")
    return "\n".join([*lines, "## Of every command", "", *_table(speech._group_actions)])


def _all_verbs() -> list[tuple[str, Verb]]:
    return [item for verbs in VERBS.values() for item in verbs.items()]


def _within(parser: Parser, name: str) -> Parser:
    """Take the part of a parser of several commands that a verb means."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction) and name in action.choices:
            return action.choices[name]
    return parser


def _command(name: str, parser: Parser, heading: str) -> Iterator[str]:
    about = re.sub(r"\s*\n\s*", " ", parser.description or "")
    yield from (f"{heading} {name}", "", _text(about), "")
    for group in parser._action_groups:
        inner = [action for action in group._group_actions if isinstance(action, _SubParsersAction)]
        for action in inner:
            for sub, each in action.choices.items():
                yield from _command(f"{name} {sub}", each, f"{heading}#")
        shown = [action for action in group._group_actions if action not in inner]
        shown = [one for one in shown if one.help != SUPPRESS and one.dest != "help"]
        if shown and group.title != "what is said":
            if group.title not in ("options", "positional arguments", None):
                yield from (f"*{_text(group.title)}*", "")
            yield from _table(shown)
    if parser.epilog and "example" in parser.epilog:
        calls = re.findall(r"(asd .+|python -m .+)", parser.epilog)
        calls = [re.sub(r"^python -m \S+", name, call) for call in calls]
        yield from ("```sh", *calls, "```", "")


def _table(actions: list[Action]) -> list[str]:
    rows = ["| option | what it says |", "| --- | --- |"]
    for action in actions:
        entry = getattr(action, "entry", None)
        text = entry.help() if entry else (action.help or "") % {**vars(action), "prog": "asd"}
        value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
        flag = " ".join(
            [*action.option_strings[:1], str(value or ("" if action.option_strings else action.dest))]
        )
        rows.append(f"| `{flag.strip()}` | {_text(text)} |")
    return [*rows, ""]


def _text(text: str) -> str:
    return re.sub(r"([|*_\[\]])", r"\\\1", escape(text, quote=False))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Append the pages that the table of contents does not name."""
    named = str(config.nav)
    others = sorted(path.relative_to(_HERE).as_posix() for path in _HERE.rglob("*.md"))
    if more := [name for name in others if f"'{name}'" not in named]:
        config.nav = [*(config.nav or []), {"More": more}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the one that is made."""
    for source, page in _PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(_ROOT / source)))
    files.append(File.generated(config, _COMMANDS, content=commands()))
    for picture in (_ROOT / "benchmarks").rglob("*.png"):
        page = picture.relative_to(_ROOT).as_posix()
        files.append(File.generated(config, page, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between files lead to the pages that these are on the site."""
    own = page.file.src_uri
    told = f"```text\n{machine_asd.__doc__}\n```"
    markdown = re.sub(r"<!-- machine_asd: .*? -->", lambda _: told, markdown)
    source = next((one for one, other in _PAGES.items() if other == own), f"docs/{own}")

    def led(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        path = (_ROOT / source).parent / target
        if "://" in target or not path.exists():
            return match[0]
        place = path.resolve().relative_to(_ROOT).as_posix()
        goal = _PAGES.get(place, place.removeprefix("docs/"))
        return f"]({'../' * own.count('/')}{goal}{anchor})"

    return re.sub(r"\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", led, markdown)
