"""A host's own disk for the laboratory: it says on the serial console that it was booted, and does nothing else."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from provision import proc
from provision.errors import Unavailable

TEXT = "LOCAL DISK: this host booted from its own disk"

_SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
_GRUB = Path("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")
_START = 2048
"""First sector of the EFI system partition."""
_SECTORS = 16384


def local_disk(path: Path) -> Path:
    """Write a small raw disk image that boots in BIOS, UEFI and UEFI with Secure Boot, and return `path`.

    In BIOS the machine then halts for good; in UEFI it powers off. Raises Unavailable for a missing tool or loader.
    """
    for loader, package in ((_SHIM, "shim-signed"), (_GRUB, "grub-efi-amd64-signed")):
        if not loader.exists():
            raise Unavailable(str(loader), "the boot loader is missing", f"apt-get install {package}")
    with tempfile.TemporaryDirectory(prefix="provision-disk-") as temporary:
        partition = Path(temporary) / "esp.img"
        configuration = Path(temporary) / "grub.cfg"
        configuration.write_text(f'echo "{TEXT}"\nsleep 2\nhalt\n')
        _mtools("mformat", partition, "-C", "-T", str(_SECTORS), "-h", "16", "-s", "63", "::")
        _mtools("mmd", partition, "::/EFI", "::/EFI/BOOT", "::/EFI/debian")
        for source, target in (
            (_SHIM, "BOOT/BOOTX64.EFI"),
            (_GRUB, "BOOT/grubx64.efi"),
            (configuration, "debian/grub.cfg"),
        ):
            _mtools("mcopy", partition, str(source), f"::/EFI/{target}")
        path.write_bytes(boot_record() + bytes((_START - 1) * 512) + partition.read_bytes())
    return path


def boot_record() -> bytes:
    """A master boot record: code that sends TEXT to the first serial port, and one EFI system partition (type 0xEF)."""
    code = bytes.fromhex("31c08ed8fc") + b"\xbe" + struct.pack("<H", 0x7C00 + 34)  # ds = 0; cld; si = text
    code += bytes.fromhex("ac84c0741288c3")  # next: al = *si++; when zero go to halt; bl = al
    code += bytes.fromhex("bafd03eca82074fb")  # wait: until the transmitter is empty (line status bit 5)
    code += bytes.fromhex("88d8baf803eeebe9")  # send al; go to next
    code += bytes.fromhex("f4ebfd")  # halt: for ever
    table = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0xEF, b"\xfe\xff\xff", _START, _SECTORS)
    return (code + f"\r\n{TEXT}\r\n\0".encode()).ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"


def _mtools(tool: str, image: Path, *arguments: str) -> None:
    proc.run([tool, "-i", image, *arguments], package="mtools", env={"MTOOLS_SKIP_CHECK": "1"})
