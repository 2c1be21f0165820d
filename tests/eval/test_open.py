"""The page of a results folder is found and shown, or it is said where it is."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.verbs import open_page as main


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was asked to show."""
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)
    return asked


def page(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<html>")
    return folder / "report.html"


def test_the_page_of_a_folder_is_shown(
    tmp_path: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = page(tmp_path / "results of May")
    assert main([str(made.parent)]) == 0
    assert main([str(made)]) == 0
    assert shown == [made.as_uri()] * 2
    monkeypatch.chdir(made.parent.parent)
    made.parent.rename("results")
    assert main([]) == 0
    assert shown[2] == (tmp_path / "results" / "report.html").as_uri()


def test_of_one_run_below_the_page_is_shown_and_of_several_it_is_asked(
    tmp_path: Path, shown: list[str], error_of: Callable[..., str]
) -> None:
    made = page(tmp_path / "a")
    assert main([str(tmp_path)]) == 0
    assert shown == [made.as_uri()]
    page(tmp_path / "b")
    assert "holds 2 pages; name one" in error_of(main, tmp_path)


def test_where_there_is_none_a_remedy_is_told(tmp_path: Path, error_of: Callable[..., str]) -> None:
    assert "score again without --no-report" in error_of(main, tmp_path)
    assert "is no folder" in error_of(main, tmp_path / "absent")


def test_without_a_browser_the_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = page(tmp_path / "results")
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    assert main([str(made.parent)]) == 0
    assert capsys.readouterr().out == f"no browser here; open {made} in one\n"
