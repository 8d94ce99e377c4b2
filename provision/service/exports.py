"""What an operator uses elsewhere: a DHCP configuration, and the boot tree for another TFTP server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from provision import boot_paths, ustar
from provision.boot import Role
from provision.boot_paths import (
    GrubConfig,
    GrubForMac,
    Initrd,
    Kernel,
    Place,
    PxelinuxConfig,
    PxelinuxDefault,
    SeedFile,
)
from provision.errors import Conflict, Unavailable
from provision.host import Host
from provision.render import dhcp, grub, pxelinux
from provision.render.target import BootTarget
from provision.service.core import Core
from provision.service.endpoints import Endpoint
from provision.service.inventory import without_collector
from provision.service.media_builder import MediaBuilder
from provision.site import Inventory

_PIECE = 1 << 20
_SEED = boot_paths.http(SeedFile(None))


in_tree = partial(boot_paths.path, Place.TREE)


class Exports:
    """Configurations of all hosts, without a secret."""

    def __init__(self, core: Core, builder: MediaBuilder) -> None:
        self._core, self._builder = core, builder

    def dhcp(self) -> str:
        """The dnsmasq configuration of the management networks that this server serves."""
        site = self._core.site
        networks = [name for name, network in site.networks.items() if network.role is Role.MANAGEMENT]
        served = {name: self._core.endpoints.required(name) for name in networks}
        bindings = [dhcp.BootServer(name, e.interface, e.address, e.port) for name, e in served.items() if e]
        if not bindings:
            remedy = f"add one for {' or '.join(networks)} to provision.toml" if networks else "declare one, and apply"
            raise Conflict(
                "settings",
                "no [[listen]] block serves a management network",
                f"{remedy}; a running service must be restarted to see it",
            )
        inventory = Inventory.model_construct(site=site, hosts=tuple(self._core.hosts.values()))
        with without_collector():
            return dhcp.dnsmasq(dhcp.model(inventory, bindings)).decode()

    def tree(self, *, images: bool = True) -> Iterator[bytes]:
        """The boot tree of all hosts as a ustar archive, in pieces. What carries secrets is never part of it.

        The files of images are empty without `images`: the caller knows where to find them. Raises
        Unavailable and Conflict before the first piece.
        """
        parts: list[tuple[str, int, bytes | BinaryIO]] = [(p, len(d), d) for p, d in self._configurations().items()]
        for path, source in self._images().items():
            if isinstance(boot_paths.parse(Place.TREE, path), Kernel | Initrd) and not images:
                parts.append((path, 0, b""))
                continue
            try:
                file = source.open("rb")
            except OSError as error:
                raise Unavailable(path, f"cannot be read ({error.strerror})", "import its base image again") from None
            parts.append((path, os.fstat(file.fileno()).st_size, file))
        return _pieces(parts)

    def _configurations(self) -> dict[str, bytes]:
        """The boot configurations of all hosts by relative path.

        The seed is fetched from this server, which decides. So a host with no interface on a network that this server
        serves is left out. Raises Unavailable when this server should serve one and cannot.
        """
        stranger = ("This machine is in none of these configurations.", "Add its MAC to a host and render them again.")
        files = {
            in_tree(PxelinuxDefault()): pxelinux.refusal(stranger),
            in_tree(GrubConfig()): grub.refusal(stranger, by_mac=True),
        }
        for host, endpoint in self._served_hosts():
            base = self._core.base_of(host)
            target = BootTarget(
                title=host.name,
                kernel="/" + in_tree(Kernel(base.id)),
                initrds=tuple("/" + in_tree(Initrd(base.id, n)) for n in range(len(base.initrds))),
                seed=f"{endpoint.url}{_SEED}",
                arguments=self._builder.arguments(host, base),
            )
            # Signed GRUB has no HTTP module.
            over_tftp = replace(target, seed=grub.on_server(endpoint.address, _SEED))
            for mac in host.macs:
                files[in_tree(PxelinuxConfig(mac))] = pxelinux.boot_config(target)
                files[in_tree(GrubForMac(mac))] = grub.network_config(over_tftp)
        return dict(sorted(files.items()))

    def _images(self) -> dict[str, Path]:
        """The files that the configurations name, and the boot loaders, by their relative paths in the tree; raises
        Conflict when two base images bring different loaders of one name.
        """
        found: dict[str, Path] = {}
        loaders: dict[str, tuple[str, str]] = {}
        for base in {base.id: base for base in (self._core.base_of(host) for host, _ in self._served_hosts())}.values():
            found[in_tree(Kernel(base.id))] = base.kernel.path
            for number, entry in enumerate(base.initrds):
                found[in_tree(Initrd(base.id, number))] = entry.path
            for name, entry in base.loaders.items():
                other, digest = loaders.setdefault(name, (base.name, entry.sha256))
                if digest != entry.sha256:
                    fact = f"the base images '{other}' and '{base.name}' bring different ones, and a tree has one"
                    raise Conflict(name, fact, "import both with the same '--loaders', or use this server's own TFTP")
                found[name] = entry.path
        return dict(sorted(found.items()))

    def _served_hosts(self) -> Iterator[tuple[Host, Endpoint]]:
        for host in self._core.hosts.values():
            endpoints = [self._core.endpoints.required(i.network) for i in host.interfaces.values() if i.network]
            endpoint = next(filter(None, endpoints), None)
            if endpoint is not None:
                yield host, endpoint


def _pieces(parts: list[tuple[str, int, bytes | BinaryIO]]) -> Iterator[bytes]:
    """The archive of (path, size, content), in pieces of about a MiB."""
    piece = bytearray()
    for path, size, content in parts:
        piece += ustar.header(ustar.Member(path, size))
        if isinstance(content, bytes):
            piece += content
        else:
            with content:
                for start in range(0, size, _PIECE):
                    piece += content.read(min(_PIECE, size - start))
                    yield bytes(piece)
                    piece.clear()
        piece += ustar.padding(size)
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + ustar.END
