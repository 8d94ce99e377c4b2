"""The host's own partition tables: what the media have is read, and what it writes is whole whenever the power goes."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision import proc
from provision.media import gpt as media_gpt
from provision.media import identity, image_slots
from tests.helpers.host_programs import load

MIB = 1 << 20
SIZES = image_slots.Sizes(esp=2 * MIB, config_least=2 * MIB, slot_room=2 * MIB, data=2 * MIB)


@pytest.fixture
def gpt() -> ModuleType:
    return load("gpt")


@pytest.fixture
def data(gpt: ModuleType) -> ModuleType:
    load("superblock")
    return load("data")


def resized(path: Path, size: int) -> Path:
    with path.open("ab") as file:
        file.truncate(size)
    return path


@pytest.fixture
def oem(tmp_path: Path) -> Path:
    """A disk as it leaves the factory, written to one of 64 MiB."""
    table = image_slots.table(lambda name: UUID(int=len(name)), MIB, MIB, SIZES)
    path = resized(tmp_path / "disk", table.partitions[-1].offset + table.partitions[-1].size + MIB)
    media_gpt.write_table(path, table)
    return resized(path, 64 * MIB)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A disk with a configuration partition alone, as the initramfs makes it."""
    path = resized(tmp_path / "own", 64 * MIB)
    only = media_gpt.Partition(identity.TYPE, UUID(int=7), 2048, 2048 + 32767, identity.NAME)
    media_gpt.write_table(path, media_gpt.Table(UUID(int=8), (only,)))
    return path


def settle(data: ModuleType, path: Path, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(data.gpt, "tell_kernel", lambda file, partition, new: None)
    with path.open("r+b", buffering=0) as file:
        return data.settle(file, wanted)


def test_the_last_partition_grows_to_the_end_of_the_disk(
    data: ModuleType, oem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settle(data, oem, False, monkeypatch)
    table = media_gpt.read_table(oem)
    last = table.partitions[-1]
    assert (last.name, last.first, last.last) == ("provision-data", found.first, found.last)  # type: ignore[attr-defined]
    assert last.offset + last.size == 63 * MIB
    assert b"No errors detected" in proc.run(["sfdisk", "--verify", oem], package="fdisk").stdout
    content = oem.read_bytes()
    assert settle(data, oem, True, monkeypatch) == found
    assert oem.read_bytes() == content, "a disk that fits is not written to"
    settle(data, resized(oem, 96 * MIB), False, monkeypatch)
    assert media_gpt.read_table(oem).partitions[-1].size == last.size + 32 * MIB


def test_a_disk_that_only_has_an_identity_gets_room_for_data_when_some_persist(
    data: ModuleType, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = own.read_bytes()
    assert settle(data, own, False, monkeypatch) is None
    assert own.read_bytes() == content
    settle(data, own, True, monkeypatch)
    config, made = media_gpt.read_table(own).partitions
    assert (config.name, made.name, made.first, made.offset + made.size) == (
        identity.NAME,
        "provision-data",
        config.last + 1,
        63 * MIB,
    )


@pytest.mark.parametrize("wrong", ["no table", "no identity", "another partition", "no room"])
def test_a_disk_that_is_not_the_host_s_alone_is_left_as_it_is(
    data: ModuleType, own: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    table = media_gpt.read_table(own)
    (config,) = table.partitions
    other = media_gpt.Partition(media_gpt.LINUX, UUID(int=9), 40960, 49151, "somebody's")
    if wrong == "no table":
        own.write_bytes(bytes(64 * MIB))
    elif wrong == "no identity":
        media_gpt.write_table(own, media_gpt.Table(table.guid, (other,)))
    elif wrong == "another partition":
        media_gpt.write_table(own, media_gpt.Table(table.guid, (config, other)))
    else:
        own.write_bytes(own.read_bytes()[: 20 * MIB])
        media_gpt.write_table(own, table)
    content = own.read_bytes()
    with pytest.raises((data.Refused, data.gpt.Damaged)):
        settle(data, own, True, monkeypatch)
    assert own.read_bytes() == content


def test_no_power_cut_leaves_a_disk_without_its_partitions(
    data: ModuleType, oem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is a row of sectors of which any may be on the disk when the power goes, until it is flushed."""
    old, writes = oem.read_bytes(), list[tuple[int, bytes]]()
    real: Callable[..., int] = os.pwrite

    def pwrite(descriptor: int, content: bytes, at: int) -> int:
        writes.append((at, content))
        return real(descriptor, content, at)

    monkeypatch.setattr(data.gpt.os, "pwrite", pwrite)
    settle(data, oem, False, monkeypatch)
    monkeypatch.undo()
    assert len(writes) == 4
    with oem.open("rb") as file:
        new = data.gpt.read(file)
    state, chance, seen = bytearray(old), random.Random(1), set[int]()
    for at, content in writes:
        for _ in range(20):
            torn = bytearray(state)
            for start in range(0, len(content), 512):
                if chance.random() < 0.5:
                    torn[at + start : at + start + 512] = content[start : start + 512]
            oem.write_bytes(torn)
            with oem.open("rb") as file:
                found = data.gpt.read(file)
            assert found.partitions[:-1] == new.partitions[:-1]
            seen.add(found.partitions[-1].last)
        state[at : at + len(content)] = content
    assert len(seen) == 2, "it is the old table, or the new one"


def test_secrets_that_persist_are_overwritten_where_they_are(data: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    kept = tmp_path / "kept"
    kept.write_bytes(b"a guest's disk")
    secret, link = tmp_path / "deep" / "key", tmp_path / "deep" / "link"
    secret.write_bytes(b"a secret" * 100)
    link.symlink_to(kept)
    before = secret.stat().st_ino
    data.overwrite((tmp_path / "deep").rglob("*"))
    assert secret.read_bytes() == bytes(800) and secret.stat().st_ino == before
    assert kept.read_bytes() == b"a guest's disk"


def header(gpt: ModuleType, start: int, count: int, entry: int, array: bytes) -> bytes:
    """A header whose own sum is right."""
    fields = (1, 1 << 17, 66, 1 << 16, bytes(16), start, count, entry, zlib.crc32(array))
    blank = gpt._HEADER.pack(b"EFI PART", b"\0\0\1\0", gpt._HEADER.size, 0, 0, *fields)
    return bytes(gpt._HEADER.pack(b"EFI PART", b"\0\0\1\0", gpt._HEADER.size, zlib.crc32(blank), 0, *fields))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.one_of(st.sampled_from((2, 34, 2**55, 2**64 - 1)), st.integers(0, 2**64 - 1)),
    count=st.one_of(st.just(128), st.integers(0, 2**32 - 1)),
    entry=st.one_of(st.just(128), st.integers(0, 2**32 - 1)),
    array=st.binary(max_size=512),
)
def test_a_table_that_somebody_made_up_is_damaged_and_no_more(
    gpt: ModuleType, tmp_path: Path, start: int, count: int, entry: int, array: bytes
) -> None:
    """Its sums are right; what it says of itself would read all of the memory, or beyond the end of the disk."""
    path = resized(tmp_path / "made-up", MIB)
    content = array.ljust(128 * 128, b"\0")
    path.write_bytes((bytes(512) + header(gpt, start, count, entry, content)).ljust(1024, b"\0") + content)
    with path.open("rb") as file:
        resized(path, MIB)
        try:
            found = gpt.read(file)
        except gpt.Damaged:
            return
    assert (count, entry) == (128, 128) and start < 2048
    assert len(found.partitions) <= 4
