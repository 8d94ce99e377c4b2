"""Initrds: the kernel's grammar, read to every trailer."""

from __future__ import annotations

import bz2
import gzip
import lzma
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import Invalid
from provision.media.compression import Damaged
from provision.media.initrd import inspect_initrd
from provision.media.newc import CpioScanner
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
    "lzo": by_program("lzop", "-q", "-c"),
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


@pytest.mark.parametrize("name", ["zstd", "lz4", "lzo"])
def test_a_member_is_not_unpacked_to_the_disk(tmp_path: Path, name: str) -> None:
    """Some KiB of an upload could fill it, and then nothing more could be recorded."""
    packed = PACKERS[name](archive({"bulk": bytes(32 << 20)}) + image_archive())
    assert len(packed) < 1 << 20
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        assert inspect(tmp_path, packed) == ([name], b"1\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_has_so_many_archives(tmp_path: Path) -> None:
    assert inspect(tmp_path, archive({"a": b"x"}) * 999 + image_archive()) == (["cpio"] * 1000, b"1\n")
    with pytest.raises(Invalid, match="holds more than 1000 archives; build the initrd again"):
        inspect(tmp_path, archive({"a": b"x"}) * 1000 + image_archive())


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "cpio"])
def test_an_archive_unpacks_to_so_much(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.media.initrd.MOST_UNPACKED", len(archive(BULK)))
    inspect(tmp_path, PACKERS[name](archive(BULK)))
    with pytest.raises(Invalid, match=rf"its archive at byte 0 \({name}\) unpacks to more than 0 GiB"):
        inspect(tmp_path, PACKERS[name](archive(BULK) + b"\0"))


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


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "cpio"])
@pytest.mark.parametrize("before", [name for name in PACKERS if name not in ("cpio", "xz", "lz4")])
def test_a_compressed_member_may_follow_another_at_any_offset(tmp_path: Path, name: str, before: str) -> None:
    contents = [PACKERS[before](archive({"n": b"x" * n})) for n in range(40)]
    first = next(content for content in contents if len(content) % 4)
    assert inspect(tmp_path, first + PACKERS[name](image_archive())) == ([before, name], b"1\n")


def test_after_a_plain_archive_and_zeros_nothing_starts_out_of_line(tmp_path: Path) -> None:
    content = archive(BULK) + b"\0\0" + gzip.compress(image_archive())
    with pytest.raises(Invalid, match="does not start on a multiple of 4"):
        inspect(tmp_path, content)


@pytest.mark.parametrize("zeros", [0, 1, 3])
def test_after_lz4_stand_four_zeros(tmp_path: Path, zeros: int) -> None:
    packed = PACKERS["lz4"](archive(BULK))
    with pytest.raises(Invalid, match=r"is not followed by four zeros|is cut short"):
        inspect(tmp_path, packed + b"\0" * zeros + PACKERS["gzip"](image_archive()))
    assert inspect(tmp_path, packed + b"\0" * 4 + PACKERS["gzip"](image_archive())) == (["lz4", "gzip"], b"1\n")


@pytest.mark.parametrize("flag", [0x02, 0x04, 0x10])
def test_a_gzip_header_that_the_kernel_cannot_read_is_refused(tmp_path: Path, flag: int) -> None:
    packed = bytearray(gzip.compress(image_archive()))
    packed[3] |= flag
    with pytest.raises(Invalid, match="a gzip header with more than a file name"):
        inspect(tmp_path, bytes(packed))


def test_a_gzip_header_with_a_file_name_is_read(tmp_path: Path) -> None:
    plain = gzip.compress(image_archive())
    named = plain[:3] + b"\x08" + plain[4:10] + b"initrd.cpio\0" + plain[10:]
    assert inspect(tmp_path, named) == (["gzip"], b"1\n")


def test_lzo_with_checksums_that_the_kernel_does_not_expect_is_refused(tmp_path: Path) -> None:
    assert inspect(tmp_path, by_program("lzop", "-qc", "--crc32")(image_archive())) == (["lzo"], b"1\n")
    with pytest.raises(Invalid, match="has other checksums than the kernel expects: compress it without 'lzop -F'"):
        inspect(tmp_path, by_program("lzop", "-qcF")(image_archive()))


ENTRY = archive({"a": b"bcd"}, trailer=False)


@pytest.mark.parametrize("name", PACKERS)
def test_zeros_may_stand_between_entries(tmp_path: Path, name: str) -> None:
    content = ENTRY + b"\0" * 8 + image_archive() + b"\0" * 4 + archive({"later": b""})
    formats = ["cpio", "cpio"] if name == "cpio" else [name]
    assert inspect(tmp_path, PACKERS[name](content)) == (formats, b"1\n")


@pytest.mark.parametrize("name", PACKERS)
def test_entries_out_of_line_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="has an entry that does not start on a multiple of 4"):
        inspect(tmp_path, PACKERS[name](ENTRY + b"\0" * 2 + image_archive()))


def test_zeros_before_the_first_entry_are_refused_in_the_first_compressed_member(tmp_path: Path) -> None:
    led = gzip.compress(b"\0" * 8 + image_archive())
    with pytest.raises(Invalid, match="begins with zeros"):
        inspect(tmp_path, led)
    assert inspect(tmp_path, padded(archive(BULK), 512) + led) == (["cpio", "gzip"], b"1\n")


def test_a_plain_archive_may_end_without_its_padding_a_compressed_one_not(tmp_path: Path) -> None:
    assert not image_archive().endswith(b"!!!\0") and image_archive().endswith(b"!!!\0\0\0\0")
    assert inspect(tmp_path, image_archive()[:-3]) == (["cpio"], b"1\n")
    with pytest.raises(Invalid, match="ends before its trailer"):
        inspect(tmp_path, gzip.compress(image_archive()[:-3]))


def header(mode: int, size: int, name: bytes, total: int = 0, magic: bytes = b"070701") -> bytes:
    fields = (1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name), total)
    return (magic + b"%08X" * 13 % fields + name).ljust(-(-(110 + len(name)) // 4) * 4, b"\0")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (header(0o040755, 4, b"dir\0") + b"abcd", "has a directory or a device with content"),
        (header(0o100644, 0, b"name"), "has an entry whose name does not end"),
        (header(0o120777, 5000, b"link\0") + bytes(5000), "has a symbolic link that is too long"),
        (header(0o100644, 4, b"sum\0", 5, b"070702") + b"\1\1\1\1", "has a file whose checksum is wrong"),
    ],
)
def test_entries_after_which_the_kernel_loses_others_are_refused(tmp_path: Path, entry: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        inspect(tmp_path, entry + image_archive())


def test_a_checksum_that_is_right_is_taken(tmp_path: Path) -> None:
    entry = header(0o100644, 4, b"sum\0", 4, b"070702") + b"\1\1\1\1"
    assert inspect(tmp_path, entry + image_archive()) == (["cpio"], b"1\n")


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
