"""Signals of bearing-datasets as clips: a built set in the layout that its README tells."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.run import main as evaluate
from extractors.audio.decode import read_audio
from extractors.clips.listing import list_clips
from extractors.data.run import main

ErrorOf = Callable[..., str]
RATE = 8_000


_BUILDER = """
import numpy as np
CHANNELS = {"DE": {"sensor_location": "test_bearing", "quantity": "acceleration", "unit": "g"}}

def recordings(raw):
    for path in sorted(raw.rglob("*.txt")):
        bad = path.stem.startswith("bad")
        yield {"recording_id": path.stem, "native_label": path.stem[:3], "fs": 8000,
               "fault_type": "inner" if bad else "normal",
               "fault_location": "test_bearing" if bad else "none",
               "signals": {"DE": np.loadtxt(path)}}
"""


def signal(fault: bool, seed: int) -> np.ndarray:
    """A shaft's hum, 0.5 s; a faulty bearing rings every 20 ms."""
    rng, t = np.random.default_rng(seed), np.arange(RATE // 2) / RATE
    wave = np.sin(2 * np.pi * 30 * t) + 0.05 * rng.standard_normal(len(t))
    return wave + fault * np.sin(2 * np.pi * 2_500 * t) * np.exp(-300 * (t % 0.02))


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set as bearing-datasets 0.3 lays it down: two channels, eight recordings normal, four not."""
    folder = tmp_path / "built" / "rig"
    (folder / "signals").mkdir(parents=True)
    rows, lists = [], []
    for number in range(12):
        fault = number >= 8
        for channel, unit in (("DE", "g"), ("FE 2", "unknown")):
            values = signal(fault, number + 100 * (unit == "g"))
            name = f"run{number:02d}"
            lists.append((f"{name}/{channel}", values))
            rows.append({
                "dataset": "rig", "signal_id": f"{name}/{channel}", "recording_id": name,
                "native_label": "IR" if fault else "N", "channel": channel, "sensor_location": "test_bearing",
                "fs": RATE, "n_samples": len(values), "fault_type": "inner" if fault else "normal",
                "fault_location": "test_bearing" if fault else "none", "sensor_at_fault": fault, "unit": unit,
                "speed_rpm": 1800.0, "load": 2.5, "load_unit": "kN", "signal_file": "part-float64.parquet",
                "signal_row_group": len(rows) // 10, "signal_row": len(rows) % 10,
            })  # fmt: skip
    writer: pq.ParquetWriter | None = None
    for first in range(0, len(lists), 10):
        some = lists[first : first + 10]
        table = pa.table({"signal_id": [i for i, _ in some], "signal": pa.array([v for _, v in some])})
        writer = writer or pq.ParquetWriter(folder / "signals/part-float64.parquet", table.schema)
        writer.write_table(table, row_group_size=len(some))
    assert writer is not None
    writer.close()
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet")
    about = {"dataset": "rig", "title": "A rig", "license": "CC BY 4.0", "citation": "Ours,\n 2026",
             "schema_version": 2}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(about))
    monkeypatch.setenv("BEARING_DATASETS_ROOT", str(folder.parent))
    return folder


@pytest.mark.usefixtures("built")
def test_every_signal_is_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "bearing:rig", "--to", str(tmp_path / "data")]) == 0
    said = capsys.readouterr()
    assert said.err.index("Licence: CC BY 4.0") < said.err.index("Cite: Ours, 2026")
    assert "24 signals" in said.out
    clips = list_clips([tmp_path / "data/rig/manifest.csv"]).clips
    found = {(c.section.machine_type, c.split, c.condition) for c in clips}
    assert found == {
        (f"rig_{channel}", *kind)
        for channel in ("DE", "FE-2")
        for kind in (("train", "normal"), ("test", "normal"), ("test", "anomaly"))
    }
    clip = next(c for c in clips if c.clip_id == "rig_DE/run09.parquet")
    assert clip.condition == "anomaly"
    assert clip.attributes["load"] == "2.5"
    assert clip.attributes["speed_rpm"] == "1800"
    assert clip.attributes["fault_type"] == "inner"
    assert "signal_row" not in clip.attributes
    heard = read_audio(clip.path, RATE, signal=clip.signal)  # the rate stands in the file
    np.testing.assert_allclose(heard.samples, signal(True, 109), rtol=1e-6)
    assert pq.read_schema(clip.path).names == ["DE [g]"]
    assert (tmp_path / "data/rig/terms.txt").read_text().startswith("title: A rig\nlicense: CC BY 4.0\n")
    assert main(["check", str(tmp_path / "data/rig/manifest.csv")]) == 0
    assert "DE [g]; values up to" in capsys.readouterr().err


@pytest.mark.usefixtures("built")
def test_from_signals_to_scores(tmp_path: Path) -> None:
    assert main(["fetch", "bearing:rig", "--to", str(tmp_path / "data"), "--machine", "DE"]) == 0
    manifest = str(tmp_path / "data/rig/manifest.csv")
    out = ["--out", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    assert evaluate(["logmel", "--data", manifest, *out]) == 0
    scores = pd.read_csv(
        next((tmp_path / "results").rglob("anomaly_score_rig_DE*.csv")), header=None, names=["clip", "score"]
    )
    normal = scores["clip"].str.contains(r"run0[0-7]")
    assert len(scores) == 8
    assert scores[normal]["score"].max() < scores[~normal]["score"].min()


def test_a_channel_of_two_rates_is_two_machines(built: Path, tmp_path: Path) -> None:
    path = built / "metadata.parquet"
    table = pd.read_parquet(path)
    table.loc[table["recording_id"].isin(["run00", "run01", "run10"]), "fs"] = 4_000
    table.to_parquet(path)
    assert main(["fetch", "bearing:rig", "--to", str(tmp_path), "--machine", "DE"]) == 0
    clips = list_clips([tmp_path / "rig/manifest.csv"]).clips
    assert {c.section.machine_type for c in clips} == {"rig_DE_4000_Hz", "rig_DE_8000_Hz"}
    assert sum(c.section.machine_type == "rig_DE_4000_Hz" for c in clips) == 3


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("channel", "--machine XX: rig has the channels DE, FE 2"),
        ("version", "tables of version 1, 2 is read: build it anew with bearing-datasets build rig --force"),
        ("column", "no column fault_type"),
        ("samples", "where metadata.parquet says 7"),
        ("group", "is damaged"),
        ("elsewhere", "is damaged"),
        ("json", "manifest.json is damaged"),
    ],
)
def test_what_is_refused(damage: str, reason: str, built: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    table, about = pd.read_parquet(built / "metadata.parquet"), built / "manifest.json"
    if damage == "version":
        about.write_text('{"schema_version": 1}')
    elif damage == "json":
        about.write_text("{")
    elif damage == "column":
        table = table.drop(columns="fault_type")
    elif damage == "samples":
        table["n_samples"] = 7
    elif damage == "group":
        table["signal_row_group"] = 9
    elif damage == "elsewhere":
        (tmp_path / "part-other.parquet").write_bytes((built / "signals/part-float64.parquet").read_bytes())
        table["signal_file"] = "../../../part-other.parquet"
    table.to_parquet(built / "metadata.parquet")
    machine = ["--machine", "XX"] if damage == "channel" else []
    assert reason in error_of(main, "fetch", "bearing:rig", "--to", tmp_path / "to", *machine)


def test_without_the_package_only_what_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    monkeypatch.delenv("ASD_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "bearing_datasets", None)
    said = error_of(main, "fetch", "bearing:cwru", "--to", tmp_path)
    assert "pip install 'machine-asd[bearings]'" in said
    said = error_of(main, "fetch", "bearing:cwru", "--to", tmp_path, "--offline")
    assert f"bring the built set to {tmp_path}/archives/bearing-datasets/cwru" in said


def test_the_package_builds_a_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    building = pytest.importorskip(
        "bearing_datasets.build", reason="no bearing-datasets: pip install 'machine-asd[bearings]'"
    )
    monkeypatch.delenv("ASD_OFFLINE", raising=False)
    said = error_of(main, "fetch", "bearing:nonsense", "--to", tmp_path)
    assert "bearing-datasets has no 'nonsense'; it has" in said
    raw, rig = tmp_path / "raw", tmp_path / "rig"
    raw.mkdir()
    rig.mkdir()
    for number in range(6):
        np.savetxt(raw / f"{'bad' if number > 3 else 'good'}{number}.txt", signal(number > 3, number))
    (rig / "dataset.yaml").write_text(
        f"name: rig\ntitle: Ours\nlicense: CC0\ncitation: None\nsources:\n"
        f"  - {{type: local, path: {raw}, include: ['*.txt']}}\n"
    )
    (rig / "builder.py").write_text(_BUILDER)
    monkeypatch.setattr(building, "DATASETS_DIR", tmp_path)  # its own sets lie on other people's servers
    assert main(["fetch", "bearing:rig", "--to", str(tmp_path / "data")]) == 0
    assert "Licence: CC0" in capsys.readouterr().err
    clips = list_clips([tmp_path / "data/rig/manifest.csv"]).clips
    assert [clip.condition for clip in clips] == ["anomaly", "anomaly", *["normal"] * 4]
    heard = read_audio(clips[0].path, RATE).samples
    np.testing.assert_allclose(heard, signal(True, 4), rtol=1e-6)
