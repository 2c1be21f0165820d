"""Banks behind HTTP, asked over a socket: answers, limits, a full queue, tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile

from cache.base.errors import AsdError
from eval.detector import Detector
from eval.monitor import serve
from tests.conftest import PATIENCE, RATE, write_clip

uvicorn = pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    for i in range(30):
        write_clip(root / "normal" / f"n{i:02d}.wav", i, seconds=0.3)
    detector = Detector("logmel", scorer="min-distance", machine="pump").fit(root / "normal")
    detector.save(root / "other.bank")
    return detector.save(root / "pump.bank")


@contextmanager
def served(request: serve.ServeRequest) -> Iterator[str]:
    config = uvicorn.Config(serve.application(request), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def url(bank: Path) -> Iterator[str]:
    with served(serve.ServeRequest(banks=(bank,), megabytes=0.1)) as address:
        yield address


def hum() -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.1, int(0.3 * RATE))
    return np.asarray(noise + 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / RATE))


def test_a_file_and_its_samples_get_the_score_that_the_detector_gives(
    url: str, bank: Path, tmp_path: Path
) -> None:
    path = tmp_path / "2026-11-26T10-00-00.wav"
    soundfile.write(path, hum(), RATE, subtype="PCM_16")
    (wanted,) = Detector.load(bank).score(path)
    with path.open("rb") as file:
        told = requests.post(f"{url}/score", files={"file": (path.name, file)}, timeout=PATIENCE)
    assert told.status_code == 200, told.text
    answer = told.json()
    assert (answer["score"], answer["threshold"], answer["decision"]) == (wanted.score, wanted.threshold, 1)
    assert (answer["clip"], answer["time"]) == (path.name, "2026-11-26T10:00:00Z")
    assert answer["sentence"]
    samples, _ = soundfile.read(path, dtype="int16")
    for form, data in (("s16le", samples.astype("<i2")), ("f32le", (samples / 2**15).astype("<f4"))):
        query = {"rate": RATE, "format": form}
        raw = requests.post(f"{url}/score", params=query, data=data.tobytes(), timeout=PATIENCE)
        assert raw.json()["score"] == wanted.score
    plain = requests.post(f"{url}/score", data=path.read_bytes(), timeout=PATIENCE)
    assert plain.json()["score"] == wanted.score


def test_what_is_wrong_is_said_with_its_status(url: str) -> None:
    def status(data: bytes, **query: object) -> tuple[int, str]:
        answer = requests.post(f"{url}/score", params=query, data=data, timeout=PATIENCE)  # type: ignore[arg-type]
        return answer.status_code, answer.text

    for data, query, code, words in (
        (b"no sound", {}, 422, "not audio"),
        (b"", {}, 422, ""),
        (b"123", {"rate": 16000}, 422, "whole samples"),
        (b"1234", {"rate": 0}, 422, "rate 0"),
        (b"1234", {"rate": 8000, "format": "mp3"}, 422, "s16le"),
        (b"1234", {"rate": "fast"}, 422, ""),
        (b"12", {"bank": "none"}, 404, "pump.bank"),
        (b"12", {"machine": "fan"}, 422, "pump"),
        (b"0" * 200_000, {}, 413, "0.1 MB"),
    ):
        assert status(data, **query)[0] == code, (query, status(data, **query))
        assert words in status(data, **query)[1]
    chunked = requests.post(f"{url}/score", data=iter([b"0" * 50_000] * 5), timeout=PATIENCE)  # of no length
    assert chunked.status_code == 413
    form = requests.post(f"{url}/score", files={"sound": b"0"}, timeout=PATIENCE)
    assert (form.status_code, "`file`" in form.text) == (422, True)


def test_banks_health_metrics_and_the_page_of_the_interface(url: str) -> None:
    requests.post(f"{url}/score", params={"rate": RATE}, data=bytes(2 * RATE), timeout=PATIENCE)
    (told,) = requests.get(f"{url}/banks", timeout=PATIENCE).json()
    assert (told["name"], told["sections"][0]["machine_type"]) == ("pump.bank", "pump")
    assert requests.get(f"{url}/health", timeout=PATIENCE).json()["status"] == "ok"
    text = requests.get(f"{url}/metrics", timeout=PATIENCE).text
    assert 'asd_http_answers_total{status="200"}' in text
    assert 'asd_score_seconds_bucket{le="+Inf"}' in text
    paths = requests.get(f"{url}/openapi.json", timeout=PATIENCE).json()["paths"]
    assert "multipart/form-data" in paths["/score"]["post"]["requestBody"]["content"]


def test_a_full_queue_refuses_and_what_takes_long_is_given_up(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, judge = threading.Event(), serve._judge

    def slow(*arguments: object) -> object:
        going.wait(PATIENCE)
        return judge(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(serve, "_judge", slow)
    request = serve.ServeRequest(banks=(bank, bank.parent / "other.bank"), queue=2, patience=3.0)
    with served(request) as url, ThreadPoolExecutor(4) as clients:

        def post() -> int:
            query = {"rate": RATE, "bank": "pump.bank"}
            answer = requests.post(f"{url}/score", params=query, data=bytes(9600), timeout=PATIENCE)
            return answer.status_code

        codes = sorted(client.result() for client in [clients.submit(post) for _ in range(4)])
        assert codes == [429, 429, 503, 503]
        assert requests.get(f"{url}/health", timeout=PATIENCE).json()["waiting"] == 2
        going.set()
        while requests.get(f"{url}/health", timeout=PATIENCE).json()["waiting"]:
            time.sleep(0.02)
        assert post() == 200
        assert (
            requests.post(
                f"{url}/score", params={"rate": RATE}, data=bytes(9600), timeout=PATIENCE
            ).status_code
            == 422
        )


def test_a_token_and_who_may_listen(bank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(serve.TOKEN, raising=False)
    with pytest.raises(AsdError, match=serve.TOKEN):
        serve.ServeRequest(banks=(bank,), host="0.0.0.0")
    monkeypatch.setenv(serve.TOKEN, "s3cret")
    assert serve.ServeRequest(banks=(bank,), host="0.0.0.0").host == "0.0.0.0"
    with served(serve.ServeRequest(banks=(bank,))) as url:
        assert requests.get(f"{url}/health", timeout=PATIENCE).status_code == 200
        assert requests.get(f"{url}/banks", timeout=PATIENCE).status_code == 401
        known = {"Authorization": "Bearer s3cret"}
        assert requests.get(f"{url}/banks", headers=known, timeout=PATIENCE).status_code == 200
    with pytest.raises(AsdError, match="two banks are called"):
        serve.application(serve.ServeRequest(banks=(bank, bank)))
