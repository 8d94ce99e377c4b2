"""A hostile program where the service's socket should be: it answers every request with bytes of a test's choice."""

from __future__ import annotations

import io
import json
import socket
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Behaviour = Callable[[str, str], Iterable[bytes]]
"""What to send for a method and a path; the connection is closed after it."""


def answer(body: bytes, kind: str = "application/json", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def value(content: Any) -> Behaviour:
    """The same JSON for everything."""
    return lambda method, path: [answer(json.dumps(content).encode())]


def endless(head: bytes, piece: bytes) -> Behaviour:
    """A chunked answer without an end."""

    def behave(method: str, path: str) -> Iterator[bytes]:
        yield head + b"Transfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)

    return behave


def archive(*members: tuple[tarfile.TarInfo, bytes], style: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar archive of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return buffer.getvalue()


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, one in fields.items():
        setattr(info, key, one)
    return info, data


@dataclass
class Fake:
    """The hostile service; `sent` counts what it got rid of."""

    behaviour: Behaviour
    context: ssl.SSLContext | None = None
    sent: int = 0
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)


@contextmanager
def fake(path: Path, behaviour: Behaviour) -> Iterator[Fake]:
    """The hostile service on a socket at `path`."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        try:
            with _serving(listener, Fake(behaviour)) as one:
                yield one
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def fake_tls(context: ssl.SSLContext, behaviour: Behaviour) -> Iterator[tuple[Fake, int]]:
    """The same over TLS, and its port of 127.0.0.1."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _serving(listener, Fake(behaviour, context=context)) as one,
    ):
        yield one, listener.getsockname()[1]


@contextmanager
def _serving(listener: socket.socket, one: Fake) -> Iterator[Fake]:
    listener.listen(16)
    thread = threading.Thread(target=_serve, args=(listener, one), daemon=True)
    thread.start()
    try:
        yield one
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
    assert not thread.is_alive()


def _serve(listener: socket.socket, one: Fake) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            connection.settimeout(20)
            if one.context is None:
                _answer(connection, one)
                continue
            with one.context.wrap_socket(connection, server_side=True) as tls:
                _answer(tls, one)


def _answer(connection: socket.socket, one: Fake) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        part = connection.recv(65536)
        if not part:
            return  # only a look whether anybody listens
        request += part
    one.heads.append(request)
    method, path = request.split(b" ", 2)[:2]
    one.asked.append(f"{method.decode()} {path.decode()}")
    for piece in one.behaviour(method.decode(), path.decode()):
        connection.sendall(piece)
        one.sent += len(piece)
    connection.shutdown(socket.SHUT_WR)
    with suppress(TimeoutError):
        while connection.recv(65536):  # the rest of a body: closing now would take the answer back
            pass
