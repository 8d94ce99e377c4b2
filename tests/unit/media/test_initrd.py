"""Initrds: the kernel's grammar, read to every trailer."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import Invalid
from provision.media.compression import Damaged
from provision.media.initrd import CpioScanner, inspect_initrd
from tests.fixtures.media import archive, image_archive, write

BULK = {"bulk": bytes(range(256)) * 2000}


def by_program(*command: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(command, input=data, capture_output=True, check=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "cpio": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": by_program("zstd", "-q", "-c", "--check"),
    "lz4": by_program("lz4", "-q", "-c", "-l"),
}


def padded(data: bytes, unit: int = 4) -> bytes:
    return data.ljust(-(-len(data) // unit) * unit, b"\0")


def inspect(tmp_path: Path, content: bytes) -> tuple[list[str], bytes | None]:
    found = inspect_initrd(write(tmp_path / "initrd", content), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["initrd"]
    return [member.format for member in found.members], found.marker


@pytest.mark.parametrize("name", PACKERS)
def test_each_format_is_read_to_its_trailer(tmp_path: Path, name: str) -> None:
    packed = PACKERS[name](archive(BULK) + image_archive()) if name != "cpio" else image_archive()
    assert inspect(tmp_path, packed) == ([name], b"1\n")
    assert inspect(tmp_path, padded(packed, 512)) == ([name], b"1\n")


@pytest.mark.parametrize("name", PACKERS)
def test_members_follow_one_another_after_padding(tmp_path: Path, name: str) -> None:
    first = padded(archive({"kernel/x86/microcode.bin": b"\1" * 3}), 512)
    content = first + padded(PACKERS[name](image_archive())) + b"\0" * 4 + archive({"last": b"x"})
    assert inspect(tmp_path, content) == (["cpio", name, "cpio"], b"1\n")
    members = inspect_initrd(tmp_path / "initrd", tmp_path).members
    assert members[1].offset == len(first)
    assert not content[members[1].offset + members[1].size : members[2].offset].strip(b"\0")


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("lost", [1, 40])
def test_a_member_cut_short_is_refused(tmp_path: Path, name: str, lost: int) -> None:
    packed = PACKERS[name](archive(BULK))
    with pytest.raises(Invalid, match=rf"its archive at byte 0 \({name}\) .*; build the initrd again"):
        inspect(tmp_path, packed[:-lost] if name != "cpio" else packed[: -lost - 4])


@pytest.mark.parametrize("name", [name for name in PACKERS if name not in ("cpio", "lzma", "lz4")])
def test_a_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    packed = bytearray(PACKERS[name](archive(BULK)))
    packed[len(packed) // 2] ^= 0x10
    with pytest.raises(Invalid, match=rf"\({name}\)"):
        inspect(tmp_path, bytes(packed))


@pytest.mark.parametrize("name", PACKERS)
def test_an_archive_without_trailer_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="ends before its trailer"):
        inspect(tmp_path, PACKERS[name](archive({"a": b"b"}, trailer=False)))


def test_an_unaligned_member_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(archive(BULK), mtime=0)
    unaligned = content + b"\0" * (-len(content) % 4 + 2) + image_archive()
    with pytest.raises(Invalid, match=f"at byte {unaligned.index(b'070701')} does not start on a multiple of 4"):
        inspect(tmp_path, unaligned)


def test_a_check_that_the_kernel_cannot_verify_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="--check=crc32"):
        inspect(tmp_path, lzma.compress(image_archive(), check=lzma.CHECK_CRC64))


@pytest.mark.parametrize("content", [b"", b"\0" * 4096])
def test_no_archive_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Invalid, match="holds no archive"):
        inspect(tmp_path, content)


def test_something_else_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"at byte 512 has no known format"):
        inspect(tmp_path, padded(image_archive(), 512) + b"#!/bin/sh\n")


def test_a_directory_or_a_missing_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(Invalid, match="cannot be read"):
            inspect_initrd(path, tmp_path)


@pytest.mark.parametrize("spelling", ["./etc/provision-seed-contract", "/etc/provision-seed-contract"])
def test_the_marker_may_be_spelt_as_archivers_do(tmp_path: Path, spelling: str) -> None:
    assert inspect(tmp_path, archive({spelling: b"1\n"}))[1] == b"1\n"


def test_no_marker_is_none_and_a_similar_name_is_no_marker(tmp_path: Path) -> None:
    assert inspect(tmp_path, archive({"etc/provision-seed-contract.bak": b"1\n"}))[1] is None
    assert inspect(tmp_path, archive({"usr/etc/provision-seed-contract": b"1\n"}))[1] is None


def test_a_later_marker_replaces_an_earlier_one(tmp_path: Path) -> None:
    assert inspect(tmp_path, image_archive(b"1\n") + image_archive(b"2\n"))[1] == b"2\n"


@given(st.lists(st.integers(1, 400), max_size=30), st.dictionaries(st.text("ab/", min_size=1), st.binary(), max_size=4))
def test_pieces_of_any_size_give_the_same(cuts: list[int], files: dict[str, bytes]) -> None:
    content, scanner, taken = archive(files) + b"after", CpioScanner(), 0
    for cut in [*cuts, len(content)]:
        taken += scanner.feed(content[taken : taken + cut])
    assert scanner.complete
    assert content[taken:] == b"after"


@pytest.mark.parametrize("at", [0, 54, 94])
def test_a_damaged_header_is_refused(at: int) -> None:
    content = bytearray(archive({"a": b""}))
    content[at : at + 8] = b"\xffffffff!"
    with pytest.raises(Damaged):
        CpioScanner().feed(bytes(content))


@pytest.mark.parametrize("name", PACKERS)
def test_the_accounts_of_an_image_are_read(tmp_path: Path, name: str) -> None:
    long = b"".join(b"user%d:x:%d:\n" % (n, n) for n in range(1000, 6000))
    packed = PACKERS[name](archive({"etc/provision-seed-passwd": long, "etc/provision-seed-group": b"kvm:x:109:\n"}))
    found = inspect_initrd(write(tmp_path / "initrd", padded(image_archive(), 512) + packed), tmp_path)
    assert (found.passwd, found.group) == (long, b"kvm:x:109:\n")
    assert inspect_initrd(write(tmp_path / "initrd", image_archive()), tmp_path).passwd is None


def test_accounts_beyond_reason_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "initrd", archive({"etc/provision-seed-passwd": b"x" * (256 * 1024 + 1)}))
    with pytest.raises(Invalid, match="has more than 256 KiB of /etc/provision-seed-passwd"):
        inspect_initrd(path, tmp_path)


@pytest.mark.parametrize("name", PACKERS)
def test_what_an_image_does_beyond_the_contract_is_read(tmp_path: Path, name: str) -> None:
    more = archive({"etc/provision-seed-features": b"guard\nalive\n\nNo word\n" + b"x" * 33 + b"\n"})
    path = write(tmp_path / "initrd", padded(image_archive(), 512) + padded(PACKERS[name](more), 512))
    found = inspect_initrd(path, tmp_path)
    assert (found.marker, found.features) == (b"1\n", ("alive", "guard"))
    assert inspect_initrd(write(tmp_path / "initrd", image_archive()), tmp_path).features == ()
