"""Alarms told through servers on this machine that stall, refuse and restart."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cache.base.errors import AsdError
from eval.monitor import sinks
from eval.monitor.sinks import Command, Delivery, JsonLines, Message, Mqtt, Webhook, home_assistant
from tests.conftest import PATIENCE
from tests.helpers.brokers import broker

MESSAGES = [(n, {"machine": "pump 1", "event": "raised", "number": n}) for n in (3, 7, 8)]


class _Failing:
    """Fails as often as told, then delivers."""

    name = "failing/sink"

    def __init__(self, failures: int) -> None:
        self.failures, self.got = failures, list[Message]()

    def send(self, message: Message) -> None:
        if self.failures:
            self.failures -= 1
            raise AsdError("refused")
        self.got.append(message)


def test_every_message_is_told_once_and_in_order(tmp_path: Path) -> None:
    lines = tmp_path / "a" / "alarms.jsonl"
    assert Delivery(JsonLines(lines), tmp_path).run(MESSAGES[:2]) == 0
    assert Delivery(JsonLines(lines), tmp_path).run(MESSAGES) == 0  # another process goes on
    assert [json.loads(line)["number"] for line in lines.read_text().splitlines()] == [3, 7, 8]


def test_what_fails_is_tried_again_ever_more_rarely(tmp_path: Path) -> None:
    now, sink = [0.0], _Failing(3)
    delivery = Delivery(sink, tmp_path, clock=lambda: now[0])
    tried = []
    for second in range(12):
        now[0], before = float(second), sink.failures
        delivery.run(MESSAGES)
        tried += [second] * (sink.failures < before)
    assert tried == [0, 1, 3]
    assert [message["number"] for message in sink.got] == [3, 7, 8]


def test_a_minute_takes_no_more_than_it_may(tmp_path: Path) -> None:
    now, sink = [0.0], _Failing(0)
    delivery = Delivery(sink, tmp_path, most=2, clock=lambda: now[0])
    assert delivery.run(MESSAGES) == 1
    now[0] = 59.0
    assert delivery.run(MESSAGES) == 1
    now[0] = 60.0
    assert delivery.run(MESSAGES) == 0


def test_a_killed_delivery_tells_again_and_a_damaged_queue_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _Failing(0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sinks, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            Delivery(sink, tmp_path).run(MESSAGES)
    Delivery(sink, tmp_path).run(MESSAGES)
    assert [message["number"] for message in sink.got] == [3, 3, 7, 8]
    (tmp_path / "failing_sink.json").write_bytes(b"{")
    with pytest.raises(AsdError, match="is damaged"):
        Delivery(sink, tmp_path).run(MESSAGES)


def test_a_command_is_given_the_message(tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.stdin.read())"
    Command(f'{sys.executable} -c "{code}"').send(MESSAGES[0][1])
    assert json.loads((tmp_path / "got").read_text()) == MESSAGES[0][1]


def test_a_command_that_fails_stalls_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, patience, told in (
        ("import sys; sys.exit('no modem')", PATIENCE, "no modem"),
        (f"import time; time.sleep({PATIENCE})", 0.2, "0.2 s"),
    ):
        monkeypatch.setattr(sinks, "_PATIENCE", patience)
        with pytest.raises(AsdError, match=told):
            Command(f'{sys.executable} -c "{code}"').send({})
    with pytest.raises(AsdError, match="cannot be run"):
        Command("no-such-program").send({})


class _Server(ThreadingHTTPServer):
    """Answers with a status of choice, or not at all."""

    status = 200
    stalls = False

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, object], str | None]] = []
        self.end = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.stalls:
            self.server.end.wait()
            return
        self.server.got.append((body, self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        made.end.set()
        made.shutdown()
        thread.join()


def test_a_webhook_with_its_token(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASD_WEBHOOK_TOKEN", "s3cret")
    sink = Webhook(f"http://127.0.0.1:{server.server_port}/alarm")
    sink.send(MESSAGES[0][1])
    assert server.got == [(MESSAGES[0][1], "Bearer s3cret")]


def test_a_webhook_that_refuses_redirects_stalls_or_is_gone(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE", PATIENCE)
    sink = Webhook(f"http://user:s3cret@127.0.0.1:{server.server_port}/alarm?key=s3cret")
    told = []
    for server.status in (500, 403, 302):
        with pytest.raises(AsdError, match=str(server.status)) as caught:
            sink.send({})
        told.append(str(caught.value))
    server.stalls = True
    monkeypatch.setattr(sinks, "_PATIENCE", 0.3)
    with pytest.raises(AsdError, match="Timeout") as caught:
        sink.send({})
    told.append(str(caught.value))
    monkeypatch.setattr(sinks, "_PATIENCE", PATIENCE)
    with pytest.raises(AsdError, match="ConnectionError") as caught:
        Webhook("http://127.0.0.1:9/?key=s3cret").send({})
    assert not any("s3cret" in text for text in [*told, str(caught.value), sink.name])


def test_mqtt_addresses_and_what_home_assistant_is_told() -> None:
    assert Mqtt("mqtt://127.0.0.1:1884/plant/pump").name == "mqtt-127.0.0.1-1884"
    for url in ("mqtt://127.0.0.1", "http://127.0.0.1/x"):
        with pytest.raises(AsdError, match="expected mqtt://"):
            Mqtt(url)
    with pytest.raises(AsdError, match="ASD_MQTT_USER"):
        Mqtt("mqtt://me:s3cret@127.0.0.1/x")
    topic, record = home_assistant("plant/pump 1", "pump ü")
    assert topic == "homeassistant/binary_sensor/asd_plant_pump_1_pump__/config"
    assert record["state_topic"] == "plant/pump 1"


def test_mqtt_reaches_a_broker_after_the_discovery_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE", PATIENCE)
    monkeypatch.setenv("ASD_MQTT_USER", "pump")
    monkeypatch.setenv("ASD_MQTT_PASSWORD", "s3cret")
    with broker() as server:
        Mqtt(f"mqtt://127.0.0.1:{server.port}/plant/pump").send(MESSAGES[0][1])
        (discovery, record, kept), (topic, message, also) = server.got
        assert (topic, message) == ("plant/pump", MESSAGES[0][1])
        assert discovery.startswith("homeassistant/binary_sensor/")
        assert (record["state_topic"], kept, also) == ("plant/pump", True, True)
        assert server.users == [("pump", "s3cret")]


@pytest.fixture
def kept_port() -> Iterator[socket.socket]:
    """Bound, never listening: no other process is given its port while nobody of ours serves there."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept


def test_a_broker_that_stalls_refuses_or_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_port: socket.socket
) -> None:
    monkeypatch.setattr(sinks, "_PATIENCE", 0.5)
    now, port = [0.0], kept_port.getsockname()[1]
    with broker(port) as server:
        sink = Mqtt(f"mqtt://127.0.0.1:{port}/plant/pump")
        delivery = Delivery(sink, tmp_path, clock=lambda: now[0])
        server.stalls = True
        assert delivery.run(MESSAGES) == 3
        server.stalls, server.refuses = False, True
        now[0] += 1000
        assert delivery.run(MESSAGES) == 3
        assert server.got == []
    now[0] += 1000
    assert delivery.run(MESSAGES) == 3  # nobody there
    monkeypatch.setattr(sinks, "_PATIENCE", PATIENCE)
    with broker(port) as server:
        now[0] += 1000
        assert delivery.run(MESSAGES) == 0
        told = [message["number"] for topic, message, _ in server.got if topic == "plant/pump"]
        assert told == [3, 7, 8]


def test_a_new_sink_is_not_told_what_was_long_ago(tmp_path: Path) -> None:
    sink = _Failing(0)
    Delivery(sink, tmp_path).begin(7)
    Delivery(sink, tmp_path).begin(8)  # it is known by now
    Delivery(sink, tmp_path).run(MESSAGES)
    assert [message["number"] for message in sink.got] == [8]
