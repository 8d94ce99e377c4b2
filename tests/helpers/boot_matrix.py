"""The boot matrix: every way in which a host may come to its identity, and why some of them do not exist."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import StrEnum
from itertools import product

from provision.lab.vm import Firmware
from tests.helpers import pairwise


class Way(StrEnum):
    """What the firmware takes the host's image from."""

    PXE = "PXE"
    HTTP = "HTTP Boot"
    HTTPS = "HTTPS Boot"
    CD = "CD"
    USB = "USB"
    DISK = "OEM disk"


class Addressing(StrEnum):
    """How the host's management interface gets its addresses, and what stands on it."""

    DHCP = "DHCP"
    STATIC = "static"
    VLAN = "static, VLAN"
    BOND = "bond"
    IPV6 = "IPv6"


class Storage(StrEnum):
    """What the host has for its credentials."""

    NONE = "none"
    DISK = "disk"
    TPM = "TPM"
    BOTH = "disk, TPM"

    @property
    def tpm(self) -> bool:
        return self in (Storage.TPM, Storage.BOTH)

    @property
    def disk(self) -> bool:
        return self in (Storage.DISK, Storage.BOTH)


class Install(StrEnum):
    """The rows of the install matrix: who installs, the addressing, and whether the host has storage."""

    OEM_DHCP = "OEM, DHCP"
    OEM_STATIC = "OEM, static"
    IT_DHCP = "IT, DHCP, storage"
    IT_STATIC = "IT, static, storage"
    IT_DHCP_NONE = "IT, DHCP, none"
    IT_STATIC_NONE = "IT, static, none"


@dataclass(frozen=True)
class Cell:
    """One way to boot."""

    firmware: Firmware
    way: Way
    addressing: Addressing
    storage: Storage

    @property
    def name(self) -> str:
        """A name that a host may have."""
        firmware = "secure" if self.firmware is Firmware.SECURE_BOOT else str(self.firmware)
        words = (firmware, self.way.removesuffix(" Boot"), self.addressing.removeprefix("static, "), self.storage)
        return re.sub(r"\W+", "-", "-".join(words).lower())

    @property
    def install(self) -> Install:
        """Its row of the install matrix."""
        dhcp = self.addressing is Addressing.DHCP
        if self.way is Way.DISK:
            return Install.OEM_DHCP if dhcp else Install.OEM_STATIC
        if self.storage is Storage.NONE:
            return Install.IT_DHCP_NONE if dhcp else Install.IT_STATIC_NONE
        return Install.IT_DHCP if dhcp else Install.IT_STATIC


@dataclass(frozen=True)
class Rule:
    """Why there are no such cells."""

    name: str
    reason: str
    rules_out: Callable[[Cell], bool]


RULES = (
    Rule(
        "bios-has-no-http",
        "A BIOS boots from the network by PXE alone.",
        lambda cell: cell.firmware is Firmware.BIOS and cell.way in (Way.HTTP, Way.HTTPS),
    ),
    Rule(
        "oem-has-a-disk",
        "A host that boots from its OEM disk has a disk.",
        lambda cell: cell.way is Way.DISK and not cell.storage.disk,
    ),
    Rule(
        "bios-binds-nothing",
        "In BIOS nothing of use is measured, so no credential is given for a TPM.",
        lambda cell: cell.firmware is Firmware.BIOS and cell.storage.tpm,
    ),
    Rule(
        "grub-binds-nothing-without-secure-boot",
        "With Secure Boot off nobody checks what starts GRUB, so no credential is given for a TPM.",
        lambda cell: cell.firmware is Firmware.UEFI and cell.way is Way.PXE and cell.storage.tpm,
    ),
)


def against(cell: Cell) -> tuple[Rule, ...]:
    """The rules that rule a cell out; none for one that can be booted."""
    return tuple(rule for rule in RULES if rule.rules_out(cell))


EVERY = tuple(Cell(*values) for values in product(Firmware, Way, Addressing, Storage))
"""The product of all values."""
POSSIBLE = tuple(cell for cell in EVERY if not against(cell))
"""The cells that can be booted: what `make boot-matrix` boots."""


ELSEWHERE = {
    Cell(Firmware.UEFI, Way.PXE, Addressing.DHCP, Storage.NONE): "test_followed.py",
    Cell(Firmware.UEFI, Way.HTTP, Addressing.DHCP, Storage.NONE): "test_bmc.py",
    Cell(Firmware.UEFI, Way.CD, Addressing.DHCP, Storage.NONE): "test_bmc.py",
    Cell(Firmware.SECURE_BOOT, Way.CD, Addressing.DHCP, Storage.NONE): "test_bmc.py",
    Cell(Firmware.UEFI, Way.DISK, Addressing.DHCP, Storage.DISK): "test_oem_disk.py",
    Cell(Firmware.BIOS, Way.PXE, Addressing.STATIC, Storage.DISK): "test_plain_boot.py",
    Cell(Firmware.UEFI, Way.PXE, Addressing.STATIC, Storage.DISK): "test_plain_boot.py",
    Cell(Firmware.UEFI, Way.HTTP, Addressing.STATIC, Storage.DISK): "test_plain_boot.py",
    Cell(Firmware.SECURE_BOOT, Way.PXE, Addressing.DHCP, Storage.TPM): "test_wrapped.py",
    Cell(Firmware.SECURE_BOOT, Way.CD, Addressing.STATIC, Storage.BOTH): "test_unified.py",
    Cell(Firmware.SECURE_BOOT, Way.DISK, Addressing.STATIC, Storage.BOTH): "test_unified_slots.py",
}
"""Cells that another test of tests/boot boots anyway, because more is to be seen of them."""


def _cost(row: pairwise.Row) -> float:
    """How long a boot takes, as a multiple of one from a CD: the host image and TFTP take their time."""
    cell = Cell(*row)  # type: ignore[arg-type]
    tftp = cell.way is Way.PXE and cell.firmware is not Firmware.BIOS
    return (2 if tftp else 1) * (3 if cell.storage.tpm else 1)


def proved(row: pairwise.Row) -> frozenset[pairwise.Pair]:
    """The pairs that a boot proves. A host with a bond has tagged networks and IPv6 on it, so it boots by its way with
    those as well; by itself each of them still meets every firmware and every storage. One with a disk and a TPM opens
    its envelope as one with a TPM alone does, and stores it then; what comes by the TPM finds the same network whether
    the image was on a disk or not."""
    found, way = pairwise.pairs(row), row[1]
    if row[3] is Storage.BOTH:
        found |= pairwise.pairs((*row[:3], Storage.TPM))
    if row[2] is Addressing.BOND:
        found |= {(1, way, 2, Addressing.VLAN), (1, way, 2, Addressing.IPV6)}
    if row[3] is Storage.TPM:
        found |= {(2, row[2], 3, Storage.BOTH)}
    return found


def _selected() -> tuple[Cell, ...]:
    rows, elsewhere = [astuple(cell) for cell in POSSIBLE], [astuple(cell) for cell in ELSEWHERE]
    return tuple(Cell(*row) for row in pairwise.select(rows, elsewhere, _cost, proved))  # type: ignore[arg-type]


SELECTED = _selected()
"""The cells of the test command: each pair of values that can stand together stands in one of them, or in one that is
booted elsewhere."""
