"""What must hold of the disk on which a host keeps its identity.

Nothing here binds a TPM to a disk: GRUB measures what it remembers of the disk's two slots into PCR 8 and 9, so no
value would hold from start to start. With `chain: grub`, what is wrapped for a TPM is given to network boots alone; a
signed image is bound from whatever medium, and its disk has no secret (`Payloads.of`).
"""

from __future__ import annotations

from collections.abc import Iterator

from provision.document import Path
from provision.host import Chain, Host, Install, Storage
from provision.inventory.violation import Violation


def disk_violations(host: Host, path: Path) -> Iterator[Violation]:
    """Everything wrong with the disk that the host names, if it does, and with what persists on it."""
    yield from _persist(host, (*path, "persist"), path)
    disk = host.disk
    if disk is None:
        return
    where = (*path, "disk")
    if host.storage is Storage.NONE:
        remedy = "leave 'disk' out, or set 'storage: persistent'"
        yield Violation(where, "a disk of a host with 'storage: none'", remedy, ((*path, "storage"),))
    if host.chain is Chain.UKI and not host.credentials:
        fact = "a signed image ('chain: uki') stores an envelope alone, and a host without credentials has none"
        remedy = "leave 'disk' out, or set 'chain: grub'"
        yield Violation(where, fact, remedy, ((*path, "chain"),))
    ways = disk.ways
    if not ways:
        remedy = "give 'serial', 'wwn', 'path', 'smallest: yes' or 'largest: yes'"
        yield Violation(where, "names no disk", remedy, (where,))
    elif len(ways) > 1:
        named = " and ".join(f"'{way}'" for way in ways)
        yield Violation((*where, ways[1]), f"the disk is named by {named}", "keep one of them")
    elif disk.wipe and (disk.smallest or disk.largest):
        remedy = "name the disk by 'serial', 'wwn' or 'path'"
        fact = f"'wipe' of the {ways[0]} disk, which is another one as soon as a disk is added or fails"
        yield Violation((*where, "wipe"), fact, remedy, ((*where, ways[0]),))


def _persist(host: Host, where: Path, path: Path) -> Iterator[Violation]:
    if not host.persist:
        return
    if len(set(host.persist)) < len(host.persist):
        yield Violation(where, "names something twice", "name each once")
    if host.storage is Storage.NONE:
        remedy = "leave 'persist' out, or set 'storage: persistent'"
        yield Violation(where, "what persists of a host with 'storage: none'", remedy, ((*path, "storage"),))
    elif host.chain is Chain.UKI:
        remedy = "leave 'persist' out, or set 'chain: grub'"
        yield Violation(where, "a signed image ('chain: uki') keeps nothing on a disk", remedy, ((*path, "chain"),))
    elif host.disk is None and host.install is not Install.OEM:
        yield Violation(where, "names no disk to persist on", "give 'disk', or set 'install: oem'", ((*path, "disk"),))
