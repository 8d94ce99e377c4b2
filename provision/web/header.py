"""The header of an answer, which leaves together with the first bytes of its body."""

from __future__ import annotations

import asyncio
from typing import Any

_LENGTH, _AS_GRUB_READS_IT = b"\r\ncontent-length: ", b"\r\nContent-Length: "


class HeldHeader:
    """Stands in for the transport of uvicorn's `cycle` until the header is written.

    The header of an answer whose length is known waits for the first bytes of the body: alone it would cost the kernel
    and the network as much as they do. `flush` writes it when there are none, or when something else is to follow it.
    GRUB's HTTP client wants `Content-Length` in this spelling.
    """

    def __init__(self, cycle: Any, transport: asyncio.Transport) -> None:
        self._cycle, self._transport = cycle, transport
        self._held = b""

    def write(self, data: bytes) -> None:
        """Take the header, or the first bytes of the body."""
        if self._held:
            self._held += data
            self.flush()
        elif data.startswith(b"HTTP/1.1 100"):
            self._write(data)
        else:
            self._held = data.replace(_LENGTH, _AS_GRUB_READS_IT, 1)
            if _AS_GRUB_READS_IT not in self._held:
                self.flush()  # nobody knows when a body without a length begins

    def flush(self) -> None:
        """Write what is held; what comes after it goes past this. Harmless when nothing is."""
        if self._held:
            self._cycle.transport = self._transport
            held, self._held = self._held, b""
            self._write(held)

    def close(self) -> None:
        """Close the transport, with the header written."""
        self.flush()
        self._transport.close()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
