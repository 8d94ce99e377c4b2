"""What is served over TFTP: boot loaders, GRUB and pxelinux configurations, kernels and seeds, each per peer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial

from provision.boot import Medium
from provision.edge import Edge
from provision.errors import NotFound
from provision.media.content import Memory, open_file
from provision.media.layout import FileEntry
from provision.model import normalize_mac, pxe_uuid
from provision.service.netboot import Netboot, Origin
from provision.tftp.server import Handler, TftpRequest
from provision.tftp.session import Answer

_MAC = re.compile(r"pxelinux\.cfg/01-([0-9a-f]{2}(?:-[0-9a-f]{2}){5})", re.IGNORECASE)
_UUID = "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_PXELINUX_UUID = re.compile(rf"pxelinux\.cfg/{_UUID}", re.IGNORECASE)
_GRUB_UUID = re.compile(rf"grub/uuid/{_UUID}\.cfg", re.IGNORECASE)
_KERNEL = re.compile(r"boot/([0-9a-f]{64})/kernel")
_INITRD = re.compile(r"boot/([0-9a-f]{64})/initrd/([0-9]{1,2})")
_SEED = re.compile(r"boot/seed/([0-9a-f]{64}|current)/seed\.cpio")


def handler(netboot: Netboot, edge: Edge) -> Handler:
    """The handler of the TFTP listener that `edge` describes. Who asks is the neighbour; a MAC in a path is a claim."""

    async def handle(request: TftpRequest) -> Answer:
        origin = await edge.origin(str(request.peer))
        for pattern, route in _ROUTES:
            found = pattern.fullmatch(request.path)
            if found:
                return await route(netboot, origin, *found.groups())
        if "/" in request.path:
            raise NotFound(request.path, "no such file")
        return _file(netboot.loader(origin, request.path), netboot, origin, "")

    return handle


async def _pxelinux(netboot: Netboot, origin: Origin, mac: str) -> Answer:
    claimed = normalize_mac(mac)
    return Answer(Memory(await asyncio.to_thread(netboot.pxelinux_config, origin, claimed)))


async def _grub(netboot: Netboot, origin: Origin) -> Answer:
    return Answer(Memory(await asyncio.to_thread(netboot.grub_config, origin)))


async def _pxelinux_uuid(netboot: Netboot, origin: Origin, uuid: str) -> Answer:
    await asyncio.to_thread(netboot.note_uuid, origin, pxe_uuid(uuid))
    raise NotFound(uuid, "no such file")


async def _grub_uuid(netboot: Netboot, origin: Origin, uuid: str) -> Answer:
    await asyncio.to_thread(netboot.note_uuid, origin, uuid.lower())
    return Answer(Memory(b"\n"))


async def _kernel(netboot: Netboot, origin: Origin, base: str) -> Answer:
    return _file(netboot.kernel(base), netboot, origin, "kernel")


async def _initrd(netboot: Netboot, origin: Origin, base: str, number: str) -> Answer:
    entry, (before, size) = netboot.initrd(base, int(number)), netboot.initrds_before(base, int(number))
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(netboot, origin, "initrd", size, before))


async def _seed(netboot: Netboot, origin: Origin, revision: str) -> Answer:
    pinned = None if revision == "current" else revision
    seed = await asyncio.to_thread(netboot.seed, origin, pinned, charge=False)
    size = len(seed.data)

    def delivered(count: int) -> None:
        netboot.read_done(origin, Medium.PXE, 0, min(count, size), size)

    content, noting = _Seed(seed.data, partial(netboot.pay, origin)), _noting(netboot, origin, "seed", size)
    return Answer(content, noting, delivered=delivered)


class _Seed(Memory):
    """A seed that is paid for when its first byte is to be sent: who only asks for its size gets that for nothing."""

    def __init__(self, data: bytes, pay: Callable[[], None]) -> None:
        super().__init__(data)
        self._pay: Callable[[], None] | None = pay

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None if self._pay else super().read(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        if self._pay:
            self._pay()
            self._pay = None
        return super().read(offset, length)


_Route = Callable[..., Awaitable[Answer]]
_ROUTES: tuple[tuple[re.Pattern[str], _Route], ...] = (
    (_MAC, _pxelinux),
    (re.compile(r"grub/grub\.cfg"), _grub),
    (_PXELINUX_UUID, _pxelinux_uuid),
    (_GRUB_UUID, _grub_uuid),
    (_KERNEL, _kernel),
    (_INITRD, _initrd),
    (_SEED, _seed),
)


def _file(entry: FileEntry, netboot: Netboot, origin: Origin, part: str) -> Answer:
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(netboot, origin, part, entry.size) if part else None)


def _noting(netboot: Netboot, origin: Origin, part: str, size: int, before: int = 0) -> Callable[[int], None]:
    total = max(1, size)
    return lambda sent: netboot.sent(origin, part, (before + sent) / total, before / total)
