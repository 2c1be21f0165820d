"""The history of judgements: whole after kills, compacted, damaged, read by pandas."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cache.base.errors import AsdError
from eval.monitor import history as module
from eval.monitor.history import History, Judgement, clip_key


def _judgement(index: int, **changes: object) -> Judgement:
    values = {"time": 1e9 + index, "clip": f"{index:04d} a.wav", "content_sha256": f"{index:064x}",
              "machine_type": "pump", "section": 0, "score": float(index), "threshold": 1.5,
              "p_value": 0.5, "decision": int(index > 1)}  # fmt: skip
    return Judgement(**{**values, **changes})  # type: ignore[arg-type]


def _filled(root: Path, batches: int) -> History:
    history = History(root)
    for index in range(batches):
        history.append([_judgement(2 * index), _judgement(2 * index + 1)], {"clips": index})
    return history


def test_what_was_appended_is_read_with_the_last_state(tmp_path: Path) -> None:
    history = _filled(tmp_path, 3)
    table = history.read()
    assert table["number"].to_pylist() == list(range(6))
    assert table["clip"].to_pylist() == [f"{i:04d} a.wav" for i in range(6)]
    assert history.read(after=2)["number"].to_pylist() == [3, 4, 5]
    assert history.state() == {"clips": 2}
    judged, last = history.judged()
    assert (len(judged), last) == (12, 5)
    assert judged[clip_key("0003 a.wav", f"{3:064x}")] == judged[clip_key("0003 a.wav")] == 1e9 + 3
    assert history.judged(after=3) == ({k: t for k, t in judged.items() if t >= 1e9 + 4}, 5)
    frame = table.to_pandas()
    assert frame["time"].iloc[0].timestamp() == 1e9
    assert list(frame["decision"]) == [0, 0, 1, 1, 1, 1]


def test_a_clip_that_could_not_be_judged_has_no_figures(tmp_path: Path) -> None:
    history = History(tmp_path)
    nothing = {"score": None, "threshold": None, "p_value": None, "decision": None}
    history.append([_judgement(0, **nothing, sentence="cut short")], {})
    assert history.read()["decision"].to_pylist() == [None]


def test_an_empty_history(tmp_path: Path) -> None:
    history = History(tmp_path / "none")
    assert history.read().num_rows == 0
    assert (history.state(), history.judged()) == ({}, ({}, -1))


def test_files_become_one_and_a_kill_in_between_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = _filled(tmp_path, 4)
    before = history.read()
    parts = {path.name: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    history.compact()
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["0000000000-0000000007.parquet"]
    assert history.read() == before
    for name, data in list(parts.items())[:2]:  # as if killed while removing them
        (tmp_path / name).write_bytes(data)
    assert history.read() == before
    monkeypatch.setattr(module, "_COMPACTED", 2)
    history.append([_judgement(8)], {"clips": 9})
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert (history.read().num_rows, history.state()) == (9, {"clips": 9})


def test_a_missing_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    history = _filled(tmp_path, 3)
    path = tmp_path / "0000000002-0000000003.parquet"
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(AsdError, match="2 to 3 are missing"):
        history.read()
    for damaged in (whole[:-20], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]):
        path.write_bytes(damaged)
        with pytest.raises(AsdError, match="is damaged"):
            history.read()


def test_a_history_of_before_windows_were_counted_is_read(tmp_path: Path) -> None:
    _filled(tmp_path, 1)
    (path,) = tmp_path.glob("*.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["windows"]), path)
    history = History(tmp_path)
    history.append([_judgement(2, windows=3)], {})
    history.compact()
    assert history.read()["windows"].to_pylist() == [1, 1, 3]
