"""The face: exactly what it says, nothing loaded before it is used, its examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import machine_asd
from cache.base.errors import AsdError

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("cache", "extractors", "finetune", "index", "eval")
STAGES = {
    stage: f"{stage.title()}Request"
    for stage in ("extract", "train", "build", "evaluate", "score", "judge", "report")
}
OTHERS = {"AsdError", "Bank", "ClipResult", "Detector", "Neighbour", "Results", "ResultsFolder",
          "Store", "list_backbones", "list_scorers"}  # fmt: skip
ANSWERS = {f"{stage.title()}Result" for stage in STAGES}


def test_it_is_exactly_that() -> None:
    assert set(machine_asd.__all__) == {*STAGES, *STAGES.values(), *ANSWERS, *OTHERS}
    assert machine_asd.__all__ == sorted(machine_asd.__all__) == dir(machine_asd)
    for name in machine_asd.__all__:
        assert inspect.getdoc(getattr(machine_asd, name)), name
    with pytest.raises(AttributeError, match="no 'Detektor'"):
        machine_asd.Detektor  # noqa: B018
    with pytest.raises(ImportError):
        exec("from machine_asd import find_bank")


def test_type_checkers_see_what_is_found() -> None:
    """What stands under TYPE_CHECKING and what is imported at use are the same objects."""
    tree = ast.parse((REPOSITORY / "machine_asd.py").read_text())
    told = {
        name.asname or name.name: getattr(importlib.import_module(node.module), name.name)
        for block in tree.body if isinstance(block, ast.If)
        for node in block.body if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }  # fmt: skip
    assert set(told) == set(machine_asd.__all__) - {"list_backbones", "list_scorers"}
    assert all(getattr(machine_asd, name) is value for name, value in told.items())


def test_importing_it_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import machine_asd; new = set(sys.modules) - before;"
        "print(*(name for name in new if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, capture_output=True, cwd=REPOSITORY
    )
    assert done.stdout.split() == ["machine_asd"]


def test_stages_take_a_request_and_say_nothing_of_command_lines() -> None:
    for stage, request in STAGES.items():
        function = getattr(machine_asd, stage)
        first, *others = inspect.signature(function, eval_str=False).parameters.values()
        assert first.annotation == request
        assert [other.name for other in others] in ([], ["told"])
        assert function.__module__.split(".")[-1] != "run"


def test_no_package_imports_it() -> None:
    """Import contracts know packages only, and it is none."""
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                )  # fmt: skip
                assert "machine_asd" not in names, path


def test_what_there_is_by_name() -> None:
    for names, few in (
        (machine_asd.list_backbones(), {"logmel", "logspec", "beats", "panns"}),
        (machine_asd.list_scorers(), {"min-distance", "fusion", "pooled"}),
    ):
        assert names == sorted(set(names))
        assert few <= set(names)
    with pytest.raises(AsdError, match="did you mean 'logmel'"):
        machine_asd.Detector("logmle")


@pytest.mark.parametrize("module", ["machine_asd", "eval.detector"])
def test_examples_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


def test_paths_may_be_text() -> None:
    request = machine_asd.ExtractRequest(data="my data", cache_dir="here")  # type: ignore[arg-type]
    assert (request.data, request.cache_dir) == ((Path("my data"),), Path("here"))
    several = machine_asd.ExtractRequest(data=("a", Path("b")))  # type: ignore[arg-type]
    assert several.data == (Path("a"), Path("b"))
    assert machine_asd.BuildRequest(bank="b").bank == Path("b")  # type: ignore[arg-type]
    assert machine_asd.BuildRequest().bank is None
