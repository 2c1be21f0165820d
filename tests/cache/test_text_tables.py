"""Text tables as spreadsheets of any system write them: read whole, or refused by row."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.base.errors import AsdError
from cache.files import text_tables
from cache.files.text_tables import read_table, split_lines

HEADER, ROWS = ("path", "split", "speed"), (("a.wav", "train", "1,5"), ("ü b.wav", "test", ""))


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def as_text(separator: str, end: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([HEADER, *ROWS])
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "sep="])
def test_a_table_is_the_same_however_it_is_written(
    tmp_path: Path, encoding: str, separator: str, end: str, first: str
) -> None:
    if first and end == "\r":
        return  # Excel for old Macs knew no such line
    said = f"{first}{separator}{end}" if first else ""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        text = said + as_text(separator, end, quoting)
        table = read_table(write(tmp_path, text.encode(encoding)))
        assert table.columns == HEADER
        assert [tuple(row.values()) for row in table.rows.values()] == list(ROWS)
        assert not table.faults


def test_rows_that_do_not_fit_are_named_and_empty_ones_counted(tmp_path: Path) -> None:
    text = "path,split,speed,\n\na,train,1\n,,,,\nb,train,1,5\nc,train\nd, test ,2,,,\n \ne,,,x\n"
    table = read_table(write(tmp_path, text))
    assert dict(table.rows) == {
        2: {"path": "a", "split": "train", "speed": "1"},
        6: {"path": "d", "split": "test", "speed": "2"},
    }
    assert table.faults.keys() == {4, 5, 8}
    assert table.faults[4].startswith("4 cells, the header has 3; put a cell that holds the sep")
    assert table.faults[5] == "2 cells, the header has 3; write empty ones too"
    short = read_table(write(tmp_path, "path,split,speed\nc,train\n"), short=True)
    assert short.rows == {1: {"path": "c", "split": "train", "speed": ""}}
    nameless = read_table(write(tmp_path, "path,,speed\na,b,c\n"))
    assert nameless.faults == {1: "the cell 'b' stands in a column without a name"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a,b,a\n1,2,3\n", "two columns are called 'a'; rename or remove one"),
        ('a,b\n"1,2\n3,4\n', "line 3: unexpected end of data"),
        ('a,b\n"1"x,2\n', "line 2: ',' expected after '\"'"),
        ("a,b\nä,1\n".encode("cp1252"), "line 2 is not UTF-8 .byte 0xe4.; save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "NUL characters"),
        (b"a,b\n\x00,2\n", "NUL characters"),
        (",".join(map(str, range(1001))), "1,001 columns; 1,000 are read"),
        ("a\n" + "x" * 140_000, "line 2: field larger than field limit"),
        ("a\n" + "," * 2**20, "a line of 1,048,576 characters|a line of 1,048,577"),
    ],
)
def test_what_is_no_table_says_why(tmp_path: Path, data: str | bytes, message: str) -> None:
    if isinstance(data, str) and data.endswith(","):
        data += ","
    with pytest.raises(AsdError, match=message):
        read_table(write(tmp_path, data))


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_tables, "MOST_ROWS", 3)
    assert len(read_table(write(tmp_path, "a\n1\n2\n3\n")).rows) == 3
    with pytest.raises(AsdError, match="more than 3 rows; split it"):
        read_table(write(tmp_path, "a\n1\n2\n3\n4\n"))
    sparse = tmp_path / "huge.csv"
    with sparse.open("wb") as file:
        file.truncate(text_tables.MOST_BYTES + 1)
    with pytest.raises(AsdError, match="NUL|larger than 268,435,456 bytes"):
        read_table(sparse)
    with pytest.raises(AsdError, match="No such file"):
        read_table(tmp_path / "none.csv")


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
                         min_size=2, max_size=2), min_size=1))  # fmt: skip
def test_cells_are_those_that_were_written(rows: list[list[str]]) -> None:
    for separator in (",", ";", "\t"):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
        assert [cells for _, cells in split_lines(text.getvalue(), separator)] == rows
