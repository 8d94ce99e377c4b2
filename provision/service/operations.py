"""What an operator asks of the running site: windows, status, explanations, media, configurations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, BinaryIO

from provision import boot_paths, ustar
from provision.boot import OPERATOR, Channel, ChannelKind, Copy, Medium, Payload, Requester, Role
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
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.host import Host, Netboot
from provision.media.plan import Plan
from provision.policy import Denial, HostState, Release, decide
from provision.render import dhcp, grub, pxelinux
from provision.render.target import BootTarget
from provision.service.core import Core
from provision.service.endpoints import Endpoint
from provision.service.inventory import without_collector
from provision.service.media_builder import Maker
from provision.service.progress import Tracker
from provision.service.status import Reports, shown
from provision.site import Inventory

_PIECE = 1 << 20
_NO_AGENT = (
    "Its base image has no agent that reports that the host is up, so anything that runs on the booted host, guests"
    " included, may get its seed from this server"
)
_SEED = boot_paths.http(SeedFile(None))


in_tree = partial(boot_paths.path, Place.TREE)


class Operations(Reports):
    """The operator's view of hosts and networks."""

    def __init__(self, core: Core, maker: Maker, tracker: Tracker) -> None:
        super().__init__(core, tracker)
        self._maker = maker

    # Media

    def plan(self, name: str, medium: Medium, actor: str, *, first: bool = True) -> Plan:
        """The host's ISO or disk image for the operator `actor`; raises NotFound or Denied.

        `first` is False for a range from the middle: a client makes thousands of those, and they are counted.
        """
        state = self._core.state(name)
        answer = self._core.decide(state, medium, OPERATOR, Requester(operator=actor), durable=True, counted=not first)
        if isinstance(answer, Denial):
            raise answer.error()
        return self._maker.plan(answer, state, Copy(name, medium, state.identity[:32]))

    # Windows

    def open_window(self, name: str, minutes: int | None, boots: int | None, actor: str) -> dict[str, Any]:
        """Let the host boot from the network for `minutes`, `boots` times (the site's defaults when None)."""
        state = self._core.state(name)
        # A host that may boot at any time needs one only while it says that it is up.
        if state.host.netboot is Netboot.NEVER:
            raise Invalid(name, "is set to 'netboot: never'", "set 'netboot: window' to use windows")
        lifetime, count = self._core.window_default()
        minutes = minutes if minutes is not None else int(lifetime.total_seconds() // 60)
        boots = boots if boots is not None else count
        if not (1 <= minutes <= 10080 and 1 <= boots <= 100):
            raise Invalid(name, "a window has 1 to 10080 minutes and 1 to 100 boots", "choose values in those ranges")
        with self._core.act("window-opened", actor, host=name, minutes=minutes, boots=boots):
            window = self._core.store.windows.open(name, minutes, boots, self._core.clock(), actor)
        self._core.witness()
        return {"host": name, **shown(window, self._core.clock())}

    def close_window(self, name: str, actor: str) -> None:
        """Close the host's window, if it has one. One that is used up may be closed: its boot then ends, too."""
        window = self._core.state(name).window
        if window is None or window.closed:
            return
        with self._core.act("window-closed", actor, host=name):
            self._core.store.windows.close(name)
        self._core.witness()

    # Explanations

    def explain(self, name: str) -> list[dict[str, Any]]:
        """For every medium and channel: whether policy would release it, and if not why and what to do."""
        state = self._core.state(name)
        downloads = [self._explain_one(state, medium, OPERATOR) for medium in Medium if not medium.from_network]
        networks = [
            Channel(ChannelKind(net.role), network, network, None, net.prefix)
            for network, net in self._core.site.networks.items()
            if net.prefix is not None  # nothing is served on the others
        ]
        return downloads + [self._explain_one(state, medium, channel) for channel in networks for medium in Medium]

    def _explain_one(self, state: HostState, medium: Medium, channel: Channel) -> dict[str, Any]:
        if channel.prefix is not None:
            first = IPv4Address(int(channel.prefix.network_address) + 1)
            requester = Requester(address=first, mac=next(iter(state.host.macs), None))
        else:
            requester = Requester(operator="explain")
        payload: Payload = self._core.payload(state, channel)
        answer = decide(state, self._core.site, medium, channel, requester, payload, self._core.clock())
        row: dict[str, Any] = {"medium": str(medium), "channel": str(channel), "allowed": isinstance(answer, Release)}
        if isinstance(answer, Denial):
            row |= {"rule": answer.rule, "reason": answer.reason, "remedy": answer.remedy}
        if medium.from_network and channel.kind is ChannelKind.MANAGEMENT and not self._core.has_agent(state.host):
            row["caution"] = _NO_AGENT
        return row

    # Configurations

    def dhcp(self) -> str:
        """The dnsmasq configuration of the management networks that this server serves."""
        site = self._core.site
        networks = [name for name, network in site.networks.items() if network.role is Role.MANAGEMENT]
        served = {name: self._core.endpoints.required(name) for name in networks}
        bindings = [dhcp.BootServer(name, e.interface, e.address, e.port) for name, e in served.items() if e]
        if not bindings:
            remedy = f"add one for {' or '.join(networks)} to provision.toml" if networks else "declare one, and apply"
            raise NotFound(
                "settings",
                "no [[listen]] block serves a management network",
                f"{remedy}; a running service must be restarted to see it",
            )
        inventory = Inventory.model_construct(site=site, hosts=tuple(self._core.hosts.values()))
        with without_collector():
            return dhcp.dnsmasq(dhcp.model(inventory, bindings)).decode()

    def tree(self) -> dict[str, bytes]:
        """The secret-free boot configurations of all hosts by relative path, for an operator's own TFTP server.

        What carries secrets is never part of a static tree: the seed is fetched from this server, which decides. So
        a host with no interface on a network that this server serves is left out. Raises Unavailable when this server
        should serve one and cannot.
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
                arguments=self._maker.arguments(host, base),
            )
            # Signed GRUB has no HTTP module.
            over_tftp = replace(target, seed=grub.on_server(endpoint.address, _SEED))
            for mac in host.macs:
                files[in_tree(PxelinuxConfig(mac))] = pxelinux.boot_config(target)
                files[in_tree(GrubForMac(mac))] = grub.network_config(over_tftp)
        return dict(sorted(files.items()))

    def images_of_tree(self) -> dict[str, Path]:
        """Where the kernels and initrds that `tree` names stand on this server, by their relative paths there."""
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

    def archive(self, *, images: bool = True) -> Iterator[bytes]:
        """The tree as a ustar archive, in pieces; raises what `tree` and `images_of_tree` do, before the first.

        The files of images are empty without `images`: who asks knows by which names they are found.
        """
        parts: list[tuple[str, int, bytes | BinaryIO]] = [(p, len(d), d) for p, d in self.tree().items()]
        for path, source in self.images_of_tree().items():
            if isinstance(boot_paths.parse(Place.TREE, path), Kernel | Initrd) and not images:
                parts.append((path, 0, b""))
                continue
            try:
                file = source.open("rb")
            except OSError as error:
                raise Unavailable(path, f"cannot be read ({error.strerror})", "import its base image again") from None
            parts.append((path, os.fstat(file.fileno()).st_size, file))
        return _pieces(parts)

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
