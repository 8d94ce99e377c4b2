"""Sockets in a laboratory's namespace that take what a host sends by itself: metrics over UDP, events over TCP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from provision.lab.lans import inside


class Heard:
    """What came in so far."""

    def __init__(self) -> None:
        self.data = b""

    def wait_for(self, wanted: bytes, timeout: float) -> None:
        """Wait until `wanted` has come; raises AssertionError after `timeout` seconds."""
        end = time.monotonic() + timeout
        while wanted not in self.data:
            assert time.monotonic() < end, f"{wanted!r} did not come; there were {len(self.data)} bytes"
            time.sleep(0.2)


@contextmanager
def heard_udp(namespace: str, port: int) -> Iterator[Heard]:
    """Take every datagram to a UDP port."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    with _collecting(sock, sock) as heard:
        yield heard


@contextmanager
def heard_tcp(namespace: str, port: int) -> Iterator[Heard]:
    """Take what the first connection to a TCP port sends."""
    with inside(namespace):
        listener = socket.create_server(("0.0.0.0", port))
    with _collecting(listener, None) as heard:
        yield heard


@contextmanager
def _collecting(bound: socket.socket, reads: socket.socket | None) -> Iterator[Heard]:
    heard, done = Heard(), threading.Event()

    def collect() -> None:
        sock = reads
        while not done.is_set():
            try:
                if sock is None:
                    sock, _ = bound.accept()
                    sock.settimeout(0.5)
                part = sock.recv(65536)
            except TimeoutError:
                continue
            heard.data += part
            if not part and reads is None:
                sock.close()
                return
        if sock is not None:
            sock.close()

    bound.settimeout(0.5)
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        done.set()
        thread.join()
        bound.close()
