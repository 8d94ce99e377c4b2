"""Attributes of a netlink message (netlink(7)): a length, a kind, bytes, and zeros up to a multiple of four.

For the messages that are written and read without pyroute2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEADER = struct.Struct("=HH")
_KIND = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


def pack(kind: int, value: bytes) -> bytes:
    """One attribute."""
    return _HEADER.pack(_HEADER.size + len(value), kind) + value.ljust((len(value) + 3) & ~3, b"\0")


def unpack(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kinds and values, as far as they are whole."""
    while len(data) >= _HEADER.size:
        length, kind = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield kind & _KIND, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]
