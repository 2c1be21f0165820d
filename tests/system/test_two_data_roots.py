"""One data root after another, same cache, same results folder: as if the first had never been."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.baselines.run import main as baselines
from eval.run import main as evaluate
from extractors.run import main as extract
from index.run import main as build
from tests.conftest import write_clip, write_root

Call = Callable[[Path, Path, Path], None]
_FAST = ["--no-report", "--set", "scorer.name=min-distance"]


def sites(folder: Path) -> tuple[Path, Path]:
    """Two sites: both have a `pump`, of the second only its own clips, and a machine each."""
    first, second = folder / "first", folder / "second"
    write_root(first, "pump", source=9)
    write_root(first, "fan")
    write_root(second, "pump")
    write_root(second, "saw")
    for number, path in enumerate(sorted((second / "pump").rglob("*.wav"))):
        write_clip(path, 500 + number)
    # A clip of the second site's own, and one that it lacks.
    write_clip(second / "pump" / "test" / "section_00_source_test_normal_0007_speed_0.wav", 999)
    (second / "pump" / "test" / "section_00_target_test_anomaly_0000_speed_0.wav").unlink()
    return first, second


def experiment(data: Path, cache: Path, out: Path) -> None:
    where = ["--data", str(data), "--cache-dir", str(cache), "--out", str(out)]
    assert evaluate(["logmel", *where, *_FAST]) == 0


def three_commands(data: Path, cache: Path, out: Path) -> None:
    where = ["--cache-dir", str(cache)]
    assert extract(["--data", str(data), *where]) == 0
    assert build(["--scorer", "min-distance", *where]) == 0
    told = ["--scorer", "min-distance", *where, "--audio", str(data), "--out", str(out)]
    assert evaluate([*told, "--listen", "1"]) == 0


def new_clips(data: Path, cache: Path, out: Path) -> None:
    bank = cache.parent / f"bank_of_{out.name}"
    where = ["--cache-dir", str(cache)]
    extract(["--data", str(data), *where])
    assert build(["--scorer", "min-distance", "--bank", str(bank), "--rebuild", *where]) == 0
    told = ["--bank", str(bank), "--data", str(data), "--out", str(out), *where]
    assert evaluate([*told, "--no-report"]) == 0
    shutil.rmtree(bank)


def autoencoder(data: Path, cache: Path, out: Path) -> None:
    where = ["--data", str(data), "--cache-dir", str(cache), "--out", str(out), "--jobs", "1"]
    assert baselines(["--mode", "mse", "--epochs", "2", "--seeds", "0", "--no-report", *where]) == 0


def contents(out: Path) -> dict[str, object]:
    """What every file says, but for commands, places and digests."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not path.is_file() or path.name in (".lock", "SHA256SUMS", "experiment.json"):
            continue
        if path.suffix == ".json" and "bank/" not in name:
            told = json.loads(path.read_text())
            told.get("facts", {}).clear()
            for system in told.get("systems", []):
                system["runs"] = len(system["runs"])
            found[name] = told
        elif path.suffix in (".md", ".html", ".json"):
            found[name] = None  # of the same figures; their facts name places
        else:
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("call", [experiment, three_commands, new_clips, autoencoder])
def test_a_run_after_another_sites_is_as_a_first_run(tmp_path: Path, call: Call) -> None:
    first, second = sites(tmp_path)
    cache, out = tmp_path / "cache", tmp_path / "out"
    call(first, cache, out)
    call(second, cache, out)
    call(second, tmp_path / "fresh", tmp_path / "alone")
    after, alone = contents(out), contents(tmp_path / "alone")
    assert after.keys() == alone.keys()
    assert [name for name in after if after[name] != alone[name]] == []
    scored = {match[1] for name in after if (match := re.search(r"anomaly_score_(\w+)_sec", name))}
    assert scored == {"pump", "saw"}
