"""Text from elsewhere: what may be shown of it, and how it is read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cache.base.errors import AsdError, guarded, tell_some
from cache.base.text import (
    command_line,
    composed,
    control_character,
    decoded,
    masked,
    parse_json,
    shown,
    shown_streams,
)
from cache.table import Section

# A title, a colour, C1's own escape, DEL, a line drawn over, and writing from right to left.
NASTY = "a\x1b]0;owned\x07\x1b[31mb\x9b2Jc\x7fd\re\u202egnp.exe\u2066f\u2028g"


def test_no_control_character_is_shown_and_json_reads_the_escapes_back() -> None:
    safe = shown(NASTY)
    assert safe.isprintable()
    assert json.loads(f'"{safe}"') == NASTY
    assert shown("two\tcells\nand a line: naïve 大 \N{SNOWMAN}") == (
        "two\tcells\nand a line: naïve 大 \N{SNOWMAN}"
    )
    assert shown("not UTF-8: \udcff").encode() == b"not UTF-8: \\udcff"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:s3cr3t@host/list.csv", "http://***@host/list.csv"),
        ("s3://KEY:ab/cd+e=@bucket/x: gone", "s3://***@bucket/x: gone"),
        ("http://user:p@ss@host:80/x", "http://***@host:80/x"),
        ("http://user:p?s#s@host/x", "http://***@host/x"),
        ("https://h/x.csv?X-Amz-Signature=abc&y=1", "https://h/x.csv?***"),
        ("'https://h/x.csv?sig=a', then", "'https://h/x.csv?***', then"),
        ("http://u:p@h/x?q=1 and ftp://v:w@i/", "http://***@h/x?*** and ftp://***@i/"),
        ("s3://bucket:80/a@b", "s3://bucket:80/a@b"),
        ("mail a@b.example, what? file.wav", "mail a@b.example, what? file.wav"),
        ("s3://bucket/v@1/x#1.wav", "s3://bucket/v@1/x#1.wav"),
    ],
)
def test_secrets_of_urls_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


def test_a_recorded_command_holds_no_secret_and_can_be_run_again() -> None:
    command = command_line("python -m eval.run", ["--data", "http://u:a'b@h/x y?t=1", "--out", "r s"])
    assert command == "python -m eval.run --data 'http://***@h/x y?***' --out 'r s'"


def test_whatever_a_command_prints_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    @guarded
    def main(argv: object = None) -> int:
        assert argv is None
        sys.stdout.write(f"{NASTY} http://u:p@h/\n")
        sys.stderr.writelines([NASTY, "\n"])
        tell_some("left out", [NASTY])
        raise AsdError(f"no {NASTY} at http://u:p@h/?q=1")

    before = sys.stdout, sys.stderr
    assert main() == 2
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out == f"{shown(NASTY)} http://***@h/\n"
    assert said.err.splitlines()[-1] == f"error: no {shown(NASTY)} at http://***@h/?***"
    assert all(line.isprintable() for line in said.err.splitlines())


class Screen(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_progress_bars_still_move_on_a_terminal_and_ascii_takes_any_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Screen(raw, encoding="ascii", newline=""))
    with shown_streams(), shown_streams():
        for text in ("\r50 %|\x1b[31m", "\x1b[A\x1b[A", "ä"):
            sys.stdout.write(text)
        sys.stdout.flush()
    assert raw.getvalue() == b"\r50 %|\\u001b[31m\x1b[A\x1b[A\\xe4"


def test_control_characters_are_named() -> None:
    assert control_character("pump früh \N{SNOWMAN} 大") is None
    assert [control_character(f"a{c}") for c in "\x1b\n\t\u202e\x85"] == [
        *("U+001B", "U+000A", "U+0009", "U+202E", "U+0085")
    ]


def test_text_files_as_any_system_writes_them() -> None:
    text = "path;split\r\nPrüfling.wav;test\r\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert decoded(text.encode(encoding)) == text
    with pytest.raises(ValueError, match="line 2 is not UTF-8 .byte 0xfc.; save the file as UTF-8"):
        decoded(text.encode("cp1252"))
    with pytest.raises(ValueError, match="NUL characters"):
        decoded("a,b".encode("utf-16-le"))
    assert composed("Pru\u0308fling.wav") == "Prüfling.wav"


def test_json_of_any_depth_is_read_or_refused() -> None:
    assert parse_json('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 200_000)


@pytest.mark.parametrize("name", ["--bank=x", "-6_dB", ".x", "a/b", "a\\b", "", "a\x1bb", "a\nb"])
def test_machine_types_that_are_no_plain_names(name: str) -> None:
    with pytest.raises(AsdError, match="machine type") as caught:
        Section(name, 0)
    assert str(caught.value).isprintable()


def test_sections_are_those_that_a_table_can_hold() -> None:
    top = Section("fan", 2**31 - 1)
    assert Section.at(Path("cache") / str(top)) == top
    assert Section.at(Path("cache/fan/section_07")) == Section("fan", 7)
    for number in (2**31, -1, 10**30):
        with pytest.raises(AsdError, match="expected a number from 0 to 2147483647"):
            Section("fan", number)
    for folder in ("section_7", "section_007", "section_²²", "section_", "section_99999999999"):
        with pytest.raises(AsdError, match="section_<nn>"):
            Section.at(Path("cache/fan") / folder)
