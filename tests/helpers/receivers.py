"""A receiver of webhooks on loopback that does what a test says: takes, fails, redirects, talks nonsense, dies."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True)
class Event:
    """One that was received: headers in lower case, and the body as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        """What it is about."""
        found: dict[str, Any] = json.loads(self.body)["data"]
        return found

    @property
    def kind(self) -> str:
        return str(json.loads(self.body)["type"])


@dataclass
class ReceiverServer:
    """What came, and what is answered: the `answers` in turn, and then OK. An answer is bytes, or does it itself."""

    port: int
    events: list[Event] = field(default_factory=list)
    answers: list[bytes | Callable[[socket.socket], None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[ReceiverServer]:
    """A receiver until the block ends; one connection at a time."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        found = ReceiverServer(listening.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listening, found, tls), daemon=True)
        thread.start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        assert not thread.is_alive()


def _serve(listening: socket.socket, found: ReceiverServer, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        plain.settimeout(20)
        with suppress(OSError), plain, tls.wrap_socket(plain, server_side=True) if tls else plain as sock:
            event = _read(sock)
            if event is None:
                continue
            found.events.append(event)
            answer = found.answers.pop(0) if found.answers else OK
            if isinstance(answer, bytes):
                sock.sendall(answer)
            else:
                answer(sock)


def _read(sock: socket.socket) -> Event | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.partition(":") for line in head.decode().split("\r\n")[1:]]
    headers = {name.lower(): value.strip() for name, _, value in lines}
    while len(body) < int(headers.get("content-length", "0")):
        body += sock.recv(65536)
    return Event(headers, body)
