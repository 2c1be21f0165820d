"""Versions of a bank's folder: kept, brought back byte by byte, whole after a kill at any write."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.base.errors import AsdError
from index import versions
from index.versions import Versions, was_changed


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(root).parts)
    }


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    root = tmp_path / "a bank"
    for name in ("pump/section_00/record.json", "pump/section_00/state-1.npz", "tables/x.parquet"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"first {name}")
    return root


def work(copy: Path, text: str) -> None:
    section = copy / "pump" / "section_00"
    (section / "record.json").write_text(f"{text} record")
    for path in section.glob("*.npz"):
        path.unlink()
    (section / f"state-{text}.npz").write_text(text)
    (copy / "fan").mkdir(exist_ok=True)
    (copy / "fan" / f"{text}.txt").write_text(text)


def change(root: Path, text: str) -> None:
    with Versions(root).change("add", f"because {text}", {}) as copy:
        work(copy, text)


def test_undo_goes_back_one_by_one_and_to_any_version(bank: Path) -> None:
    states = [content(bank)]
    for text in ("2", "3"):
        change(bank, text)
        states.append(content(bank))
    assert len({str(sorted(state.items())) for state in states}) == 3
    history = Versions(bank)
    assert [one.action for one in history.log()] == ["built", "add", "add"]
    third = history.current()
    for state in (states[1], states[0]):
        history.restore()
        assert content(bank) == state
    with pytest.raises(AsdError, match="nothing was done before"):
        history.restore()
    history.restore(third[:6], "it was right")
    assert content(bank) == states[2]
    assert history.log()[-1].because == "it was right"
    history.restore()  # of what was brought back, the one before
    assert content(bank) == states[1]
    assert not (bank / "fan" / "3.txt").exists()


def test_what_changes_nothing_is_no_version(bank: Path) -> None:
    with Versions(bank).change("calibrate", "x", {}):
        pass
    assert [one.action for one in Versions(bank).log()] == ["built"]


def test_a_bank_that_was_built_anew_is_a_version_of_its_own(bank: Path) -> None:
    change(bank, "2")
    (bank / "pump" / "section_00" / "record.json").write_text("built anew")
    built = content(bank)
    change(bank, "3")
    assert was_changed(bank).endswith("(add, add)")
    Versions(bank).restore()
    assert content(bank) == built
    assert was_changed(bank) == was_changed(bank / "pump") == ""


def test_prune_keeps_the_log_and_what_is_there(bank: Path) -> None:
    for text in "234":
        change(bank, text)
    history = Versions(bank)
    first, *_ = history.log()
    now = content(bank)
    gone = history.prune(2)
    assert gone == [one.hash for one in history.log()[:2]]
    assert content(bank) == now
    with pytest.raises(AsdError, match="was pruned"):
        history.restore(first.hash)
    history.restore()
    kept = {sha for one in history.log() for sha in (one.files or {}).values()}
    assert {path.name for path in (bank / ".versions" / "objects").iterdir()} == kept
    with pytest.raises(AsdError, match="0 versions begin with 'zz'"):
        history.restore("zz")


def test_a_change_that_is_killed_at_any_write_is_finished_or_never_was(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    change(bank, "2")
    before = content(bank)
    write, written = versions.write_atomic, 0
    for after in (False, True):
        for place in range(40):
            written = 0

            def dying(path: Path, data: bytes) -> None:
                nonlocal written
                written += 1
                if written > place and not after:  # noqa: B023
                    raise Killed
                write(path, data)
                if written > place:  # noqa: B023
                    raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(versions, "write_atomic", dying)
                try:
                    change(bank, "3")
                    break
                except Killed:
                    pass
            Versions(bank).prune(100)  # anything that changes it finishes first
            found = content(bank)
            if found != before:
                assert sorted(found) == [
                    "fan/2.txt", "fan/3.txt", "pump/section_00/record.json",
                    "pump/section_00/state-3.npz", "tables/x.parquet",
                ]  # fmt: skip
                Versions(bank).restore()
            assert content(bank) == before
        else:
            pytest.fail("it never ended")
        Versions(bank).restore()
        assert content(bank) == before
