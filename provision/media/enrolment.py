"""The medium that puts the site's certificate into a machine's firmware: systemd's boot loader writes what lies in
`loader/keys/auto` when the firmware is in setup mode (systemd-boot(7), loader.conf(5): secure-boot-enroll)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from provision.errors import Unavailable
from provision.media import gpt
from provision.media.fat import make_fat

LOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
"""Debian: systemd-boot-efi."""
_MIB = 1 << 20
_SIZE, _ESP = 8 * _MIB, 6 * _MIB
_GUIDS = UUID("2d0a3f5e-7c1b-4a86-9f63-0b8e5d6c7a11"), UUID("2d0a3f5e-7c1b-4a86-9f63-0b8e5d6c7a12")
_SERIAL = 0x70726F76
_CONFIG = b"timeout 0\nsecure-boot-enroll force\n"


def medium(files: Mapping[str, bytes]) -> bytes:
    """A disk image (for a USB stick, or a virtual disk) with these files, by their paths, beside the loader.

    Raises Unavailable without the loader or mtools, or when the files do not fit.
    """
    try:
        loader = LOADER.read_bytes()
    except OSError as error:
        raise Unavailable(
            str(LOADER), f"cannot be read ({error.strerror})", "apt-get install systemd-boot-efi"
        ) from None
    first = _MIB // gpt.SECTOR
    partition = gpt.Partition(gpt.EFI_SYSTEM, _GUIDS[1], first, first + _ESP // gpt.SECTOR - 1, "esp")
    with tempfile.TemporaryDirectory(prefix="provision-enrol-") as place:
        image, content = Path(place) / "image", {"EFI/BOOT/BOOTX64.EFI": loader, "loader/loader.conf": _CONFIG, **files}
        sources = {}
        for number, (path, data) in enumerate(sorted(content.items())):
            sources[path] = Path(place) / str(number)
            sources[path].write_bytes(data)
        image.write_bytes(bytes(_SIZE))
        make_fat(image, sources, size=partition.size, serial=_SERIAL, label="ENROL", offset=partition.offset)
        gpt.write_table(image, gpt.Table(_GUIDS[0], (partition,)))
        return image.read_bytes()
