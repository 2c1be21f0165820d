"""A bank as a folder of its own: the scores of the bank, with NumPy and onnxruntime alone."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cache.base.errors import AsdError
from eval.export.bank import export
from eval.export.standalone import read_wav
from eval.request import ExportRequest
from eval.verbs import export as main
from extractors.embedding import runners
from machine_asd import Detector
from tests.conftest import PATIENCE, RATE, write_clip
from tests.helpers.small_models import write_beats

# The interpreter of the tests, in which nothing is to be had but NumPy and, where said, onnxruntime.
_ALONE = """
import builtins, runpy, sys
real, allowed = builtins.__import__, set(sys.argv[1].split(",")) | set(sys.stdlib_module_names)
def alone(name, globals=None, locals=None, fromlist=(), level=0):
    top = name.partition(".")[0]
    asks = (globals or {}).get("__name__", "").partition(".")[0]
    if level == 0 and top not in allowed and asks not in ("numpy", "onnxruntime"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = alone
sys.argv = sys.argv[2:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_OURS = "cache,extractors,index"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal recordings of a machine, and new ones, of a second each."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(14):
        write_clip(folder / "normal" / f"{i:02d}.wav", i, 1.0)
    for i in range(3):
        write_clip(folder / "new" / f"{i}.wav", 50 + i, 1.0)
    loud = np.random.default_rng(9).normal(0, 0.3, RATE) * np.sin(np.arange(RATE) / 7)
    soundfile.write(folder / "new" / "loud.wav", loud, RATE, subtype="PCM_24")
    return folder


def told(folder: Path, *arguments: object, onnxruntime: bool = False) -> subprocess.CompletedProcess[str]:
    """Call a folder's ``score.py`` from elsewhere, with nothing installed that it does not ask for."""
    allowed = f"numpy,{_OURS}{',onnxruntime' if onnxruntime else ''}"
    command = [sys.executable, "-P", "-S", "-c", _PATHS + _ALONE, allowed, folder / "score.py", *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False)


# Without `site`, nothing of the checkout is on the path; NumPy's own folder is put there alone.
_PATHS = f"import sys; sys.path.append({str(Path(np.__file__).parents[1])!r})\n"


def scores(folder: Path, clips: Path, *, onnxruntime: bool = False) -> tuple[list[float], list[int]]:
    done = told(folder, *sorted(clips.iterdir()), onnxruntime=onnxruntime)
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == "clip,score,decision"
    rows = [line.rsplit(",", 2) for line in lines]
    assert [row[0] for row in rows] == [str(clip) for clip in sorted(clips.iterdir())]
    return [float(row[1]) for row in rows], [int(row[2]) for row in rows]


def saved(detector: Detector, sounds: Path, place: Path) -> tuple[list[float], list[int]]:
    """Fit a detector, save its bank, and give what it says of the new recordings."""
    detector.fit(sounds / "normal")
    results = detector.score(sounds / "new")
    detector.save(place)
    ordered = sorted(results.clips, key=lambda clip: clip.clip)
    return [clip.score for clip in ordered], [int(clip.decision or 0) for clip in ordered]


@pytest.mark.parametrize(
    ("backbone", "scorer"),
    [
        ("logspec", "fusion"),  # what the project takes when nothing is said
        ("logspec", "pooled"),
        ("logspec", "min-distance"),
        ("logmel", "ldn"),
        ("logmel", "mahalanobis"),
        ("logmel", "kmeans"),
        ("logmel", "varmin"),
    ],
)
def test_scores_are_the_banks_with_numpy_alone(
    sounds: Path, tmp_path: Path, backbone: str, scorer: str
) -> None:
    expected, decided = saved(Detector(backbone, scorer), sounds, tmp_path / "bank")
    done = export(ExportRequest(bank=tmp_path / "bank", out=tmp_path / "edge"))
    assert done.sections == ("machine/section_00",)
    found, decisions = scores(tmp_path / "edge", sounds / "new")
    assert np.abs(np.subtract(found, expected)).max() <= 1e-4 * np.ptp(expected)
    assert decisions == decided
    assert not list((tmp_path / "edge").rglob("*.faiss"))
    assert (tmp_path / "edge" / "README.md").read_text().count("\n") <= 7


@pytest.mark.parametrize("name", ["logmel:cnn", "beats"])
def test_a_network_is_one_graph_with_its_front_end(sounds: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    weights = ("random",) if name != "beats" else (str(write_beats(tmp_path / "beats.pt")),)
    expected, decided = saved(Detector(name, weights=weights), sounds, tmp_path / "bank")
    export(ExportRequest(bank=tmp_path / "bank", out=tmp_path / "edge", seconds=1.0, weights=weights))
    found, decisions = scores(tmp_path / "edge", sounds / "new", onnxruntime=True)
    assert np.abs(np.subtract(found, expected)).max() <= 1e-4 * np.ptp(expected)
    assert decisions == decided
    short = write_clip(tmp_path / "short.wav", 1, 0.5)
    refused = told(tmp_path / "edge", short, sounds / "new" / "0.wav", onnxruntime=True)
    assert refused.returncode == 1
    assert "0.5 s long; expected 1 s, the length that the bank was exported for" in refused.stderr
    assert len(refused.stdout.splitlines()) == 2  # the other clip is scored


def test_a_graph_unlike_torchs_network_is_refused(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    saved(Detector("logmel:cnn", weights=("random",)), sounds, tmp_path / "bank")
    monkeypatch.setattr(runners, "runner", lambda *_: lambda _: [np.ones((1, 256), np.float32)])
    request = ExportRequest(bank=tmp_path / "bank", out=tmp_path / "e", seconds=1.0, weights=("random",))
    with pytest.raises(AsdError, match="logmel cannot be exported: its graph differs by .* at most 1e-04"):
        export(request)


@pytest.fixture(scope="module")
def edge(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("edge")
    saved(Detector("logmel", "min-distance"), sounds, place / "bank")
    assert main([str(place / "bank"), str(place / "edge")]) == 0
    return place / "edge"


def test_what_cannot_be_scored_is_named(edge: Path, sounds: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.wav", 1, 1.0, rate=22_050)
    (tmp_path / "no.wav").write_bytes(b"RIFF")
    done = told(edge, other, tmp_path / "no.wav", sounds / "new" / "0.wav")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    assert "other.wav: 22050 Hz; record at 16000 Hz, or pip install soxr" in done.stderr
    assert "no.wav: " in done.stderr
    assert told(edge).returncode == 2
    refused = told(edge, "--section", "fan/section_03", sounds / "new" / "0.wav")
    assert (refused.returncode, "the bank holds machine/section_00" in refused.stderr) == (2, True)


def test_a_damaged_folder_is_refused(edge: Path, sounds: Path) -> None:
    record = json.loads((edge / "bank.json").read_text())
    assert set(record["files"]) == {p.relative_to(edge).as_posix() for p in edge.rglob("*.*")} - {"bank.json"}
    path = edge / record["sections"]["machine/section_00"]["file"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"\0" + whole[-8:])
    try:
        done = told(edge, sounds / "new" / "0.wav")
    finally:
        path.write_bytes(whole)
    assert (done.returncode, "is damaged: its SHA-256 is another" in done.stderr) == (2, True)


def test_a_scorer_that_needs_the_other_clips_is_refused(
    sounds: Path, tmp_path: Path, error_of: Callable[..., str]
) -> None:
    Detector("logmel", "genrep").fit(sounds / "normal").save(tmp_path / "bank")
    said = error_of(main, tmp_path / "bank", tmp_path / "edge")
    assert "scorer genrep cannot be exported: its scores depend on the other clips of a call" in said
    assert "these can: beam, " in said
    assert "genrep" not in said.partition("these can")[2]
    assert not (tmp_path / "edge").exists()


def test_other_mistakes(
    edge: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: Callable[..., str]
) -> None:
    assert "is not empty; name a new folder" in error_of(main, edge.parent / "bank", edge)
    with monkeypatch.context() as without:
        without.setattr("extractors.pooling.IN_NUMPY", {"max": None})
        said = error_of(main, edge.parent / "bank", tmp_path / "edge")
    assert "pooling mean of logmel cannot be exported: it needs torch; these can: native, max" in said
    Detector("logmel", window=0.5).fit(sounds / "normal").save(tmp_path / "windows")
    said = error_of(main, tmp_path / "windows", tmp_path / "edge")
    assert "logmel: recordings heard as window_s=0.5, hop_s=0.5 cannot be exported" in said


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_is_read_alike_with_and_without_soundfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    kind = {1: "PCM_U8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}[width]
    values = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    soundfile.write(tmp_path / "a.wav", values, 8000, subtype=kind)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getsampwidth() == width
    expected, rate = read_wav(tmp_path / "a.wav")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    found, other = read_wav(tmp_path / "a.wav")
    assert (other, found.shape, found.dtype) == (rate, (400, 2), np.float32)
    assert np.array_equal(found, expected)
