"""The signed image as an ISO, built with the real tools and read back as firmware reads it."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from provision import proc
from provision.media import gpt, iso, unified_medium
from provision.media.unified import UnifiedImages
from tests.unit.media.test_iso import read_file

ABOUT = "c" * 64, "s" * 64, "quiet"


def program(fat: Path, scratch: Path) -> bytes:
    """What firmware starts from a FAT."""
    target = scratch / "program"
    proc.run(["mcopy", "-n", "-i", fat, "::/EFI/BOOT/BOOTX64.EFI", target], package="mtools")
    return target.read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("size", [70_001, 41 << 20, 90 << 20], ids=["small", "common", "large"])
def test_firmware_finds_the_image_on_a_cd_and_on_a_stick(tmp_path: Path, size: int) -> None:
    (tmp_path / "tmp").mkdir()
    image, images = os.urandom(1 << 16) + bytes(size - (1 << 16)), UnifiedImages(tmp_path)
    made = images.put("b" * 64, image, *ABOUT)
    entry = images.medium(made)
    assert entry == images.medium(made) and entry.size == entry.path.stat().st_size
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
    efi = tmp_path / "efi.img"
    efi.write_bytes(read_file(entry.path, "boot/efi.img"))
    assert program(efi, tmp_path) == image
    [partition] = gpt.read_table(entry.path).partitions
    with entry.path.open("rb") as file:
        file.seek(partition.offset)
        assert file.read(partition.size) == efi.read_bytes(), "the stick's partition is the same file"
        # The boot catalog: the only entry is for EFI (platform 0xEF), and begins at the file.
        file.seek(17 * 2048 + 0x47)
        (catalog,) = struct.unpack("<I", file.read(4))
        file.seek(catalog * 2048)
        record = file.read(64)
    assert record[1] == 0xEF and record[32] == 0x88
    assert struct.unpack("<I", record[40:44])[0] * 2048 == partition.offset


@pytest.mark.integration
def test_what_a_reader_has_of_the_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    images = UnifiedImages(tmp_path)
    entry = images.medium(images.put("b" * 64, b"one" * 9000, *ABOUT))
    [(name, (place,))] = iso.boot_files(entry.path).items()
    assert name == "image" and entry.path.read_bytes()[place.start : place.stop] == read_file(entry.path, iso.EFI_PATH)


@pytest.mark.integration
def test_the_same_image_is_the_same_medium_and_another_is_another(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    images = UnifiedImages(tmp_path)
    first = images.medium(images.put("b" * 64, b"one" * 9000, *ABOUT))
    second = images.medium(images.put("b" * 64, b"two" * 9000, *ABOUT))
    again = UnifiedImages(tmp_path).medium(images.put("b" * 64, b"one" * 9000, *ABOUT))
    assert first == again != second and list((tmp_path / "tmp").iterdir()) == []
    images.remove("b" * 64)
    assert list((tmp_path / "unified").iterdir()) == []


@pytest.mark.integration
def test_nothing_of_a_user_s_own_settings_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "image").write_bytes(b"image" * 5000)
    made = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        target = tmp_path / str(number) / "iso"
        unified_medium.build(tmp_path / "image", "ab" * 32, target, tmp_path / str(number))
        made.append(target.read_bytes())
        monkeypatch.setenv("MTOOLSRC", "/nonexistent")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert made[0] == made[1]
