"""A way to a server that breaks where a test wants it to: each connection after so many bytes of the server's."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

Meanwhile = Callable[[int], None]
"""Called with the number of a connection (from 0) once it is broken, before another is taken."""


class Cutting:
    """`cuts` has for each connection in turn how many bytes of the server's get through; None, and later ones: all."""

    def __init__(self, port: int, cuts: Sequence[int | None], meanwhile: Meanwhile) -> None:
        self._server, self._cuts, self._meanwhile = port, cuts, meanwhile
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passed: list[int] = []
        self.failed: BaseException | None = None

    def run(self) -> None:
        """Serve one connection after another until `close`."""
        try:
            while True:
                client, _ = self._listener.accept()
                number = len(self.passed)
                self.passed.append(0)
                cut = self._cuts[number] if number < len(self._cuts) else None
                with client, socket.create_connection(("127.0.0.1", self._server)) as server:
                    self._pass(client, server, cut, number)
                if cut is not None:
                    self._meanwhile(number)
        except OSError:
            pass  # closed
        except BaseException as error:
            self.failed = error
            self._listener.close()

    def _pass(self, client: socket.socket, server: socket.socket, cut: int | None, number: int) -> None:
        with selectors.DefaultSelector() as ready, suppress(ConnectionError):
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select(60):
                    came = key.fileobj
                    left = 65536 if cut is None or came is client else cut - self.passed[number]
                    data = client.recv(65536) if came is client else server.recv(min(65536, left))
                    if not data:
                        return
                    (server if came is client else client).sendall(data)
                    self.passed[number] += 0 if came is client else len(data)
                if cut is not None and self.passed[number] >= cut:
                    # Half of the cuts are an end, half a reset.
                    linger = struct.pack("ii", 1, 0)
                    if number % 2:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def cutting(port: int, cuts: Sequence[int | None], meanwhile: Meanwhile = lambda number: None) -> Iterator[Cutting]:
    """Such a way to the server at `port` of 127.0.0.1."""
    way = Cutting(port, cuts, meanwhile)
    thread = threading.Thread(target=way.run, daemon=True)
    thread.start()
    try:
        yield way
    finally:
        way.close()
        thread.join(60)
    assert not thread.is_alive()
    assert way.failed is None, way.failed
