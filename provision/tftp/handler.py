"""What is served over TFTP: boot loaders, GRUB and pxelinux configurations, kernels and seeds, each per peer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from provision.edge import Edge
from provision.errors import NotFound
from provision.media.content import Memory, open_file
from provision.media.layout import FileEntry
from provision.model import normalize_mac, pxe_uuid
from provision.service.delivery import Delivery
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


@dataclass(frozen=True)
class _Asked:
    """A request: whom to ask about it, where it came in, and from whom."""

    netboot: Netboot
    edge: Edge
    origin: Origin


def handler(netboot: Netboot, edge: Edge) -> Handler:
    """The handler of the TFTP listener that `edge` describes. Who asks is the neighbour; a MAC in a path is a claim."""

    async def handle(request: TftpRequest) -> Answer:
        asked = _Asked(netboot, edge, await edge.origin(str(request.peer)))
        for pattern, route in _ROUTES:
            found = pattern.fullmatch(request.path)
            if found:
                return await route(asked, *found.groups())
        if "/" in request.path:
            raise NotFound("boot file", "no such file")
        return _file(netboot.loader(asked.origin, request.path), asked, "")

    return handle


async def _pxelinux(asked: _Asked, mac: str) -> Answer:
    claimed = normalize_mac(mac)
    return Answer(Memory(await asyncio.to_thread(asked.netboot.pxelinux_config, asked.origin, claimed)))


async def _grub(asked: _Asked) -> Answer:
    return Answer(Memory(await asyncio.to_thread(asked.netboot.grub_config, asked.origin)))


async def _pxelinux_uuid(asked: _Asked, uuid: str) -> Answer:
    await asyncio.to_thread(asked.netboot.note_uuid, asked.origin, pxe_uuid(uuid))
    raise NotFound(uuid, "no such file")


async def _grub_uuid(asked: _Asked, uuid: str) -> Answer:
    await asyncio.to_thread(asked.netboot.note_uuid, asked.origin, uuid.lower())
    return Answer(Memory(b"\n"))


async def _kernel(asked: _Asked, base: str) -> Answer:
    return _file(asked.netboot.kernel(base), asked, "kernel")


async def _initrd(asked: _Asked, base: str, number: str) -> Answer:
    netboot = asked.netboot
    entry, (before, size) = netboot.initrd(base, int(number)), netboot.initrds_before(base, int(number))
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(asked, "initrd", size, before))


async def _seed(asked: _Asked, revision: str) -> Answer:
    wanted = None if revision == "current" else revision
    delivery: Delivery = await asked.edge.deliver(asked.origin, lambda pinned: asked.netboot.seed(pinned, wanted))
    return Answer(Memory(delivery.data), _noting(asked, "seed", len(delivery.data)), guard=delivery)


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


def _file(entry: FileEntry, asked: _Asked, part: str) -> Answer:
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(asked, part, entry.size) if part else None)


def _noting(asked: _Asked, part: str, size: int, before: int = 0) -> Callable[[int], None]:
    total = max(1, size)
    return lambda sent: asked.netboot.sent(asked.origin, part, (before + sent) / total, before / total)
