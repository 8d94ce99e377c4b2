"""Logs of writes, made by hand from the description of dm-log-writes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from provision.errors import Invalid
from provision.lab.write_log import Flush, Write, arguments, content, read

A, B = b"a" * 1024, b"b" * 512


def entry(sector: int, data: bytes = b"", flags: int = 0, sectors: int | None = None) -> bytes:
    count = len(data) // 512 if sectors is None else sectors
    return struct.pack("<QQQQ", sector, count, flags, 0).ljust(512, b"\0") + data


def written(path: Path, *entries: bytes, magic: int = 0x6A736677736872, count: int | None = None) -> Path:
    number = len(entries) if count is None else count
    path.write_bytes(struct.pack("<QQQI", magic, 1, number, 512).ljust(512, b"\0") + b"".join(entries))
    return path


def test_each_entry_says_where_its_data_is(tmp_path: Path) -> None:
    flush, forced, discard = entry(0, flags=1), entry(9, B, flags=3), entry(4, flags=4, sectors=2)
    path = written(tmp_path / "log", entry(3, A), flush, forced, discard)
    found = read(path)
    # A flush that comes with a write is before it.
    assert found == (
        Write(3 * 512, 1024, 1024),
        Flush(),
        Flush(),
        Write(9 * 512, 512, 3072, forced=True),
        Write(4 * 512, 1024, None),
    )
    with path.open("rb") as log:
        assert [content(one, log) for one in found if isinstance(one, Write)] == [A, B, bytes(1024)]


def test_what_comes_after_the_last_entry_that_counts_is_left_out(tmp_path: Path) -> None:
    assert read(written(tmp_path / "log", entry(3, A), entry(5, B), count=1)) == (Write(3 * 512, 1024, 1024),)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "is not a log of writes"),
        (bytes(512), "is not a log of writes"),
        (struct.pack("<QQQI", 0x6A736677736872, 1, 1, 512).ljust(512, b"\0"), "ends in entry 0 of 1"),
        (
            struct.pack("<QQQI", 0x6A736677736872, 1, 1, 512).ljust(512, b"\0") + entry(1, A)[:-1],
            "ends in the data of entry 0",
        ),
        (struct.pack("<QQQI", 0x6A736677736872, 1, 1, 512).ljust(512, b"\0") + entry(0, flags=8), "has a mark"),
    ],
)
def test_what_is_no_whole_log_is_refused(tmp_path: Path, data: bytes, fact: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    with pytest.raises(Invalid, match=fact):
        read(path)


def test_a_comma_in_a_path_is_no_other_option(tmp_path: Path) -> None:
    _, node = arguments("own", tmp_path / "a,b", tmp_path / "log")
    assert f"file.filename={tmp_path}/a,,b,log.driver" in node
