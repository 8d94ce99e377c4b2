"""Certificates in a handshake of TLS 1.2, out of whatever bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.cli.chain import certificates


def block(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def record(data: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 3]) + block(2, data)


def message(data: bytes, kind: int = 11) -> bytes:
    return bytes([kind]) + block(3, data)


HELLO = message(b"hello", 2)
CHAIN = message(block(3, block(3, b"leaf") + block(3, b"root")))


@pytest.mark.parametrize(
    "heard",
    [
        record(HELLO + CHAIN),
        record(HELLO) + record(CHAIN),
        b"".join(record(bytes([one])) for one in HELLO + CHAIN),
        record(b"x", 21) + record(HELLO) + record(CHAIN) + record(b"\x01", 20) + b"encrypted",
    ],
    ids=("one record", "two", "a byte each", "between others"),
)
def test_a_chain_is_found_however_it_is_cut(heard: bytes) -> None:
    assert list(certificates(heard)) == [b"leaf", b"root"]


def test_a_server_may_show_none() -> None:
    assert list(certificates(record(message(block(3, b""))))) == []
    for heard in (b"", record(HELLO), record(b"\x01", 20) + record(CHAIN)):
        with pytest.raises(ValueError, match="shows no certificate"):
            list(certificates(heard))


@given(st.binary(max_size=400) | st.integers(0, 60).map(lambda end: record(HELLO + CHAIN)[:end]))
def test_anything_else_is_a_value_error(heard: bytes) -> None:
    try:
        assert all(isinstance(one, bytes) for one in certificates(heard))
    except ValueError as error:
        assert str(error) in ("shows no certificate", "ends too early")
