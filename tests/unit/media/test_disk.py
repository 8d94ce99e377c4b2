"""The base disk, built with the real tools and read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import proc
from provision.media import gpt
from provision.media.authoring import Ingredients
from provision.media.disk import build_disk
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
    boot = gpt.read_table(disk).partitions[2]
    return proc.run(["debugfs", "-R", command, f"{disk}?offset={boot.offset}"], package="e2fsprogs").stdout


def test_the_slots_are_the_files(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, slots = built(ingredients, tmp_path)
    assert {name: slot.size for name, slot in slots.items()} == {"seed": SEED_SIZE, "grub.cfg": 16384}
    content = bytearray(disk.read_bytes())
    for name, path in (("seed", "/boot/seed.img"), ("grub.cfg", "/boot/grub/grub.cfg")):
        slot = slots[name]
        assert debugfs(disk, f"cat {path}") == (b"\0" if name == "seed" else b"\n") * slot.size
        content[slot.offset : slot.offset + slot.size] = bytes([len(name)]) * slot.size
    disk.write_bytes(content)
    assert debugfs(disk, "cat /boot/seed.img") == b"\4" * SEED_SIZE
    assert debugfs(disk, "cat /boot/grub/grub.cfg") == b"\10" * 16384
    assert debugfs(disk, "cat /boot/vmlinuz") == ingredients.kernel.read_bytes()
    assert debugfs(disk, "cat /boot/initrd0.img") == ingredients.initrds[0].read_bytes()


def test_tables_and_file_systems_are_valid(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, _ = built(ingredients, tmp_path)
    assert b"No errors detected" in proc.run(["sfdisk", "--verify", disk], package="fdisk").stdout
    bios, esp, boot = gpt.read_table(disk).partitions
    assert [p.type for p in (bios, esp, boot)] == [gpt.BIOS_BOOT, gpt.EFI_SYSTEM, gpt.LINUX]
    proc.run(["e2fsck", "-f", "-n", f"{disk}?offset={boot.offset}"], package="e2fsprogs")
    with disk.open("rb") as file:
        file.seek(esp.offset)
        fat = write(tmp_path / "esp", file.read(esp.size))
    proc.run(["fsck.fat", "-n", fat], package="dosfstools")
    names = {"BOOT/BOOTX64.EFI": "shimx64.efi.signed", "BOOT/grubx64.efi": "grubx64.efi.signed"}
    for name, loader in names.items():
        done = proc.run(["mtype", "-i", fat, f"::EFI/{name}"], package="mtools")
        assert done.stdout == ingredients.loaders[loader].read_bytes()
    config = proc.run(["mtype", "-i", fat, "::EFI/debian/grub.cfg"], package="mtools").stdout
    assert b",gpt3" in config


def test_the_seed_is_for_root_only(ingredients: Ingredients, tmp_path: Path) -> None:
    disk, _ = built(ingredients, tmp_path)
    listing = debugfs(disk, "ls -l /boot").decode().splitlines()
    modes = {line.split()[-1]: line.split()[1:5] for line in listing if line.strip()}
    assert modes["seed.img"] == ["100600", "(1)", "0", "0"]
    assert modes["vmlinuz"] == ["100644", "(1)", "0", "0"]


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


def test_slots_are_whole_behind_an_initrd_of_any_size(ingredients: Ingredients, tmp_path: Path) -> None:
    """The seed of 8 MiB would lie over the end of an ext4 block group, at 128 MiB."""
    initrd = tmp_path / "initrd"
    with initrd.open("wb") as file:
        for i in range(122):
            file.write(bytes([i + 1]) * (1 << 20))
    big = Ingredients("ef" * 32, ingredients.kernel, (initrd,), ingredients.loaders, 8 << 20)
    disk, slots = built(big, tmp_path / "big")
    group = 32768 * 4096
    start = slots["seed"].offset - gpt.read_table(disk).partitions[2].offset
    assert start // group != (start + (8 << 20) - 1) // group
