"""A boot record that writes to the console."""

from __future__ import annotations

import struct

from provision.lab import disk


def test_a_boot_record_has_its_text_where_its_code_points() -> None:
    record = disk.boot_record()
    (pointer,) = struct.unpack_from("<H", record, 6)
    assert record[pointer - 0x7C00 :].lstrip(b"\r\n").startswith(disk.TEXT.encode())
    assert len(record) == 512 and record.endswith(b"\x55\xaa") and record[450] == 0xEF
