"""TFTP packets: RFC 1350 section 5, options by RFC 2347, 2348 (blksize), 2349 (timeout, tsize), 7440 (windowsize)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

MAX_REQUEST = 512
"""Bytes of the longest request (RFC 2347)."""

MAX_NAME = 255
MAX_WINDOW = 64
"""Blocks in flight at most: 64 of 1468 bytes fit a default socket buffer."""

MAX_TIMEOUT = 30
_IP_UDP_TFTP = 20 + 8 + 4


class Op(IntEnum):
    """Operation codes."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class Code(IntEnum):
    """Error codes (RFC 1350 section 5, RFC 2347)."""

    UNDEFINED = 0
    NOT_FOUND = 1
    ACCESS = 2
    ILLEGAL = 4
    UNKNOWN_TID = 5
    OPTION = 8


class TftpError(Exception):
    """What is told to the client: a code, and one line of ASCII."""

    def __init__(self, code: Code, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


@dataclass(frozen=True)
class Request:
    """A read or write request as it came in; option names are in lower case, in the client's order."""

    op: Op
    name: bytes
    mode: str
    options: Mapping[str, str]


def parse_request(data: bytes) -> Request:
    """Parse a datagram sent to the server's own port; raises TftpError (ILLEGAL) when it is not a request."""
    if not 4 <= len(data) <= MAX_REQUEST or data[0] != 0 or data[1] not in (Op.RRQ, Op.WRQ):
        raise TftpError(Code.ILLEGAL, "not a request")
    fields = data[2:].split(b"\0")
    if fields.pop() != b"" or len(fields) < 2 or len(fields) % 2:
        raise TftpError(Code.ILLEGAL, "malformed request")
    options: dict[str, str] = {}
    for name, value in zip(fields[2::2], fields[3::2], strict=True):
        options.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return Request(Op(data[1]), fields[0], fields[1].decode("latin-1").lower(), options)


def clean_name(name: bytes) -> str:
    """The path asked for, relative and with single slashes: firmware asks for "//grubx64.efi" and "\\\\EFI\\\\BOOT".

    Raises TftpError when it is empty, too long, not printable ASCII, or climbs.
    """
    if len(name) > MAX_NAME or any(not 0x20 <= byte < 0x7F for byte in name):
        raise TftpError(Code.ACCESS, "bad file name")
    parts = [part for part in name.decode("ascii").replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise TftpError(Code.ACCESS, "bad file name")
    return "/".join(parts)


@dataclass(frozen=True)
class Terms:
    """What a transfer runs by: block size in bytes, window in blocks, first time-out in seconds, and what is
    acknowledged to the client (empty: no OACK is sent)."""

    block: int = 512
    window: int = 1
    timeout: float = 1.0
    acknowledged: tuple[tuple[str, str], ...] = ()


def negotiate(options: Mapping[str, str], size: int, mtu: int) -> Terms:
    """Accept what can be kept and leave the rest out, as RFC 2347 wants: nonsense is ignored, not refused.

    A block never exceeds what fits one packet of the interface's `mtu`: fragments are lost by firmware.
    """
    block, window, timeout = 512, 1, 1.0
    acknowledged = []
    for name, text in options.items():
        value = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1
        if name == "blksize" and 8 <= value <= 65464:
            value = block = min(value, max(512, mtu - _IP_UDP_TFTP))
        elif name == "windowsize" and 1 <= value <= 65535:
            value = window = min(value, MAX_WINDOW)
        elif name == "timeout" and 1 <= value <= MAX_TIMEOUT:
            timeout = float(value)
        elif name == "tsize" and value >= 0:
            value = size
        else:
            continue
        acknowledged.append((name, str(value)))
    return Terms(block, window, timeout, tuple(acknowledged))


def oack(acknowledged: tuple[tuple[str, str], ...]) -> bytes:
    """An option acknowledgment."""
    return b"\0\6" + b"".join(f"{name}\0{value}\0".encode("ascii") for name, value in acknowledged)


def error(code: Code, message: str) -> bytes:
    """An error packet; whatever is not printable ASCII in the message is replaced, and it is cut at 200 bytes."""
    text = "".join(c if " " <= c < "\x7f" else "?" for c in message)[:200]
    return struct.pack("!HH", Op.ERROR, code) + text.encode("ascii") + b"\0"
