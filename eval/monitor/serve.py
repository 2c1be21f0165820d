"""Banks behind HTTP: recordings are posted, judgements come back; one is judged at a time, few wait."""

from __future__ import annotations

import asyncio
import hmac
import io
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import soundfile
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from cache.base.errors import AsdError
from cache.base.text import shown
from cache.files.atomic import scratch_folder
from cache.table import Section
from eval.detector import Detector
from eval.monitor.check import judge_arrivals
from eval.monitor.history import Judgement, facts_of
from eval.monitor.prometheus import Labelled, metric
from eval.monitor.request import TOKEN, ServeRequest
from eval.monitor.sources import Arrival, recorded_at
from extractors.clips.clip import AUDIO_SUFFIXES
from index.bank import locate

_FORMATS = {"s16le": "<i2", "f32le": "<f4"}
_OPEN = {"/health"}  # without a token
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # s, of the histogram


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class ScoreQuery(BaseModel):
    """Parameters of a request to judge: of which bank and machine, and what raw samples are."""

    bank: str | None = None
    machine: str | None = None
    rate: int | None = None
    channels: int = 1
    format: str = "s16le"
    words: bool = True

    def recording(self, data: bytes, rate: int) -> bytes:
        """Make a recording of raw samples."""
        channels, form = self.channels, self.format
        if form not in _FORMATS:
            raise HTTPException(422, f"format {form!r}; expected {' or '.join(_FORMATS)}")
        kind = np.dtype(_FORMATS[form])
        if not (1 <= channels <= 64 and 1 <= rate <= 1_000_000):
            raise HTTPException(
                422, f"rate {rate}, channels {channels}: expected 1 to 1000000 Hz and 1 to 64"
            )
        if not data or len(data) % (kind.itemsize * channels):
            raise HTTPException(
                422, f"{len(data)} bytes are no whole samples of {channels} channels of {form}"
            )
        buffer = io.BytesIO()
        subtype = "PCM_16" if form == "s16le" else "FLOAT"
        samples = np.frombuffer(data, kind).reshape(-1, channels)
        soundfile.write(buffer, samples, rate, subtype=subtype, format="WAV")
        return buffer.getvalue()


@dataclass
class _Service:
    """Banks with their models, and counts of the answers."""

    request: ServeRequest
    detectors: dict[str, Detector]
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "judge"))
    waiting: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    clips: Counter[str] = field(default_factory=Counter)
    took: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0

    async def guard(self, asked: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """Refuse requests without the token or above the size limit; count answers."""
        token, most = os.environ.get(TOKEN), self.request.megabytes
        given = asked.headers.get("authorization", "")
        known = not token or hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
        length = asked.headers.get("content-length", "")
        if not known and asked.url.path not in _OPEN:
            response: Response = JSONResponse({"detail": "send `Authorization: Bearer` with the token"}, 401)
        elif length.isdigit() and int(length) > most * 1e6:
            response = JSONResponse({"detail": f"more than {most:g} MB"}, 413)
        else:
            response = await answer(asked)
        self.answers[response.status_code] += 1
        return response

    async def health(self) -> dict[str, Any]:
        """Report that the service is up."""
        return {"status": "ok", "waiting": self.waiting, "banks": list(self.detectors)}

    def banks(self) -> list[dict[str, Any]]:
        """List the banks: machines, thresholds, versions, what their thresholds promise."""
        found = []
        for name, detector in self.detectors.items():
            bank = detector.bank
            recipe, sections = bank.recipe(), []
            for section in bank.sections():
                fitted = bank.read(section, recipe)
                limit = fitted.threshold.value
                sections.append(
                    {
                        "machine_type": section.machine_type,
                        "section": section.number,
                        "scorer": fitted.scorer_name,
                        "clips": dict(fitted.clips),
                        "threshold": limit if np.isfinite(limit) else None,
                        "bank": bank.fingerprint(section),
                        "cautions": list(detector.cautions(section)),
                    }
                )
            found.append({"name": name, "recipe": str(recipe), "sections": sections})
        return found

    async def metrics(self) -> Response:
        """Return counts of answers and clips in Prometheus' text format."""
        answers: Labelled = {(("status", str(code)),): float(count) for code, count in self.answers.items()}
        clips: Labelled = {(("decision", name),): float(count) for name, count in self.clips.items()}
        text = [
            metric("asd_http_answers_total", "counter", "Answers by status.", answers),
            metric("asd_served_clips_total", "counter", "Recordings by how they were judged.", clips),
            metric("asd_waiting", "gauge", "Recordings that wait or are judged.", {(): self.waiting}),
            metric("asd_score_seconds", "histogram", "Time to an answer of /score.", {}),
        ]
        for edge in (*_BUCKETS, float("inf")):
            count = float(sum(count for value, count in self.took.items() if value <= edge))
            label = f"{edge:g}" if edge < float("inf") else "+Inf"
            text.append(f'asd_score_seconds_bucket{{le="{label}"}} {count!r}\n')
        total = float(sum(self.took.values()))
        text.append(f"asd_score_seconds_sum {self.seconds!r}\nasd_score_seconds_count {total!r}\n")
        return Response("".join(text), media_type="text/plain; version=0.0.4")

    async def score(self, asked: Request, query: Annotated[ScoreQuery, Query()]) -> dict[str, Any]:
        """Judge a recording: a file as multipart form data, or raw samples with `rate`."""
        began = time.monotonic()
        detector, section = self.chosen(query)
        name, data = await _body(asked, self.request)
        if query.rate is not None:
            name, data = "samples.wav", query.recording(data, query.rate)
        judgement = await self.judged(lambda: _judge(detector, section, (name, data), query.words))
        took = time.monotonic() - began
        self.seconds += took
        self.took[next((edge for edge in _BUCKETS if took <= edge), float("inf"))] += 1
        self.clips[{1: "abnormal", 0: "normal", None: "unjudged"}[judgement.decision]] += 1
        if judgement.score is None:
            raise HTTPException(422, judgement.sentence)
        return facts_of(judgement)

    def chosen(self, query: ScoreQuery) -> tuple[Detector, Section]:
        """Find the bank and the section of a query."""
        if query.bank is None and len(self.detectors) > 1:
            raise HTTPException(422, f"say which bank=: {', '.join(self.detectors)}")
        detector = self.detectors.get(query.bank or next(iter(self.detectors)))
        if detector is None:
            raise HTTPException(404, f"no bank {query.bank!r}; there are {', '.join(self.detectors)}")
        try:
            return detector, detector.section(query.machine)
        except AsdError as error:
            raise HTTPException(422, str(error)) from error

    async def judged(self, work: Callable[[], Judgement]) -> Judgement:
        """Wait for a turn, then for the judgement; a turn lasts as long as the work, even if nobody waits."""
        if self.waiting >= self.request.queue:
            raise HTTPException(429, "the queue is full: try again", {"Retry-After": "1"})

        def done(future: asyncio.Future[Judgement]) -> None:
            self.waiting -= 1
            future.exception()  # retrieved, since nobody may be waiting

        self.waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self.worker, work)
        future.add_done_callback(done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.request.patience)
        except TimeoutError:
            raise HTTPException(503, "not judged in time: try again", {"Retry-After": "5"}) from None


def application(request: ServeRequest) -> FastAPI:
    """Make the service; each model is loaded once, however many banks need it.

    Raises
    ------
    AsdError
        If a bank is none, two have one name, or a model is not to be had.
    """
    if not request.banks:
        raise AsdError("name a bank to be served, or several")
    detectors: dict[str, Detector] = {}
    for path in request.banks:
        root = locate(path).root
        name = root.parent.name if root.name == "bank" else root.name
        if name in detectors:
            raise AsdError(f"two banks are called {name}: name folders that differ in their own names")
        detector = Detector.load(path, weights=request.weights)
        for other in detectors.values():
            detector.share(other.inference)
        detector.inference.forwards  # noqa: B018 (loaded before the first request)
        detectors[name] = detector
    about = "Judges machine sounds by banks of normal ones."
    app, service = (
        FastAPI(title="machine-asd", description=about, redoc_url=None),
        _Service(request, detectors),
    )
    app.middleware("http")(service.guard)
    app.get("/health")(service.health)
    app.get("/banks")(service.banks)
    app.get("/metrics")(service.metrics)
    app.post("/score", openapi_extra=_BODY)(service.score)
    return app


async def _body(asked: Request, request: ServeRequest) -> tuple[str, bytes]:
    """Read the posted recording, up to the size limit: its name and its bytes."""
    left, receive = request.megabytes * 1e6, asked.receive

    async def bounded() -> Any:
        nonlocal left
        message = await asyncio.wait_for(receive(), request.patience)
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"more than {request.megabytes:g} MB")
        return message

    bounded_request = Request(asked.scope, bounded)
    if not asked.headers.get("content-type", "").startswith("multipart/form-data"):
        try:
            return "recording.wav", await bounded_request.body()
        except TimeoutError:
            raise HTTPException(408, "the request did not go on") from None
    try:
        async with bounded_request.form(max_files=1, max_fields=8) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise HTTPException(422, "no file in the form: its field is called `file`")
            return PurePosixPath(file.filename or "recording.wav").name, await file.read()
    except (MultiPartException, TimeoutError) as error:
        raise HTTPException(400, f"not read: {error}") from error


def _judge(detector: Detector, section: Section, sent: tuple[str, bytes], words: bool) -> Judgement:
    """Judge the bytes of a file; its name gives the time and the format."""
    name, data = sent
    suffix = Path(name).suffix.lower()
    with scratch_folder() as folder:
        path = folder / f"recording{suffix if suffix in AUDIO_SUFFIXES else '.wav'}"
        path.write_bytes(data)
        stamp = recorded_at(name)
        arrival = Arrival(shown(name), path, time.time() if stamp is None else stamp, "")
        (judgement,) = judge_arrivals(detector, section, [arrival], words=words)
    return judgement
