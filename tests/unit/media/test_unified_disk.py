"""The signed image as an OEM disk, built with the real tools and read back as firmware reads it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from provision import proc
from provision.boot import DiskFormat, Kind, Medium
from provision.media import gpt, identity, slot_record, unified_disk, unified_medium
from provision.media.image_slots import USUAL
from provision.media.unified import UnifiedImages
from tests.unit.media.test_unified_medium import ABOUT, program

MIB = 1 << 20
BASE = "0a" * 32
SMALL = replace(USUAL, slot_room=2 * MIB, config_least=MIB)


def write(image: bytes, directory: Path) -> Path:
    directory.mkdir()
    (directory / "image").write_bytes(image)
    unified_disk.build(directory / "image", "ab" * 32, BASE, directory / "disk", SMALL)
    return directory / "disk"


@pytest.mark.integration
def test_firmware_finds_the_image_in_the_first_slot(tmp_path: Path) -> None:
    image = os.urandom(70_001)
    disk = write(image, tmp_path / "one")
    table = gpt.read_table(disk)
    first, second, config = table.partitions
    assert [part.name for part in table.partitions] == ["provision-esp-a", "provision-esp-b", "provision-config"]
    assert (first.type, second.type, config.type) == (gpt.EFI_SYSTEM, gpt.EFI_SYSTEM, identity.TYPE)
    assert first.size == second.size and len({part.guid for part in table.partitions}) == 3
    content = disk.read_bytes()
    (tmp_path / "fat").write_bytes(content[first.offset : first.offset + first.size])
    assert program(tmp_path / "fat", tmp_path) == image
    assert not any(content[second.offset :][: second.size + config.size]), "nothing of a host is on it"
    assert content[first.offset :][: first.size][-512:] == slot_record.encode(BASE)
    fat = tmp_path / "alone"
    unified_medium.build_file_system(tmp_path / "one/image", "ab" * 32, fat)
    assert content[first.offset :].startswith(fat.read_bytes()), "what an update writes is the same"
    assert fat.stat().st_size < first.size // 2
    assert disk.stat().st_blocks * 512 < first.size, "what is empty takes no room"


@pytest.mark.integration
def test_the_same_image_is_the_same_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(b"image" * 5000, tmp_path / "one").read_bytes()
    monkeypatch.setenv("MTOOLSRC", "/nonexistent")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert write(b"image" * 5000, tmp_path / "two").read_bytes() == first
    assert write(b"other" * 5000, tmp_path / "three").read_bytes() != first


@pytest.mark.integration
@pytest.mark.parametrize(
    ("format_", "unpack"),
    [
        (DiskFormat.QCOW2, ["qemu-img", "convert", "-O", "raw"]),
        (DiskFormat.RAW_ZST, ["zstd", "-q", "-d", "-o"]),
    ],
)
def test_each_format_is_the_same_disk(tmp_path: Path, format_: DiskFormat, unpack: list[str]) -> None:
    (tmp_path / "tmp").mkdir()
    images, out = UnifiedImages(tmp_path), tmp_path / "out"
    made = images.put("b" * 64, b"image" * 5000, *ABOUT)
    packed = images.medium(made, Kind(Medium.DISK, format_))
    raw = images.medium(made, Kind(Medium.DISK))
    assert packed.size < raw.size and packed.path.name.endswith(Kind(Medium.DISK, format_).suffix)
    files = [out, packed.path] if unpack[-1] == "-o" else [packed.path, out]
    proc.run([*unpack, *files], package=unpack[0])
    assert proc.run(["cmp", out, raw.path], package="diffutils").stdout == b""
    images.put("b" * 64, b"other" * 5000, *ABOUT)
    assert sorted(path.suffix for path in (tmp_path / "unified").iterdir()) == [".efi", ".json"], "media of another"
