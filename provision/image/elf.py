"""The parts of ELF (System V ABI, chapters 4 and 5) that say what a file needs, is called and offers; and a stub.

Read by hand: pyelftools says the same of every library that was tried, but takes a hundred times as long (1.6 ms each),
and a build looks into thousands. It writes none, so the stub would be by hand anyway.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE, _PT_GNU_STACK = 1, 2, 3, 4, 0x6474E551
_DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT = 1, 5, 6, 10, 11
_DT_SONAME, _DT_RPATH, _DT_RUNPATH, _DT_GNU_HASH = 14, 15, 29, 0x6FFFFEF5
_DT_VERSYM, _DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_SHT_DYNSYM, _SHT_VERDEF, _SHT_VERSYM = 11, 0x6FFFFFFD, 0x6FFFFFFF
_NOTE_DLOPEN = 0x407C0C0A
# What stands before the name of a library in a program: the end of another string, or the library's directory.
_BEFORE = (b"\0", b"/")
_PAGE = 0x1000


@dataclass(frozen=True)
class Dynamic:
    """What the dynamic linker reads: `interpreter` is a path; `needed` are names; `runpath` directories."""

    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    runpath: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dlopen:
    """Libraries of which the first that is there is opened; `priority` is required, recommended or suggested."""

    names: tuple[str, ...]
    priority: str


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


def dlopens(data: bytes) -> tuple[Dlopen, ...]:
    """The libraries that an ELF file says it opens while it runs; see "ELF dlopen Metadata" of the UAPI group."""
    found: list[Dlopen] = []
    for kind, _flags, offset, _address, _physical, length in _segments(data) if is_elf(data) else ():
        at = offset
        while kind == _PT_NOTE and at + 12 <= offset + length:
            name_size, size, note = struct.unpack_from("<III", data, at)
            start = at + 12 + -(-name_size // 4) * 4
            if note == _NOTE_DLOPEN and data[at + 12 : at + 12 + name_size] == b"FDO\0":
                rows = json.loads(data[start : start + size].rstrip(b"\0"))
                found += [Dlopen(tuple(row["soname"]), row.get("priority", "recommended")) for row in rows]
            at = start + -(-size // 4) * 4
    return tuple(found)


def mentioned(data: bytes, names: Iterable[str]) -> set[str]:
    """Those of the names that a program or a library has as strings of its own, by which it could open a library.

    Names for the dynamic linker are no such strings: what the file is linked to, what it is called, its symbols.
    """
    start, end = _linkers_strings(data)
    found = set()
    for name in names:
        at = data.find(text := name.encode())
        while at >= 0:
            if not start <= at < end and data[at - 1 : at] in _BEFORE and data[at + len(text) :][:1] == b"\0":
                found.add(name)
                break
            at = data.find(text, at + 1)
    return found


def exported(data: bytes) -> tuple[tuple[str, int], ...]:
    """Name and type (STT_*) of every symbol that a library defines for others, sorted."""
    found = set()
    for kind, offset, length, strings in _sections(data):
        if kind == _SHT_DYNSYM:
            for at in range(offset, offset + length, 24):
                name, info, _other, section, _value, _size = struct.unpack_from("<IBBHQQ", data, at)
                # Section 0 is "defined elsewhere"; a binding of 0 is local.
                if section and info >> 4:
                    found.add((_text(data, strings + name), info & 15))
    return tuple(sorted(found))


def versions(data: bytes) -> dict[str, str]:
    """The version of every exported symbol that has one; of several, the one that programs are linked with.

    See the Linux Standard Base, chapter "Symbol Versioning".
    """
    found = {kind: (offset, length, strings) for kind, offset, length, strings in _sections(data)}
    if not {_SHT_DYNSYM, _SHT_VERDEF, _SHT_VERSYM} <= found.keys():
        return {}
    names: dict[int, str] = {}
    at, _, strings = found[_SHT_VERDEF]
    following = 1
    while following:
        _version, flags, index, _count, _hash, auxiliary, following = struct.unpack_from("<HHHHIII", data, at)
        if not flags & 1:
            names[index] = _text(data, strings + struct.unpack_from("<I", data, at + auxiliary)[0])
        at += following
    symbols, length, strings = found[_SHT_DYNSYM]
    result = {}
    for number in range(length // 24):
        name, info, _other, section, _value, _size = struct.unpack_from("<IBBHQQ", data, symbols + 24 * number)
        (index,) = struct.unpack_from("<H", data, found[_SHT_VERSYM][0] + 2 * number)
        # The highest bit says that the version is there for old programs only.
        if section and info >> 4 and index in names:
            result[_text(data, strings + name)] = names[index]
    return result


def _sections(data: bytes) -> list[tuple[int, int, int, int]]:
    """Type, offset and length of every section, and the offset of the strings that go with it."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    # A section's link is the number of another.
    return [(row[1], row[4], row[5], rows[row[6]][4] if row[6] < count else 0) for row in rows]


def stub(soname: str, symbols: tuple[tuple[str, int], ...], versioned: Mapping[str, str] | None = None) -> bytes:
    """A library of that name whose symbols are all there: data is 4 KiB of zeros, functions return 0.

    `versioned` has the versions of symbols, as `versions` gives them.
    """
    symbols, hashes = _hashed(symbols)
    chosen = dict(versioned or {})
    known = sorted(set(chosen.values()))
    strings = bytearray(b"\0")
    offsets = {}
    for text in dict.fromkeys((soname, *(name for name, _ in symbols), *known)):
        offsets[text] = len(strings)
        strings += text.encode() + b"\0"
    count = len(symbols) + 1
    # Index 1 is the library itself; what has no version is index 1 as well.
    indexes = [0, *(known.index(chosen[name]) + 2 if name in chosen else 1 for name, _ in symbols)]
    parts = [
        _padded(hashes),
        _padded(struct.pack(f"<{count}H", *indexes)),
        _padded(_definitions(soname, known, offsets)),
    ]
    headers = 64 + 4 * 56
    at_hash, at_indexes, at_definitions, at_symbols = (headers + sum(map(len, parts[:n])) for n in range(4))
    at_strings = at_symbols + 24 * count
    tags = [(_DT_SONAME, offsets[soname]), (_DT_GNU_HASH, at_hash), (_DT_STRTAB, at_strings), (_DT_SYMTAB, at_symbols)]
    tags += [(_DT_STRSZ, len(strings)), (_DT_SYMENT, 24)]
    if known:
        tags += [(_DT_VERSYM, at_indexes), (_DT_VERDEF, at_definitions), (_DT_VERDEFNUM, len(known) + 1)]
    at_dynamic = -(-(at_strings + len(strings)) // 16) * 16
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags, (0, 0)))
    at_code = at_dynamic + len(dynamic)
    at_data = 2 * _PAGE * -(-(at_code + 16) // _PAGE)
    table = b"".join(_symbol(offsets[name], kind, at_code, at_data) for name, kind in symbols)
    body = (b"".join(parts) + bytes(24) + table + bytes(strings)).ljust(at_dynamic - headers, b"\0")
    # "xor eax, eax; ret"
    code = b"\x31\xc0\xc3".ljust(16, b"\0")
    return _stub_headers(at_dynamic, len(dynamic), at_code + len(code), at_data) + body + dynamic + code


def _symbol(name: int, kind: int, at_code: int, at_data: int) -> bytes:
    """The row of a global symbol: a function (also an indirect one) is the code, all else is data."""
    is_code = kind in (2, 10)
    return struct.pack("<IBBHQQ", name, 1 << 4 | (2 if is_code else 1), 0, 1, at_code if is_code else at_data, 8)


def _stub_headers(at_dynamic: int, length: int, end: int, at_data: int) -> bytes:
    result = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    result += struct.pack("<IIQQQQQQ", _PT_LOAD, 5, 0, 0, 0, end, end, _PAGE)
    result += struct.pack("<IIQQQQQQ", _PT_LOAD, 6, 0, at_data, at_data, 0, _PAGE, _PAGE)
    # Without this one the dynamic linker makes the stack of every process that loads the library executable.
    result += struct.pack("<IIQQQQQQ", _PT_GNU_STACK, 6, 0, 0, 0, 0, 0, 16)
    return result + struct.pack("<IIQQQQQQ", _PT_DYNAMIC, 4, at_dynamic, at_dynamic, at_dynamic, length, length, 8)


def _definitions(soname: str, known: list[str], offsets: Mapping[str, int]) -> bytes:
    """The versions that a library defines: itself, then `known`; nothing when there are none."""
    rows = []
    for index, name in enumerate((soname, *known) if known else (), start=1):
        last = index == len(known) + 1
        rows.append(struct.pack("<HHHHIII", 1, int(index == 1), index, 1, _hash(name), 20, 0 if last else 28))
        rows.append(struct.pack("<II", offsets[name], 0))
    return b"".join(rows)


def _hashed(symbols: tuple[tuple[str, int], ...]) -> tuple[tuple[tuple[str, int], ...], bytes]:
    """The symbols in the order that a GNU hash table wants, and the table: one Bloom filter, buckets, chains.

    Whatever program loads a stub looks for most of its own symbols in it, in vain, as they are in libraries behind it.
    The filter says so at once; along one chain of all symbols these searches made a start of virsh take 0.13 s of CPU
    instead of 0.008. See "ELF Symbol Hash Tables" in binutils' bfd/elflink.c, and dl-lookup.c of the C library.
    """
    buckets = max(1, len(symbols) // 2)
    ordered = sorted(symbols, key=lambda symbol: _gnu_hash(symbol[0]) % buckets)
    hashes = [_gnu_hash(name) for name, _ in ordered]
    # A byte of the filter for each symbol, in words of 64 bits, of which there must be a power of two.
    words, shift = 1 << (len(symbols) // 8).bit_length(), 6
    bloom, firsts, chains = [0] * words, [0] * buckets, []
    for number, value in enumerate(hashes):
        bloom[value // 64 % words] |= 1 << value % 64 | 1 << (value >> shift) % 64
        firsts[value % buckets] = firsts[value % buckets] or number + 1
        last = number + 1 == len(hashes) or hashes[number + 1] % buckets != value % buckets
        chains.append(value & ~1 | last)
    head = struct.pack("<4I", buckets, 1, words, shift)
    return tuple(ordered), head + struct.pack(f"<{words}Q{buckets}I{len(chains)}I", *bloom, *firsts, *chains)


def _gnu_hash(name: str) -> int:
    """The hash of GNU's hash tables."""
    value = 5381
    for byte in name.encode():
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value


def _hash(name: str) -> int:
    """The hash of System V's ABI."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _segments(data: bytes) -> list[tuple[int, ...]]:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]


def _linkers_strings(data: bytes) -> tuple[int, int]:
    """Where the strings for the dynamic linker begin and end; nowhere in a static program."""
    segments = _segments(data)
    for kind, _flags, offset, _address, _physical, length in segments:
        if kind == _PT_DYNAMIC:
            tags = dict(struct.unpack_from("<QQ", data, offset + i) for i in range(0, length, 16))
            start = _offset(tags.get(_DT_STRTAB, 0), segments)
            return start, start + tags.get(_DT_STRSZ, 0)
    return 0, 0


def _offset(address: int, segments: list[tuple[int, ...]]) -> int:
    """Where in the file the byte at a virtual address stands."""
    for kind, _flags, offset, start, _physical, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("ELF: an address outside every segment")


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()
