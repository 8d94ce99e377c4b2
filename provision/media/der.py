"""The few forms of DER (ITU-T X.690) that signatures of programs are made of."""

from __future__ import annotations

SEQUENCE, SET, OCTETS, BITS, INTEGER = 0x30, 0x31, 0x04, 0x03, 0x02
NULL = b"\x05\x00"


def value(tag: int, *parts: bytes) -> bytes:
    """A value with its tag and its length."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes(-(-size.bit_length() // 8))
    return bytes((tag, 0x80 | len(length))) + length + content


def tagged(number: int, *parts: bytes, constructed: bool = True) -> bytes:
    """A value with a context-specific tag: `[number]`."""
    return value((0xA0 if constructed else 0x80) | number, *parts)


def integer(number: int) -> bytes:
    """A non-negative integer."""
    return value(INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def identifier(dotted: str) -> bytes:
    """An object identifier."""
    first, second, *rest = map(int, dotted.split("."))
    return value(0x06, *map(_base128, (40 * first + second, *rest)))


def set_of(*members: bytes) -> bytes:
    """A SET OF, whose members stand in the order of their bytes."""
    return value(SET, *sorted(members))


def _base128(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
