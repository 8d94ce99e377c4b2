"""Which certificates a server shows to a stranger: what a person compares and pins when they log in.

The ssl module gives them out from Python 3.13 on only. Up to TLS 1.2 a server sends them in clear (RFC 5246 section
7.4.2), so they are read from the handshake's own bytes. Nothing is believed of them here: who pins one has the
library verify the server by it, in a handshake of its own.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator

from provision.cli.servers import Address

_HANDSHAKE, _CHANGE_CIPHER_SPEC, _CERTIFICATE = 22, 20, 11
_MOST = 256 << 10
"""Bytes of a handshake's first part: a chain has some KiB."""
SECONDS = 10.0
"""How long the whole handshake may take."""


def shown(address: Address) -> list[bytes]:
    """The certificates (DER) that the server shows, its own one first.

    Raises OSError when there is no connection or no handshake of TLS 1.2, and ValueError when what comes is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=address.host)
    heard, end = bytearray(), time.monotonic() + SECONDS
    with socket.create_connection((address.host, address.port), SECONDS) as sock:
        while True:
            try:
                tls.do_handshake()
                return list(certificates(bytes(heard)))
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
            sock.settimeout(max(0.001, end - time.monotonic()))
            piece = sock.recv(16 << 10)
            heard += piece
            if not piece or len(heard) > _MOST:
                raise ValueError("is not a handshake")
            incoming.write(piece)


def certificates(heard: bytes) -> Iterator[bytes]:
    """The certificates in what a server sent during a handshake; raises ValueError when it has no list of them."""
    messages = _Reader(b"".join(_records(heard)))
    while messages.left:
        kind, body = messages.number(1), messages.block(3)
        if kind == _CERTIFICATE:
            chain = _Reader(_Reader(body).block(3))
            while chain.left:
                yield chain.block(3)
            return
    raise ValueError("shows no certificate")


def _records(heard: bytes) -> Iterator[bytes]:
    """The handshake's records that are in clear (RFC 5246 section 6.2.1)."""
    records = _Reader(heard)
    while records.left:
        kind, _ = records.number(1), records.number(2)
        if kind == _CHANGE_CIPHER_SPEC:
            return
        content = records.block(2)
        if kind == _HANDSHAKE:
            yield content


class _Reader:
    """Numbers, and blocks that begin with their length; ValueError behind the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self._take(size), "big")

    def block(self, size: int) -> bytes:
        """What stands behind its length, which has so many bytes."""
        return self._take(self.number(size))

    def _take(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError("ends too early")
        self._at += size
        return self._data[self._at - size : self._at]
