"""Linux kernels in the x86 bzImage format (Documentation/arch/x86/boot.rst of the Linux source)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Invalid
from provision.media.kernel_kinds import HEAD, kind_of

_HEADER = 0x264
_SECTOR = 512


@dataclass(frozen=True)
class Kernel:
    """A checked kernel: its release ("6.1.0-18-amd64") and the longest command line it takes, in bytes."""

    version: str
    command_line_limit: int


def inspect_kernel(path: Path) -> Kernel:
    """Check that `path` is a whole bzImage of boot protocol 2.06 or later; raises Invalid saying what it is not."""
    subject = str(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
            if len(head) < _HEADER or head[0x1FE:0x200] != b"\x55\xaa" or head[0x202:0x206] != b"HdrS":
                raise Invalid(subject, *kind_of(head))
            sectors, protocol, version_at = head[0x1F1] or 4, *struct.unpack_from("<H6xH", head, 0x206)
            if protocol < 0x0206 or not head[0x211] & 1:
                raise Invalid(
                    subject,
                    f"is not a bzImage of boot protocol 2.06 or later (it has {protocol >> 8}.{protocol & 255:02})",
                )
            whole = (sectors + 1) * _SECTOR + 16 * int.from_bytes(head[0x1F4:0x1F8], "little")
            if size < whole:
                raise Invalid(subject, f"is cut short: {size} of {whole} bytes", "copy it again")
            if not 0 < version_at < sectors * _SECTOR:
                raise Invalid(subject, "does not say its version")
            file.seek(version_at + _SECTOR)
            banner = file.read(256).split(b"\0", 1)[0].decode("ascii", "replace")
    except OSError as error:
        raise Invalid(subject, f"cannot be read ({error.strerror})") from None
    if not banner.split() or not banner.isprintable():
        raise Invalid(subject, "does not say its version")
    return Kernel(banner.split()[0], int.from_bytes(head[0x238:0x23C], "little"))
