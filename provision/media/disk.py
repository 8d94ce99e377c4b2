"""The base disk: a raw GPT image that a factory writes to flash or disk; boots in BIOS and UEFI, with Secure Boot.

Sector layout: protective MBR with GRUB's boot code; then the partitions of `image_slots`. The first slot is an ext4
file system with /boot, and the second one is empty, as are the data. The seed stands in the configuration partition,
where the host has it from then on. Nothing is mounted and no privilege is needed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from provision import proc
from provision.errors import Unavailable
from provision.media import gpt, identity, image_slots
from provision.media.authoring import GRUB_PATH, Ingredients, claim, reserve
from provision.media.fat import CLOCK, make_fat
from provision.media.image_slots import USUAL, Sizes
from provision.media.layout import CONFIG_SIZE, GRUB, IDENTITY
from provision.media.loaders import BOOT_SECTOR, CORE, boot_sector, core_image
from provision.media.plan import Slot

_MIB = 1024 * 1024
_BLOCK = 4096
_PACKAGE = "e2fsprogs"
_TIMEOUT = 1800.0

# Only what GRUB 2.06 reads, spelt out: a mke2fs.conf, or a newer default, must not change the bytes. There is no
# journal because nothing writes here after the factory, and no backup superblock, which would cut a slot in two.
_FEATURES = "none,extent,filetype,sparse_super2,large_file,huge_file,dir_index,ext_attr,flex_bg,extra_isize"


def build_disk(ingredients: Ingredients, target: Path, scratch: Path, sizes: Sizes = USUAL) -> dict[str, Slot]:
    """Write the base disk to `target`, sparse, and return its slots; `scratch` is an existing directory for parts."""
    root = scratch / "root"
    _stage(ingredients, root)
    content = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    table = image_slots.table(ingredients.uuid, content, ingredients.seed_size, sizes)
    bios, esp, config, slot, _, data = table.partitions
    with target.open("wb") as file:
        file.truncate(data.offset + data.size + _MIB)
    gpt.write_table(target, table)
    _bios(ingredients, target, bios)
    _esp(ingredients, target, esp, scratch)
    _ext4(ingredients, target, slot, root)
    if gpt.read_table(target) != table:
        raise Unavailable(target.name, "does not hold the partitions that were written")
    configuration = _locate(target, slot, GRUB_PATH)
    claim(target, {GRUB: configuration})
    return {IDENTITY: Slot(config.offset, identity.BLOCK + ingredients.seed_size), GRUB: configuration}


def _stage(ingredients: Ingredients, root: Path) -> None:
    reserve(root / GRUB_PATH, GRUB, CONFIG_SIZE)
    (root / image_slots.VERSION_PATH).write_text(f"{ingredients.id}\n")
    for path, source in ingredients.boot_files().items():
        try:
            os.link(source, root / path)
        except OSError:
            shutil.copyfile(source, root / path)


def _bios(ingredients: Ingredients, target: Path, partition: gpt.Partition) -> None:
    core = ingredients.loaders[CORE].read_bytes()
    if len(core) > partition.size:
        raise Unavailable(target.name, f"GRUB's core image of {len(core)} bytes does not fit its partition")
    with target.open("r+b") as disk:
        disk.write(boot_sector(ingredients.loaders[BOOT_SECTOR].read_bytes(), partition.first))
        disk.seek(partition.offset)
        disk.write(core_image(core, partition.first))


def _esp(ingredients: Ingredients, target: Path, partition: gpt.Partition, scratch: Path) -> None:
    made = {
        image_slots.ENVIRONMENT_PATH: image_slots.environment(),
        image_slots.CONFIG_PATH: image_slots.LOADER_CONFIG.encode(),
        "EFI/debian/grub.cfg": image_slots.SIGNED_CONFIG.encode(),
    }
    files = {}
    for number, (path, content) in enumerate(made.items()):
        files[path] = scratch / f"esp{number}"
        files[path].write_bytes(content)
    files["EFI/BOOT/BOOTX64.EFI"] = ingredients.loaders["shimx64.efi.signed"]
    files["EFI/BOOT/grubx64.efi"] = ingredients.loaders["grubx64.efi.signed"]
    serial = ingredients.uuid("esp").int & 0xFFFFFFFF
    make_fat(target, files, size=partition.size, serial=serial, label="ESP", offset=partition.offset)


def _ext4(ingredients: Ingredients, target: Path, partition: gpt.Partition, root: Path) -> None:
    uuid = str(ingredients.uuid("ext4"))
    extended = f"offset={partition.offset},root_owner=0:0,hash_seed={uuid},num_backup_sb=0,lazy_itable_init=0,nodiscard"
    options = ["-q", "-F", "-t", "ext4", "-O", _FEATURES, "-b", str(_BLOCK), "-I", "256", "-m", "0", "-G", "16384"]
    options += ["-U", uuid, "-L", "provision-boot", "-E", extended, "-d", str(root)]
    # The first is for e2fsprogs before 1.47.1, the second for later ones, which prefer the caller's.
    env = {"E2FSPROGS_FAKE_TIME": str(CLOCK), "SOURCE_DATE_EPOCH": str(CLOCK), "MKE2FS_CONFIG": "/dev/null"}
    command: list[str | Path] = ["mke2fs", *options, target, f"{partition.size // 1024}k"]
    proc.run(command, package=_PACKAGE, env=env, timeout=_TIMEOUT)
    _set_inodes(target, partition, root, env)


def _set_inodes(target: Path, partition: gpt.Partition, root: Path, env: dict[str, str]) -> None:
    """Owner, mode and times of every file: mke2fs would copy them from the user who runs the import, and the time."""
    lines = []
    for path in sorted((root, *root.rglob("*"))):
        name = "/" + str(path.relative_to(root)).removeprefix(".")
        mode = 0o40755 if path.is_dir() else 0o100644
        fields = {"mode": f"0{mode:o}", "uid": 0, "gid": 0}
        fields |= {f"{t}time": f"@{CLOCK}" for t in ("a", "c", "m", "cr")}
        fields |= {f"{t}time_extra": 0 for t in ("a", "c", "m", "cr")}
        lines += [f"set_inode_field {name} {field} {value}" for field, value in fields.items()]
    script = "\n".join([*lines, ""]).encode()
    proc.run(["debugfs", "-w", "-f", "-", _inside(target, partition)], package=_PACKAGE, env=env, stdin=script)


def _inside(target: Path, partition: gpt.Partition) -> str:
    return f"{target}?offset={partition.offset}"


def _locate(target: Path, partition: gpt.Partition, path: str) -> Slot:
    """The place of a file of the ext4 file system, which must be one run of blocks; raises Unavailable otherwise."""
    done = proc.run(["debugfs", "-R", f"blocks /{path}", _inside(target, partition)], package=_PACKAGE)
    blocks = [int(word) for word in done.stdout.split()]
    if not blocks or blocks != list(range(blocks[0], blocks[0] + len(blocks))):
        raise Unavailable(target.name, f"/{path} is not in one piece")
    return Slot(partition.offset + blocks[0] * _BLOCK, len(blocks) * _BLOCK)
