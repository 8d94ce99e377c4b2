"""What is served over TFTP: boot loaders, GRUB and pxelinux configurations, kernels and seeds, each per peer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from provision import boot_paths
from provision.boot_paths import (
    GrubByUuid,
    GrubConfig,
    Initrd,
    Kernel,
    Loader,
    Place,
    PxelinuxByUuid,
    PxelinuxConfig,
    Request,
    SeedFile,
)
from provision.edge import Edge
from provision.errors import NotFound
from provision.media.content import Memory, open_file
from provision.media.layout import FileEntry
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.tftp.server import Handler, TftpRequest
from provision.tftp.session import Answer


@dataclass(frozen=True)
class _Asked:
    """A request: whom to ask about it, where it came in, and from whom."""

    netboot: Netboot
    edge: Edge
    origin: Origin


def handler(netboot: Netboot, edge: Edge) -> Handler:
    """The handler of the TFTP listener that `edge` describes. A MAC in a path is a claim; the neighbour's counts."""

    async def handle(request: TftpRequest) -> Answer:
        asked = _Asked(netboot, edge, await edge.origin(str(request.peer)))
        request_for = boot_paths.parse(Place.TFTP, request.path)
        if request_for is None:
            raise NotFound("boot file", "no such file")
        return await _ROUTES[type(request_for)](asked, request_for)

    return handle


async def _pxelinux(asked: _Asked, path: PxelinuxConfig) -> Answer:
    return Answer(Memory(await asyncio.to_thread(asked.netboot.pxelinux_config, asked.origin, path.mac)))


async def _pxelinux_uuid(asked: _Asked, path: PxelinuxByUuid) -> Answer:
    await asyncio.to_thread(asked.netboot.note_uuid, asked.origin, path.uuid)
    raise NotFound(path.uuid, "no such file")


async def _grub(asked: _Asked, _: GrubConfig) -> Answer:
    return Answer(Memory(await asyncio.to_thread(asked.netboot.grub_config, asked.origin)))


async def _grub_uuid(asked: _Asked, path: GrubByUuid) -> Answer:
    await asyncio.to_thread(asked.netboot.note_uuid, asked.origin, path.uuid)
    return Answer(Memory(b"\n"))


async def _kernel(asked: _Asked, path: Kernel) -> Answer:
    return _file(asked.netboot.kernel(path.base), asked, "kernel")


async def _initrd(asked: _Asked, path: Initrd) -> Answer:
    entry = asked.netboot.initrd(path.base, path.number)
    before, size = asked.netboot.initrds_before(path.base, path.number)
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(asked, "initrd", size, before))


async def _seed(asked: _Asked, path: SeedFile) -> Answer:
    netboot = asked.netboot
    delivery = await asked.edge.deliver_made(asked.origin, lambda pin: netboot.seed_of_many(pin, path.revision))
    return Answer(Memory(delivery.data), _noting(asked, "seed", len(delivery.data)), delivery=delivery)


async def _loader(asked: _Asked, path: Loader) -> Answer:
    return _file(asked.netboot.loader(asked.origin, path.name), asked, "")


_ROUTES: dict[type[Request], Callable[[_Asked, Any], Awaitable[Answer]]] = {
    PxelinuxConfig: _pxelinux,
    PxelinuxByUuid: _pxelinux_uuid,
    GrubConfig: _grub,
    GrubByUuid: _grub_uuid,
    Kernel: _kernel,
    Initrd: _initrd,
    SeedFile: _seed,
    Loader: _loader,
}


def _file(entry: FileEntry, asked: _Asked, part: str) -> Answer:
    content = open_file(entry.path, entry.size, entry.sha256)
    return Answer(content, _noting(asked, part, entry.size) if part else None)


def _noting(asked: _Asked, part: str, size: int, before: int = 0) -> Callable[[int], None]:
    total = max(1, size)
    return lambda sent: asked.netboot.sent(asked.origin, part, (before + sent) / total, before / total)
