"""Receivers of alarms: each alarm is delivered at least once, whatever stalls, refuses or restarts."""

from __future__ import annotations

import json
import logging
import os
import shlex
import ssl
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files.atomic import write_atomic

log = logging.getLogger(__name__)

_PATIENCE = 10.0  # s that one delivery may take
_FIRST, _LONGEST = 1.0, 600.0  # s from one try to the next: doubled after each that failed
_MINUTE = 60.0

Message = Mapping[str, Any]


class Sink(Protocol):
    """A receiver of messages."""

    @property
    def name(self) -> str:
        """Unique name in a run, without secrets; the queue's file has the same name."""

    def send(self, message: Message) -> None:
        """Deliver a message, a flat JSON object, within some seconds.

        Raises
        ------
        AsdError
            If it was not delivered; it is tried again.
        """


@dataclass(frozen=True)
class JsonLines:
    """One JSON object a line, appended to a file.

    Attributes
    ----------
    path
        The file; made where it does not exist.
    """

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return f"lines-{self.path.name}"

    def send(self, message: Message) -> None:
        """Append a line; on disk when this returns."""
        line = json.dumps(message, ensure_ascii=False) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AsdError(f"cannot write {self.path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Command:
    """A program that is given the message as JSON on its standard input.

    Attributes
    ----------
    text
        The program and its arguments, split as a shell does; no shell is started.
    """

    text: str

    @property
    def name(self) -> str:
        """The program's name."""
        return f"command-{Path(shlex.split(self.text)[0]).name}"

    def send(self, message: Message) -> None:
        """Run it; an exit code other than 0 counts as not delivered."""
        try:
            done = subprocess.run(  # noqa: S603 (the user's own command)
                shlex.split(self.text),
                input=json.dumps(message),
                text=True,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AsdError(f"{self.name} did not end within {_PATIENCE:g} s") from error
        except (OSError, ValueError) as error:
            raise AsdError(f"{self.name} cannot be run: {error}") from error
        if done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()
            raise AsdError(f"{self.name} ended with {done.returncode}{': ' + told[-1] if told else ''}")


@dataclass(frozen=True)
class Webhook:
    """An HTTP address that messages are posted to as JSON.

    Attributes
    ----------
    url
        http or https. Secrets do not belong into it: a bearer token comes from the environment variable
        ``ASD_WEBHOOK_TOKEN``.
    """

    url: str

    @property
    def name(self) -> str:
        """The server's name and port."""
        parts = urlsplit(self.url)
        return f"webhook-{parts.hostname}-{parts.port or parts.scheme}"

    def send(self, message: Message) -> None:
        """Post it; any answer from 400 on counts as not delivered, and redirects are not followed."""
        import requests  # noqa: PLC0415 (a tenth of a second that most commands save)

        token = os.environ.get("ASD_WEBHOOK_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = requests.post(
                self.url,
                json=dict(message),
                headers=headers,
                timeout=_PATIENCE,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            # The text of a requests error holds the whole address, with whatever stands in it.
            raise AsdError(f"{self.name}: {type(error).__name__}") from error
        if answer.status_code >= 300:
            raise AsdError(f"{self.name} answered {answer.status_code} {answer.reason}")


@dataclass(frozen=True)
class Mqtt:
    """A topic of an MQTT broker; Home Assistant finds the machine's alarm by itself.

    Attributes
    ----------
    url
        ``mqtt://HOST[:PORT]/TOPIC``, or ``mqtts://`` for TLS. User and password come from
        ``ASD_MQTT_USER`` and ``ASD_MQTT_PASSWORD``.
    """

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not parts.path.strip("/"):
            raise AsdError(f"--mqtt {self.url}: expected mqtt://HOST[:PORT]/TOPIC")
        if parts.username or parts.password:
            raise AsdError(f"{self.name}: user and password belong into ASD_MQTT_USER and ASD_MQTT_PASSWORD")

    @property
    def name(self) -> str:
        """The broker's name and port."""
        parts = urlsplit(self.url)
        return f"mqtt-{parts.hostname}-{parts.port or parts.scheme}"

    def send(self, message: Message) -> None:
        """Publish it with quality of service 1 (at least once), after the discovery record."""
        try:
            from paho.mqtt import client as mqtt  # noqa: PLC0415 (an extra)
            from paho.mqtt import enums  # noqa: PLC0415
        except ImportError as error:
            raise AsdError(f"{self.name} needs paho-mqtt: pip install 'machine-asd[mqtt]'") from error
        parts = urlsplit(self.url)
        topic, secure = parts.path.strip("/"), parts.scheme == "mqtts"
        user, password = os.environ.get("ASD_MQTT_USER"), os.environ.get("ASD_MQTT_PASSWORD")
        discovery, record = home_assistant(topic, str(message.get("machine", "machine")))
        client = mqtt.Client(enums.CallbackAPIVersion.VERSION2)
        client.connect_timeout = _PATIENCE
        if user:
            client.username_pw_set(user, password or "")
        if secure:
            client.tls_set_context(ssl.create_default_context())  # the system's certificates
        until = time.monotonic() + _PATIENCE
        try:
            client.connect(str(parts.hostname), parts.port or (8883 if secure else 1883), 60)
            client.loop_start()
            sent = [
                client.publish(where, json.dumps(what), 1, retain=True)
                for where, what in ((discovery, record), (topic, message))
            ]
            for each in sent:
                while not each.is_published() and time.monotonic() < until:
                    each.wait_for_publish(0.05)
            published = all(each.is_published() for each in sent)
        except (OSError, ValueError, RuntimeError) as error:
            raise AsdError(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            client.disconnect()
            client.loop_stop()
        if not published:
            raise AsdError(f"{self.name}: the broker did not confirm within {_PATIENCE:g} s")


def home_assistant(topic: str, machine: str) -> tuple[str, dict[str, Any]]:
    """Make the record by which Home Assistant finds an alarm (MQTT discovery, binary sensor).

    Returns
    -------
    tuple
        The discovery topic and its payload.
    """
    key = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in f"asd_{topic}_{machine}")
    return f"homeassistant/binary_sensor/{key}/config", {
        "name": f"{machine} sounds abnormal",
        "unique_id": key,
        "state_topic": topic,
        "value_template": "{{ 'OFF' if value_json.event == 'cleared' else 'ON' }}",
        "json_attributes_topic": topic,
        "device_class": "problem",
    }


@dataclass
class Delivery:
    """Queue of a sink: the events in the history that are not delivered yet.

    The queue is the history itself; all that is kept is how far the sink got, in a file that is written after
    each delivery. A run that is killed between the two tells that message again: at least once, never lost.

    Attributes
    ----------
    sink
        Where to.
    folder
        Where the file lies.
    most
        Messages a minute; more wait.
    clock
        Seconds that never go back.
    """

    sink: Sink
    folder: Path
    most: int = 20
    clock: Callable[[], float] = time.monotonic
    _sent: deque[float] = field(default_factory=deque, init=False)
    _failures: int = field(default=0, init=False)
    _next: float = field(default=0.0, init=False)

    @property
    def _path(self) -> Path:
        safe = "".join(c if c.isalnum() or c in ".-_" else "_" for c in self.sink.name)
        return self.folder / f"{safe}.json"

    @property
    def delivered(self) -> int:
        """Number of the last judgement whose message was delivered; -1 for none.

        Raises
        ------
        AsdError
            If the file is damaged.
        """
        try:
            return int(parse_json(self._path.read_bytes())["delivered"])
        except FileNotFoundError:
            return -1
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AsdError(
                f"{self._path} is damaged ({error!r}); delete it to tell all alarms again"
            ) from error

    def begin(self, number: int) -> None:
        """Start after a judgement, for a sink without a queue."""
        if not self._path.exists():
            write_atomic(self._path, json.dumps({"delivered": number}).encode())

    def run(self, pending: Sequence[tuple[int, Message]]) -> int:
        """Deliver what waits, oldest first, until something fails or the minute is full.

        Parameters
        ----------
        pending
            Number of the judgement and message; those delivered already are passed over.

        Returns
        -------
        int
            How many still wait.
        """
        done = self.delivered
        waiting = [(number, message) for number, message in pending if number > done]
        while waiting:
            now = self.clock()
            while self._sent and now - self._sent[0] >= _MINUTE:
                self._sent.popleft()
            if now < self._next or len(self._sent) >= self.most:
                break
            number, message = waiting[0]
            try:
                self.sink.send(message)
            except AsdError as error:
                self._failures += 1
                pause = min(_LONGEST, _FIRST * 2 ** (self._failures - 1))
                self._next = self.clock() + pause
                log.warning("%s; %d wait, tried again in %.0f s", error, len(waiting), pause)
                break
            self._failures = 0
            self._sent.append(self.clock())
            write_atomic(self._path, json.dumps({"delivered": number}).encode())
            waiting.pop(0)
        return len(waiting)
