"""The kernel command line of a host: its base's arguments, then the site's, then its own."""

from __future__ import annotations

from collections.abc import Sequence

from provision.errors import Invalid
from provision.host import Host
from provision.site import Site

LIMIT = 1535
"""Bytes for the arguments. Linux takes 2047 on x86; boot loaders add BOOT_IMAGE=, initrd= and BOOTIF= to that."""

RESERVED = ("initrd=", "BOOT_IMAGE=", "BOOTIF=")
"""Words that boot loaders write or act on themselves: SYSLINUX would load an `initrd=` of an APPEND line."""


def command_line(base_arguments: Sequence[str], site: Site, host: Host) -> tuple[str, ...]:
    """All arguments in the order in which the kernel sees them; the kernel lets the last of two equals win.

    Raises Invalid for a word that belongs to the boot loader, and when they exceed 1535 bytes together.
    """
    arguments = (*base_arguments, *site.kernel_arguments, *host.kernel_arguments)
    for argument in arguments:
        if argument.startswith(RESERVED):
            raise Invalid(
                host.name,
                f"the kernel argument {argument.partition('=')[0]}= belongs to the boot loader",
                "remove it from kernel_arguments",
            )
    size = len(" ".join(arguments))
    if size > LIMIT:
        raise Invalid(
            host.name,
            f"the kernel arguments have {size} bytes, and {LIMIT} fit",
            "shorten kernel_arguments of the host or the site",
        )
    return arguments
