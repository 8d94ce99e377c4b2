"""The base disk, built with the real tools and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import proc
from provision.media import gpt, identity
from provision.media.authoring import Ingredients
from provision.media.disk import build_disk
from provision.media.image_slots import Sizes
from provision.media.loaders import CORE, copy_loaders, core_image, find_loaders
from provision.media.plan import Slot
from tests.fixtures.media import image_archive, kernel, write

SEED_SIZE = 1 << 20

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ingredients(tmp_path_factory: pytest.TempPathFactory) -> Ingredients:
    root = tmp_path_factory.mktemp("ingredients")
    (root / "loaders").mkdir()
    loaders = copy_loaders(find_loaders(None)[0], root / "loaders")
    initrds = (write(root / "a", image_archive()),)
    return Ingredients("cd" * 32, write(root / "kernel", kernel()), initrds, loaders, SEED_SIZE)


def built(ingredients: Ingredients, root: Path) -> tuple[Path, dict[str, Slot]]:
    (root / "scratch").mkdir(parents=True)
    return root / "base.disk", build_disk(ingredients, root / "base.disk", root / "scratch")


def debugfs(disk: Path, command: str) -> bytes:
    boot = gpt.read_table(disk).partitions[3]
    return proc.run(["debugfs", "-R", command, f"{disk}?offset={boot.offset}"], package="e2fsprogs").stdout


def test_the_slots_are_where_they_are_read(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, slots = built(ingredients, tmp_path)
    assert {name: slot.size for name, slot in slots.items()} == {"identity": 4096 + SEED_SIZE, "grub.cfg": 16384}
    seed = b"\4" * SEED_SIZE
    content = {"identity": identity.first(seed), "grub.cfg": b"\10" * 16384}
    assert debugfs(disk, "cat /boot/grub/grub.cfg") == b"\n" * 16384
    with disk.open("r+b") as file:
        for name, slot in slots.items():
            file.seek(slot.offset)
            file.write(content[name])
        config = gpt.read_table(disk).partitions[2]
        file.seek(config.offset)
        assert identity.newest(file.read(config.size)) == identity.Copy(0, 1, seed)
    assert identity.capacity(config.size) >= SEED_SIZE
    assert debugfs(disk, "cat /boot/grub/grub.cfg") == content["grub.cfg"]
    assert debugfs(disk, "cat /boot/vmlinuz") == ingredients.kernel.read_bytes()
    assert debugfs(disk, "cat /boot/initrd0.img") == ingredients.initrds[0].read_bytes()
    assert debugfs(disk, "cat /boot/version") == f"{ingredients.id}\n".encode()


def test_tables_and_file_systems_are_valid(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, _ = built(ingredients, tmp_path)
    assert b"No errors detected" in proc.run(["sfdisk", "--verify", disk], package="fdisk").stdout
    bios, esp, config, first, second, data = gpt.read_table(disk).partitions
    assert (bios.type, esp.type, config.type) == (gpt.BIOS_BOOT, gpt.EFI_SYSTEM, identity.TYPE)
    assert first.size == second.size >= 32 << 20 and {one.type for one in (first, second, data)} == {gpt.LINUX}
    proc.run(["e2fsck", "-f", "-n", f"{disk}?offset={first.offset}"], package="e2fsprogs")
    with disk.open("rb") as file:
        for empty in (config, second, data):
            file.seek(empty.offset)
            assert not any(file.read(empty.size)), "nothing leaves the factory there"
        file.seek(esp.offset)
        content = file.read(esp.size)
    fat = write(tmp_path / "esp", content)
    proc.run(["fsck.fat", "-n", fat], package="dosfstools")
    names = {"BOOT/BOOTX64.EFI": "shimx64.efi.signed", "BOOT/grubx64.efi": "grubx64.efi.signed"}
    for name, loader in names.items():
        done = proc.run(["mtype", "-i", fat, f"::EFI/{name}"], package="mtools")
        assert done.stdout == ingredients.loaders[loader].read_bytes()
    assert content.index(b"# GRUB Environment Block\n") < 4 << 20, "the host looks no further"


def test_the_sizes_are_parameters(ingredients: Ingredients, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    mib, disk = 1 << 20, tmp_path / "base.disk"
    build_disk(ingredients, disk, tmp_path / "scratch", Sizes(40 * mib, 20 * mib, 48 * mib, 16 * mib))
    sizes = [one.size // mib for one in gpt.read_table(disk).partitions]
    assert sizes == [0, 40, 20, 49, 49, 16]


def test_bios_code_finds_the_core(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, _ = built(ingredients, tmp_path)
    bios = gpt.read_table(disk).partitions[0]
    content = disk.read_bytes()
    start = int.from_bytes(content[0x5C:0x64], "little")
    assert start == bios.first
    core = core_image(ingredients.loaders[CORE].read_bytes(), start)
    assert content[start * 512 :][: len(core)] == core
    assert content[510:512] == b"\x55\xaa"


def test_the_same_input_gives_the_same_bytes(
    ingredients: Ingredients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = built(ingredients, tmp_path / "first")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    for path in (ingredients.kernel, *ingredients.initrds):
        path.touch()
        path.chmod(0o640)
    second, _ = built(ingredients, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def test_it_is_sparse(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, _ = built(ingredients, tmp_path)
    status = disk.stat()
    assert status.st_blocks * 512 < status.st_size // 4
