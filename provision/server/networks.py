"""Every network of the settings, served for as long as it may be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from provision.boot import Channel, ChannelKind, Role
from provision.edge import Edge
from provision.errors import Invalid, Problem, Problems, ProvisionError, Unavailable
from provision.net import interfaces
from provision.net.interfaces import Machine
from provision.net.neighbours import Neighbours
from provision.net.sockets import bind_tcp, bind_udp
from provision.service.service import Service
from provision.settings import Listen, Settings
from provision.site import Site
from provision.tftp.handler import handler as tftp_handler
from provision.tftp.server import TftpServer
from provision.web import boot_app
from provision.web.protocol import Limits
from provision.web.servers import Listener, Servers

log = logging.getLogger("provision")
_TICK_SECONDS = 1.0


@dataclass
class _Served:
    """A network that is being served: where, and by what."""

    place: tuple[int, Channel]
    http: Listener
    tftp: TftpServer | None


class Networks:
    """Keeps every network of the settings served while its interface, address and rules allow it."""

    def __init__(self, service: Service, servers: Servers, neighbours: Neighbours) -> None:
        self._service, self._servers, self._neighbours = service, servers, neighbours
        self._served: dict[str, _Served] = {}
        self._noted: set[str] = set()

    async def reconcile(self, machine: Machine, *, strict: bool = False) -> None:
        """Serve what may be served on `machine`, stop what may not.

        With `strict` every refusal is raised, and then nothing is served at all, not even for a moment.
        """
        site = self._service.core.store.snapshot.site
        self._service.core.forget_endpoints()
        allowed: list[tuple[Listen, Edge | None]] = []
        refused: list[tuple[Listen, ProvisionError]] = []
        for listen in self._service.core.settings.listen:
            try:
                allowed.append((listen, self._edge(listen, site, machine) if site else None))
            except ProvisionError as error:
                refused.append((listen, error))
        if strict and refused:
            raise _refusal([error for _, error in refused])
        # All at once: while one ends, another must not go on to be served.
        await asyncio.gather(*(self._stop(listen.network, str(refusal)) for listen, refusal in refused))
        for listen, edge in allowed:
            try:
                await self._serve(listen, edge)
            except ProvisionError as error:
                refused.append((listen, error))
                if not strict:
                    await self._stop(listen.network, str(error))
        if strict and refused:
            raise _refusal([error for _, error in refused])

    def _edge(self, listen: Listen, site: Site, machine: Machine) -> Edge:
        """Where a network is to be served; raises Invalid with every rule that it breaks, or Unavailable."""
        network = site.networks.get(listen.network)
        if network is None:
            known = ", ".join(site.networks)
            raise Invalid(
                f"network '{listen.network}'", f"is not in the inventory (there: {known})", "correct [[listen]]"
            )
        bindings = {one.network: _binding(one, site) for one in self._service.core.settings.listen}
        own = bindings.pop(listen.network)
        refusals = interfaces.check_binding(own, list(bindings.values()), machine, listen.override)
        if refusals:
            facts = "; ".join(f"{refusal.fact} ({refusal.rule})" for refusal in refusals)
            raise Invalid(f"network '{listen.network}'", facts, refusals[0].remedy)
        address = interfaces.address_of(machine, own)
        if network.role is Role.MANAGEMENT and address not in network.prefix and not address.is_unspecified:
            fact = f"{address} on {listen.interface} is outside of its prefix {network.prefix}"
            raise Invalid(f"network '{listen.network}'", fact, "correct [[listen]], or the network's prefix")
        kind = ChannelKind.MANAGEMENT if network.role is Role.MANAGEMENT else ChannelKind.GENERAL
        channel = Channel(kind, listen.network, listen.interface, address, network.prefix)
        index, core = machine.interfaces[listen.interface].index, self._service.core
        return Edge(channel, index, listen.http_port, self._neighbours, lambda: core.store.snapshot.site)

    async def _serve(self, listen: Listen, edge: Edge | None) -> None:
        if edge is None:
            await self._stop(listen.network, "waits for the first 'provision apply'")
            return
        served = self._served.get(listen.network)
        if served is not None:
            if served.place == (edge.ifindex, edge.channel):
                return
            await self._stop(listen.network, "changes")
        await self._start(listen, edge)

    async def _start(self, listen: Listen, edge: Edge) -> None:
        core, address = self._service.core, str(edge.channel.address)
        if listen.network not in self._noted:
            for rule, reason in sorted(listen.override.items()):
                core.note("override", None, network=listen.network, rule=rule, reason=reason)
            self._noted.add(listen.network)
        limits = _limits(core.settings)
        tcp = bind_tcp(listen.interface, address, listen.http_port)
        http = await self._servers.add(boot_app.create(self._service.netboot, edge), tcp, limits)
        tftp = None
        if listen.tftp:
            try:
                udp = bind_udp(listen.interface, address, listen.tftp_port)
            except ProvisionError:
                await self._servers.remove(http)
                raise
            tftp = TftpServer(udp, tftp_handler(self._service.netboot, edge), listen.tftp_ports)
            tftp.start()
        self._served[listen.network] = _Served((edge.ifindex, edge.channel), http, tftp)
        self._service.listeners[listen.network] = f"served on {listen.interface}, {address}"
        log.info("serving network '%s' (%s) on %s, %s", listen.network, edge.channel.kind, listen.interface, address)

    async def _stop(self, network: str, why: str) -> None:
        served = self._served.pop(network, None)
        if served is not None or self._service.listeners.get(network) != why:
            log.warning("network '%s' is not served: %s", network, why)
        self._service.listeners[network] = why
        if served is not None:
            if served.tftp is not None:
                served.tftp.close()
            await self._servers.remove(served.http)

    async def follow(self) -> None:
        """Reconcile when links, ports, addresses or the site change; write aggregated audit entries every second."""
        latest = await asyncio.to_thread(interfaces.look)
        changed = asyncio.Event()

        async def watch() -> None:
            nonlocal latest
            while True:
                try:
                    async for machine in self._neighbours.changes():
                        latest = machine
                        changed.set()
                except ProvisionError as error:
                    log.error("the interfaces cannot be followed, trying again: %s", error)
                    await asyncio.sleep(_TICK_SECONDS)

        watching = asyncio.create_task(watch())
        site = self._service.core.store.snapshot.site
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _TICK_SECONDS)
                core = self._service.core
                with contextlib.suppress(Unavailable):
                    await asyncio.to_thread(core.audit.flush, core.clock())
                await asyncio.to_thread(core.footing.watch)
                # What could not be served, as when another program had the port, is tried again.
                waiting = len(self._served) < len(core.settings.listen)
                if changed.is_set() or waiting or core.store.snapshot.site is not site:
                    changed.clear()
                    site = core.store.snapshot.site
                    await self.reconcile(latest)
        finally:
            watching.cancel()

    def close(self) -> None:
        """End every TFTP transfer; the HTTP listeners end with `Servers`."""
        for served in self._served.values():
            if served.tftp is not None:
                served.tftp.close()


def _refusal(errors: Sequence[ProvisionError]) -> ProvisionError:
    """All of `errors` as one: invalid when a setting is, and unavailable when only what is outside does not work."""
    if len(errors) == 1:
        return errors[0]
    problems = Problems((Problem(error.subject, 0, "", error.fact, error.remedy) for error in errors), "networks")
    if all(isinstance(error, Unavailable) for error in errors):
        problems.exit, problems.status, problems.kind = Unavailable.exit, Unavailable.status, Unavailable.kind
    return problems


def _binding(listen: Listen, site: Site) -> interfaces.Binding:
    network = site.networks.get(listen.network)
    role = network.role if network else Role.GENERAL
    return interfaces.Binding(listen.network, role, listen.interface, listen.address, listen.bridge_ports)


def _limits(settings: Settings) -> Limits:
    return Limits(
        header_seconds=settings.header_timeout,
        connections=settings.max_connections,
        per_peer=settings.max_connections_per_peer,
    )
