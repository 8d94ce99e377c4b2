"""Fields of structures, and structures that end too early or too late."""

from __future__ import annotations

import pytest

from provision.errors import Invalid
from provision.tpm.wire import Reader, sized, u8, u16, u32


def test_fields_are_read_as_they_were_written() -> None:
    reader = Reader(u8(1) + u16(2) + u32(3) + (4).to_bytes(8, "big") + sized(b"five"), "x")
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.sized()) == (1, 2, 3, 4, b"five")
    reader.end()


def test_both_ends_count() -> None:
    with pytest.raises(Invalid, match=r"^x: ends at byte 3, in the middle of a field"):
        Reader(b"\0\5a", "x").sized()
    reader = Reader(b"abc", "x")
    reader.take(1)
    with pytest.raises(Invalid, match=r"^x: has 2 bytes too many"):
        reader.end()
