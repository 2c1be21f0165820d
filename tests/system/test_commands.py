"""Every command: what it loads before it is asked to work, what it says, and by which name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cache.asd import VERBS, main, page
from extractors.run import main as extract
from index.run import main as build
from tests.conftest import PATIENCE, write_clip

REPOSITORY = Path(__file__).parents[2]
# Each takes from a third of a second to several.
HEAVY = ("torch", "torchaudio", "transformers", "scipy.stats", "sklearn", "pandas", "imblearn",
         "accelerate", "peft", "matplotlib", "ray")  # fmt: skip
# Each a twentieth to a fifth, which a stage needs and a help page does not.
OF_STAGES = ("pyarrow", "faiss", "requests", "filelock", "tqdm", "pydantic", "fastapi", "uvicorn")
LOADED = """
import sys
try:
    exec(sys.argv.pop(1))
except SystemExit:
    pass
print("loaded", *sys.modules, file=sys.stderr)
"""


def loaded_by(code: str, *arguments: object, among: Sequence[str] = HEAVY) -> list[str]:
    """Of these modules, those that are loaded once code has run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, code, *map(str, arguments)],
        check=True, text=True, capture_output=True, timeout=PATIENCE, cwd=REPOSITORY,
    )  # fmt: skip
    loaded = done.stderr.splitlines()[-1].split()[1:]
    return [name for name in among if name in loaded]


def test_help_and_a_wrong_option_load_nothing_heavy() -> None:
    """Of all verbs in one process: what none of them loads, no single one does."""
    inner = [["cache", "ls"], ["fetch"], ["weights", "fetch"], ["bank", "add"], ["bank", "log"]]
    calls = [*([verb] for group in VERBS.values() for verb in group), *inner]
    code = f"""
from cache.asd import main
for call in {calls}:
    try:
        main([*call, "--help"])
    except SystemExit as done:
        assert not done.code
    assert call == ["check"] or main([*call, "--no-such-option"]) == 2  # which looks for a bank first
"""
    assert loaded_by(code, among=(*HEAVY, *OF_STAGES)) == []


def test_a_wrong_folder_and_a_wrong_value_load_nothing_heavy(tmp_path: Path) -> None:
    code = "from {} import main; main(sys.argv[1:])"
    assert loaded_by(code.format("index.run"), "--cache-dir", tmp_path / "none") == []
    assert loaded_by(code.format("cache.run"), "ls", "--cache-dir", tmp_path / "none") == []
    assert loaded_by(code.format("extractors.run"), "--backbone", "logmle") == []
    assert loaded_by(code.format("extractors.run"), "--data", tmp_path / "none") == []
    assert loaded_by(code.format("finetune.run"), "--data", "x", "--out", "a.pt") == []


def test_no_network_is_loaded_where_none_computes(tmp_path: Path) -> None:
    """Extraction, building and scoring of front ends in NumPy; networks and figures are seconds each."""
    for i in range(12):
        write_clip(tmp_path / "data" / "pump" / "normal" / f"{i:02d}.wav", i)
    for i in range(3):
        write_clip(tmp_path / "data" / "pump" / "new" / f"{i}.wav", 100 + i)
    data, cache, bank = tmp_path / "data", tmp_path / "cache", tmp_path / "bank"
    networks = {"torch", "torchaudio", "transformers", "accelerate", "peft", "matplotlib", "ray", "imblearn"}
    code = "from cache.asd import main; assert main(sys.argv[1:]) == 0"
    extract_both = ("extract", "--data", data, "--cache-dir", cache, "--backbone", "logmel", "logspec")
    assert networks.isdisjoint(loaded_by(code, *extract_both))
    chosen = ("--cache-dir", cache, "--backbone", "logmel", "--scorer", "min-distance")
    assert networks.isdisjoint(loaded_by(code, "build", *chosen, "--bank", bank))
    # pyarrow loads pandas, where that is installed, when it makes an array.
    scored = loaded_by(code, "score", "--bank", bank, "--data", data, "--out", tmp_path / "r", "--no-report",
                       "--cache-dir", tmp_path / "other")  # fmt: skip
    assert set(scored) <= {"pandas"}
    # What is different is told of flagged clips alone; their spectra are SciPy's, which loads its statistics.
    assert set(loaded_by(code, "check", bank, data / "pump" / "new")) <= {"pandas", "scipy.stats"}
    face = "from machine_asd import Detector; Detector.load(sys.argv[1]).score(sys.argv[2])"
    assert set(loaded_by(face, bank, data / "pump" / "new")) <= {"pandas"}


def test_the_page_is_ten_lines_and_every_verb_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 0
    said = capsys.readouterr().out
    assert said == 2 * (page() + "\n")
    assert len(page().splitlines()) == 10
    verbs = {name for group in VERBS.values() for name in group}
    wanted = "extract build score judge run check fetch weights train synthesise baseline bank cache"
    assert {*wanted.split(), "doctor", "demo"} <= verbs
    assert all(f" {verb}: " in said for verb in verbs)


@pytest.mark.parametrize(
    "verb",
    sorted(name for group in VERBS.values() for name, verb in group.items()
           if not verb.target.startswith(("eval.run", "eval.baselines"))),
)  # fmt: skip
def test_usage_lines_name_the_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: asd {verb} ")
    assert "python -m" not in said.split("\n\n")[0]


def test_a_verb_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extrakt"]) == 2
    assert capsys.readouterr().err.startswith("error: asd has no verb 'extrakt'; did you mean 'extract'?")


def test_it_works_beside_files_of_the_same_names(root: Path, tmp_path: Path) -> None:
    for name in ("cache", "eval", "index", "extractors", "finetune"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for another module')\n")
    # What pip writes for an entry point; the folder of the script, not the user's, is searched.
    script = tmp_path / "bin" / "asd"
    script.parent.mkdir()
    script.write_text("import sys\nfrom cache.asd import main\nsys.exit(main())\n")
    for arguments in (
        ["extract", "--data", root, "--cache-dir", "a"],
        ["build", "--cache-dir", "a"],
    ):
        done = subprocess.run(
            [sys.executable, script, *map(str, arguments)], cwd=tmp_path, check=False, text=True,
            capture_output=True, timeout=PATIENCE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_json_is_an_object_a_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "fan" / "train" / "section_00_source_train_normal_0098_speed_0.wav").write_bytes(b"x")
    where = ["--cache-dir", str(tmp_path / "a"), "--json"]
    assert extract(["--data", str(root), *where]) == 1
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    (fault,) = (row["fault"] for row in rows if "fault" in row)
    assert "0098" in fault
    assert fault in said.err
    (made,) = (row for row in rows if "made" in row)
    assert (made["left_out"], made["changed"]) == (1, 0)
    assert made["new"] == made["clips"] - 1
    assert Path(made["made"]).is_dir()
    assert build(where) == 0
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert row["scorer"] == "fusion"
    assert Path(row["made"]).is_dir()


def test_quiet_says_nothing_but_what_is_wrong(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--cache-dir", str(tmp_path / "a"), "--quiet"]
    assert extract(["--data", str(root), "--backbone", "efficientat:mn01", "--weights", "random",
                    *where]) == 0  # fmt: skip
    assert build(where) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
    assert extract(["--data", str(tmp_path / "none"), *where]) == 2
    assert capsys.readouterr().err.startswith("error: ")
