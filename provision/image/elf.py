"""The parts of ELF (System V ABI, chapters 4 and 5) that say what a file needs, is called and offers; and a stub."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 1, 4, 5, 6, 10, 11
_DT_SONAME, _DT_RPATH, _DT_RUNPATH = 14, 15, 29
_SHT_DYNSYM = 11
_PAGE = 0x1000


@dataclass(frozen=True)
class Dynamic:
    """What the dynamic linker reads: `interpreter` is a path; `needed` are names; `runpath` directories."""

    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    runpath: tuple[str, ...] = ()


def is_elf(data: bytes) -> bool:
    """Whether the bytes begin a 64-bit little-endian ELF file."""
    return data[:6] == b"\x7fELF\x02\x01"


def dynamic(data: bytes) -> Dynamic:
    """Empty for anything but a 64-bit little-endian ELF file, and for a static program."""
    if not is_elf(data):
        return Dynamic()
    interpreter, needed, soname, runpath = None, [], None, []
    segments = _segments(data)
    for kind, _flags, offset, _address, _physical, length in segments:
        if kind == _PT_INTERP:
            interpreter = data[offset : offset + length].rstrip(b"\0").decode()
        if kind == _PT_DYNAMIC:
            tags = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, length, 16)]
            strings = _offset(dict(tags).get(_DT_STRTAB, 0), segments)
            for tag, value in tags:
                if tag == _DT_NEEDED:
                    needed.append(_text(data, strings + value))
                elif tag == _DT_SONAME:
                    soname = _text(data, strings + value)
                elif tag in (_DT_RPATH, _DT_RUNPATH):
                    runpath += _text(data, strings + value).split(":")
    return Dynamic(interpreter, tuple(needed), soname, tuple(runpath))


def needed(data: bytes) -> tuple[str, ...]:
    """File names of the interpreter and of the libraries that an ELF file needs; empty for anything else."""
    found = dynamic(data)
    interpreter = (found.interpreter.rsplit("/", 1)[-1],) if found.interpreter else ()
    return (*interpreter, *found.needed)


def exported(data: bytes) -> tuple[tuple[str, int], ...]:
    """Name and type (STT_*) of every symbol that a library defines for others, sorted."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    found = set()
    for _name, kind, _flags, _address, offset, length, link, *_ in sections:
        if kind == _SHT_DYNSYM:
            strings = sections[link][4]
            for at in range(offset, offset + length, 24):
                name, info, _other, section, _value, _size = struct.unpack_from("<IBBHQQ", data, at)
                # Section 0 is "defined elsewhere"; a binding of 0 is local.
                if section and info >> 4:
                    found.add((_text(data, strings + name), info & 15))
    return tuple(sorted(found))


def stub(soname: str, symbols: tuple[tuple[str, int], ...]) -> bytes:
    """A library of that name whose symbols are all there: data is 4 KiB of zeros, functions return 0."""
    strings = bytearray(b"\0")
    offsets = {}
    for text in (soname, *(name for name, _ in symbols)):
        offsets[text] = len(strings)
        strings += text.encode() + b"\0"
    count = len(symbols) + 1
    # One hash bucket holds the whole chain: a stub is not looked up often.
    table = struct.pack("<4I", 1, count, 1 if symbols else 0, 0)
    table += b"".join(struct.pack("<I", i + 1 if i + 1 < count else 0) for i in range(1, count))
    table += bytes(-len(table) % 8)
    headers = 64 + 3 * 56
    at_symbols = headers + len(table)
    at_strings = at_symbols + 24 * count
    at_dynamic = -(-(at_strings + len(strings)) // 16) * 16
    at_code = at_dynamic + 16 * 7
    at_data = 2 * _PAGE * -(-(at_code + 16) // _PAGE)
    body = bytearray(24)
    for name, kind in symbols:
        value = at_code if kind in (2, 10) else at_data
        body += struct.pack("<IBBHQQ", offsets[name], 1 << 4 | (1 if kind not in (2, 10) else 2), 0, 1, value, 8)
    tags = (
        (_DT_SONAME, offsets[soname]),
        (_DT_HASH, headers),
        (_DT_STRTAB, at_strings),
        (_DT_SYMTAB, at_symbols),
        (_DT_STRSZ, len(strings)),
        (_DT_SYMENT, 24),
        (0, 0),
    )
    # "xor eax, eax; ret"
    code = b"\x31\xc0\xc3".ljust(16, b"\0")
    end = at_code + len(code)
    result = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    result += struct.pack("<IIQQQQQQ", _PT_LOAD, 5, 0, 0, 0, end, end, _PAGE)
    result += struct.pack("<IIQQQQQQ", _PT_LOAD, 6, 0, at_data, at_data, 0, _PAGE, _PAGE)
    result += struct.pack("<IIQQQQQQ", _PT_DYNAMIC, 4, at_dynamic, at_dynamic, at_dynamic, 16 * 7, 16 * 7, 8)
    result += table + bytes(body) + bytes(strings)
    result = result.ljust(at_dynamic, b"\0") + b"".join(struct.pack("<QQ", *tag) for tag in tags)
    return result + code


def _segments(data: bytes) -> list[tuple[int, ...]]:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]


def _offset(address: int, segments: list[tuple[int, ...]]) -> int:
    """Where in the file the byte at a virtual address stands."""
    for kind, _flags, offset, start, _physical, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("ELF: an address outside every segment")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
