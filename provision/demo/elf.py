"""The part of ELF (System V ABI, chapter 5) that names the shared libraries a program needs."""

from __future__ import annotations

import struct

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5


def needed(data: bytes) -> tuple[str, ...]:
    """File names of the libraries and of the interpreter that a 64-bit little-endian ELF file needs.

    Empty for anything else, and for a static program.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        return ()
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    names: list[str] = []
    for kind, _flags, offset, _address, _physical, length in segments:
        if kind == _PT_INTERP:
            names.append(data[offset : offset + length].rstrip(b"\0").decode().rsplit("/", 1)[-1])
        if kind == _PT_DYNAMIC:
            tags = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, length, 16)]
            address = dict(tags).get(_DT_STRTAB, 0)
            strings = _offset(address, segments)
            names += [_text(data, strings + value) for tag, value in tags if tag == _DT_NEEDED]
    return tuple(names)


def _offset(address: int, segments: list[tuple[int, ...]]) -> int:
    """Where in the file the byte at a virtual address stands."""
    for kind, _flags, offset, start, _physical, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("ELF: an address outside every segment")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
