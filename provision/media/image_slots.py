"""The two slots of an OEM disk: where its partitions are, and how GRUB chooses the slot that it boots.

What GRUB remembers stands in its environment block: `slot` is the default, `try` a slot that is on trial, `tries` as
many letters as starts are left to it, `failed` the slot whose trial ended without a commit. The host writes that block
as one sector (images/host/root/usr/lib/provision/grubenv.py); docs/media-format.md, "Two slots".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from provision.media import gpt, identity
from provision.media.gpt import SECTOR, Partition, Table

_MIB = 1024 * 1024

ESP_NUMBER, CONFIG_NUMBER, SLOT_A, SLOT_B = 2, 3, 4, 5
"""The numbers of partitions, which begin at 1."""

LOADER = "grub"
"""GRUB's directory on the EFI system partition."""
CONFIG_PATH, ENVIRONMENT_PATH = f"{LOADER}/grub.cfg", f"{LOADER}/grubenv"
VERSION_PATH = "boot/version"
"""In a slot: which image is in it. It is written last, so it is there when the slot is whole."""


@dataclass(frozen=True)
class Sizes:
    """Bytes, multiples of a MiB. A slot is half as large again as what is in it, and `slot_room`, so that later images
    have room; `config_least` is as large as the partition that a host makes by itself."""

    esp: int = 64 * _MIB
    config_least: int = 16 * _MIB
    slot_room: int = 32 * _MIB
    data: int = 32 * _MIB

    def slot(self, content: int) -> int:
        """The size of each slot, for so many bytes of files."""
        return _whole(content + content // 2 + self.slot_room)

    def config(self, seed_size: int) -> int:
        """The size of the configuration partition: two copies of the largest seed."""
        return max(self.config_least, _whole(2 * (seed_size + identity.BLOCK)))


USUAL = Sizes()


def table(uuid: Callable[[str], UUID], content: int, seed_size: int, sizes: Sizes) -> Table:
    """The partitions of a disk whose first slot holds `content` bytes of files. The last one may grow, so the room for
    entries is there twice: which of the two counts is said by one sector."""
    first = gpt.FIRST_USABLE_TWICE
    rows = (
        (gpt.BIOS_BOOT, "bios", _MIB - first * SECTOR),
        (gpt.EFI_SYSTEM, "esp", sizes.esp),
        (identity.TYPE, identity.NAME, sizes.config(seed_size)),
        (gpt.LINUX, "provision-slot-a", sizes.slot(content)),
        (gpt.LINUX, "provision-slot-b", sizes.slot(content)),
        (gpt.LINUX, "provision-data", sizes.data),
    )
    partitions = []
    for kind, name, size in rows:
        last = first + size // SECTOR - 1
        partitions.append(Partition(kind, uuid(name), first, last, name))
        first = last + 1
    return Table(uuid("disk"), tuple(partitions), gpt.FIRST_USABLE_TWICE)


def _whole(size: int) -> int:
    return -(-size // _MIB) * _MIB


def environment() -> bytes:
    """GRUB's environment block as it leaves the factory."""
    text = "# GRUB Environment Block\nslot=a\ntry=\ntries=\nfailed=\n"
    return text.encode().ljust(1024, b"#")


# $root is this file's partition. Going on by disk, not by label or UUID, keeps two disks of one base in one machine
# apart. GRUB cannot count: each letter of $tries is one start. What is counted is saved before the slot is booted, and
# where it cannot be saved, nothing is tried.
LOADER_CONFIG = f"""\
if [ "$grub_platform" = pc ]; then
  serial --unit=0 --speed=115200
  terminal_input console serial
  terminal_output console serial
fi
set timeout=0
regexp --set=1:disk '^([^,]*),' "$root"
set envfile="$prefix/grubenv"
load_env --file "$envfile" slot try tries failed
if [ "$slot" = b ]; then set first=b; else set first=a; fi
set proven=$first
if [ -n "$try" ]; then
  if regexp --set=1:left '^x(x*)$' "$tries"; then
    set tries="$left"
    if save_env --file "$envfile" slot try tries failed; then set first="$try"; fi
  else
    set failed="$try"
    set try=""
    save_env --file "$envfile" slot try tries failed
  fi
fi
if [ "$first" = a ]; then set second=b; else set second=a; fi
for now in $first $second; do
  if [ "$now" = a ]; then set root="$disk,gpt{SLOT_A}"; else set root="$disk,gpt{SLOT_B}"; fi
  set slot_arguments="provision.slot=$now"
  if [ "$now" != "$proven" ]; then set slot_arguments="panic=10 $slot_arguments"; fi
  if [ -f /{VERSION_PATH} ]; then
    echo "provision: slot $now of this disk."
    source /boot/grub/grub.cfg
  fi
done
echo "provision: neither slot of this disk can be booted."
sleep 10
reboot
"""

# The signed image reads this one.
SIGNED_CONFIG = f"""\
set prefix="($root)/{LOADER}"
configfile "$prefix/grub.cfg"
"""
