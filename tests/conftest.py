"""Data sets and tables made for the tests; the real recordings where they are at hand."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

from cache.base.progress import PACKAGES
from cache.files.atomic import file_sha256
from cache.recipe import Recipe
from cache.table import ClipKey, EmbeddingTable, Section
from extractors.weights.published import EFFICIENTAT
from tests.helpers.bad_server import BadServer

RATE = 16_000
PATIENCE = 900  # seconds; reached only where something hangs
# Every run tries the same examples; `--hypothesis-profile default` tries others each time.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
_HERE = ("127.0.0.1", "localhost", "::1", "")


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test looks up another machine, fetches anything unasked or touches what others see."""
    look_up = socket.getaddrinfo

    def local(host: str | None, *rest: object, **named: object) -> object:
        if host is not None and host not in _HERE:
            raise AssertionError(f"a test wants to reach {host}")
        return look_up(host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", local)
    monkeypatch.setenv("ASD_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # commands set it
    monkeypatch.setenv("ASD_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setattr("cache.base.processors._Taken.shared", False)  # a command shares for its process
    yield
    for name in PACKAGES:  # a command that was quiet leaves them so
        logging.getLogger(name).setLevel(logging.NOTSET)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that hold tests marked slow, so that none of them is left for the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def make_recipe(**changes: object) -> Recipe:
    fields = {"backbone": "logmel", "layer": 0, "pooling": "mean", "bands": "merge"}
    return Recipe(**{**fields, "sample_rate": RATE, **changes})  # type: ignore[arg-type]


def make_table(
    embeddings: Sequence[Sequence[float]] | np.ndarray,
    domains: Sequence[str | None] | None = None,
    *,
    section: Section | None = None,
    split: str = "train",
    name: str = "logmel",
) -> EmbeddingTable:
    values = np.asarray(embeddings, dtype=np.float32)
    section = section or Section("fan", 0)
    domains = domains or ["source"] * len(values)
    keys = tuple(
        ClipKey(f"{section.machine_type}/{split}/{i:04d}.wav", f"{i:064x}", domain, "normal", {})
        for i, domain in enumerate(domains)
    )
    return EmbeddingTable(section, split, keys, values, {name: (0, values.shape[1])})


def write_clip(path: Path, seed: int, seconds: float = 0.2, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def write_root(root: Path, machine: str = "fan", source: int = 6, target: int = 2) -> Path:
    """A small development root: training clips of both domains, one test clip a kind."""
    seed = 0
    for domain, count in (("source", source), ("target", target)):
        for i in range(count):
            name = f"section_00_{domain}_train_normal_{i:04d}_speed_{i % 2}.wav"
            write_clip(root / machine / "train" / name, seed := seed + 1, 0.2 + 0.1 * (i % 2))
        for condition in ("normal", "anomaly"):
            name = f"section_00_{domain}_test_{condition}_0000_speed_0.wav"
            write_clip(root / machine / "test" / name, seed := seed + 1)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "data")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with ``dev_data``, ``eval_data`` and ``ground_truth`` of real recordings."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ASD_TEST_DATA", default))
    if not (folder / "dev_data").is_dir():
        pytest.skip(f"no real recordings in {folder}; name their folder in ASD_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """The published EfficientAT mn04."""
    default = Path(__file__).parents[2] / "shared" / "weights"
    folder = Path(os.environ.get("ASD_TEST_WEIGHTS", default))
    path = folder / EFFICIENTAT[0].file
    if not path.is_file():
        pytest.skip(f"no {path.name} in {folder}; name its folder in ASD_TEST_WEIGHTS")
    assert file_sha256(path) == EFFICIENTAT[0].sha256
    return path


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must fail by the user's mistake; return what it said."""

    def run(main: Callable[[list[str]], int], *arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    """A server on this machine, and leave to fetch from it without pauses between tries."""
    monkeypatch.delenv("ASD_OFFLINE", raising=False)
    monkeypatch.setattr("extractors.fetching.http._PAUSE", 0.0)
    running = BadServer()
    yield running
    running.stop()
