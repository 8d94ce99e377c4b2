"""Every network of the settings, served for as long as it may be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections import deque
from dataclasses import dataclass
from functools import partial

from provision.boot import Channel, ChannelKind
from provision.edge import Edge
from provision.errors import ProvisionError, Unavailable
from provision.net import fdb, interfaces
from provision.net.interfaces import Link, Machine
from provision.net.neighbours import Neighbours
from provision.net.pins import Pins
from provision.net.rules import Stack, objection
from provision.net.sockets import bind_tcp, bind_udp
from provision.net.sources import Sources, hear_only, keep_first_packet, program
from provision.places import NOBODY, Group
from provision.server import listening
from provision.service.service import Service
from provision.settings import Listen
from provision.site import Site
from provision.tftp.handler import handler as tftp_handler
from provision.tftp.server import TftpServer
from provision.web import boot_app
from provision.web.servers import Listener, Servers

log = logging.getLogger("provision")
_TICK_SECONDS = 1.0
_SETTLE_SECONDS = 0.2
"""So long the machine has to be unchanged before a network is started. Stopping one waits for nothing."""
_LOOK_SECONDS = 10.0
"""So often the machine is looked at when the kernel tells of nothing: it does not tell of a macvlan that a container
brings up, nor of every switch."""


@dataclass
class _Served:
    """A network that is being served: where, and by what."""

    place: tuple[int, Channel, Stack]
    http: Listener
    tftp: TftpServer | None
    sockets: tuple[socket.socket, ...]
    heard: Sources


class Networks:
    """Keeps every network of the settings served while its interface, address and rules allow it."""

    def __init__(self, service: Service, servers: Servers, neighbours: Neighbours, pins: Pins | Unavailable) -> None:
        """`pins` may be why neighbours cannot be pinned: then no management network is served."""
        self._service, self._servers, self._neighbours, self._pins = service, servers, neighbours, pins
        self._states: dict[str, str] = {}
        self._served: dict[str, _Served] = {}
        self._noted: set[str] = set()
        self._removing: set[asyncio.Task[None]] = set()
        self._links: deque[tuple[float, Link]] = deque(maxlen=256)
        self._loop = asyncio.get_running_loop()
        self._unwatch = [neighbours.watch_links(self._link)]
        self._on_bridges = False
        self._machine, self._changed, self._news = Machine({}), asyncio.Event(), 0.0

    async def reconcile(self, machine: Machine, *, strict: bool = False, start: bool = True) -> None:
        """Serve what may be served on `machine`, stop what may not. Without `start` it only stops.

        With `strict` every refusal is raised, and then nothing is served at all, not even for a moment.
        """
        site = self._service.core.store.snapshot.site
        self._service.core.endpoints.forget()
        allowed: list[tuple[Listen, Edge | None]] = []
        refused: list[tuple[Listen, ProvisionError]] = []
        for listen in self._service.core.settings.listen:
            try:
                allowed.append((listen, self._edge(listen, site, machine) if site else None))
            except ProvisionError as error:
                refused.append((listen, error))
        if strict and refused:
            raise listening.refusal([error for _, error in refused])
        # All at once: while one ends, another must not go on to be served.
        await asyncio.gather(*(self._stop(listen.network, str(refusal)) for listen, refusal in refused))
        for listen, edge in allowed:
            try:
                await self._serve(listen, edge, machine, start)
            except ProvisionError as error:
                refused.append((listen, error))
                if not strict:
                    await self._stop(listen.network, str(error))
        if strict and refused:
            raise listening.refusal([error for _, error in refused])

    def states(self) -> dict[str, str]:
        """Each network of the settings, and in words whether it is served."""
        return dict(self._states)

    def _edge(self, listen: Listen, site: Site, machine: Machine) -> Edge:
        """Where a network is to be served; raises as `listening.place` does."""
        core = self._service.core
        channel, stack = listening.place(listen, core.settings.listen, site, machine)
        if channel.kind is ChannelKind.MANAGEMENT and isinstance(self._pins, Unavailable):
            raise Unavailable(f"network '{listen.network}'", self._pins.fact, self._pins.remedy)
        pins = None if isinstance(self._pins, Unavailable) else self._pins
        index = machine.interfaces[listen.interface].index

        def present() -> Site | None:
            return core.store.snapshot.site

        return Edge(channel, index, listen.http_port, self._neighbours, present, pins, core.macs_at, stack)

    async def _serve(self, listen: Listen, edge: Edge | None, machine: Machine, start: bool) -> None:
        if edge is None:
            await self._stop(listen.network, "waits for the first 'provision apply'")
            return
        served, stack = self._served.get(listen.network), edge.stack
        if served is not None:
            if served.place == (edge.ifindex, edge.channel, stack):
                await self._keep_up(listen, served, machine)
                return
            await self._stop(listen.network, "changes")
        self._states.setdefault(listen.network, "waits until its interface has settled")
        if start and not self._outdated(machine, stack):
            await self._start(listen, edge, machine)
            if self._outdated(machine, stack):  # while it was being started
                await self._stop(listen.network, "waits until its interface has settled")

    def _outdated(self, machine: Machine, stack: Stack) -> bool:
        """Whether the kernel has told of a link that breaks a rule since the look at `machine` began."""
        since = [link for at, link in self._links if at >= machine.taken]
        lost = len(since) == self._links.maxlen
        return lost or any(objection(link, stack) for link in since)

    def _link(self, link: Link) -> None:
        """Called in the thread that reads the kernel's notifications."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._told, link)

    def _learned(self, entry: fdb.Entry) -> None:
        """The same for what a bridge has learned: who is behind another port than a listed one is sent no more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._moved, entry)

    def _moved(self, entry: fdb.Entry) -> None:
        if isinstance(self._pins, Unavailable) or not entry.fresh:
            return
        for served in self._served.values():
            stack = served.place[2]
            if stack.bridge == entry.bridge and not stack.allows(fdb.name_of(entry.port)):
                self._pins.moved(entry.mac)

    def _told(self, link: Link) -> None:
        """End at once whatever a link makes unfit, before anybody has looked at the rest."""
        self._links.append((time.monotonic(), link))
        for network, served in list(self._served.items()):
            if why := objection(link, served.place[2]):
                self._cut(network, why)

    def _cut(self, network: str, why: str) -> None:
        served = self._served.pop(network)
        if served.tftp is not None:
            served.tftp.close()
        served.http.cut()
        self._states[network] = why
        log.warning("network '%s' is not served: %s", network, why)
        task = self._loop.create_task(self._servers.remove(served.http))
        self._removing.add(task)
        task.add_done_callback(self._removing.discard)

    async def _start(self, listen: Listen, edge: Edge, machine: Machine) -> None:
        if listen.network in self._noted:
            await self._open(listen, edge, machine)
            return
        with contextlib.ExitStack() as stack:
            for rule, reason in sorted(listen.override.items()):
                act = self._service.core.act("override", None, network=listen.network, rule=rule, reason=reason)
                stack.enter_context(act)
            await self._open(listen, edge, machine)
        self._noted.add(listen.network)

    async def _open(self, listen: Listen, edge: Edge, machine: Machine) -> None:
        core, address = self._service.core, str(edge.channel.address)
        if edge.stack.bridge and not self._on_bridges:
            self._on_bridges = True
            self._unwatch.append(self._neighbours.watch_fdb(self._learned))
        limits = listening.limits(core.settings)
        tcp = bind_tcp(listen.interface, address, listen.http_port)
        sockets, heard = [tcp], listening.heard(edge.channel, machine)
        await self._hear(tcp, heard)
        keep_first_packet(tcp)
        who = partial(self._who, edge.ifindex)
        may_link = listen.links and edge.channel.kind is ChannelKind.MANAGEMENT
        app = boot_app.create(self._service.netboot, edge, self._service if may_link else None)
        http = await self._servers.add(app, tcp, limits, who)
        tftp = None
        if listen.tftp:
            try:
                udp = bind_udp(listen.interface, address, listen.tftp_port)
            except ProvisionError:
                await self._servers.remove(http)
                raise
            await self._hear(udp, heard)
            sockets.append(udp)
            tftp = TftpServer(udp, tftp_handler(self._service.netboot, edge), listen.tftp_ports, who=who)
            tftp.start()
        self._served[listen.network] = _Served(
            (edge.ifindex, edge.channel, edge.stack), http, tftp, tuple(sockets), heard
        )
        log.info("serving network '%s' (%s) on %s, %s", listen.network, edge.channel.kind, listen.interface, address)
        await self._keep_up(listen, self._served[listen.network], machine)

    async def _hear(self, sock: socket.socket, heard: Sources) -> None:
        """Let a listening socket hear these sources only. Without the helper process a newer kernel does not let us do
        that to a TCP socket; no management network is served then."""
        try:
            if sock.type is socket.SOCK_DGRAM or isinstance(self._pins, Unavailable):
                hear_only(sock, heard)
            elif not await self._pins.filter(sock, program(heard)):
                raise PermissionError(errno.EPERM, "the helper process could not do it")
        except OSError as error:
            log.warning("a listener hears every source address (%s)", error.strerror)

    async def _keep_up(self, listen: Listen, served: _Served, machine: Machine) -> None:
        """Follow the routes, hearing whom answers go back to, and say what of the kernel should be set otherwise."""
        _, channel, _ = served.place
        heard = listening.heard(channel, machine)
        if heard != served.heard:
            for sock in served.sockets:
                await self._hear(sock, heard)
            served.heard = heard
        text = f"served on {channel.interface}, {channel.address}"
        for advice in listening.advice(channel, machine):
            if str(advice) not in self._states.get(listen.network, ""):
                log.warning("network '%s' is served, but %s", listen.network, advice)
            text += f"; but {advice}"
        if self._served.get(listen.network) is served:  # it may have been cut off meanwhile
            self._states[listen.network] = text

    def _who(self, ifindex: int, address: str) -> Group:
        """Who counts as one: the MAC that the kernel has for `address` now, as good as its word is. This is about
        fairness only, never about what anybody may have."""
        mac = self._neighbours.known(ifindex, address)
        if isinstance(self._pins, Pins):
            mac = self._pins.behind(ifindex, address, mac)
        if mac is None:
            return NOBODY
        return Group(mac, known=mac in self._service.core.store.snapshot.by_mac)

    async def _stop(self, network: str, why: str) -> None:
        served = self._served.pop(network, None)
        if served is not None or self._states.get(network) != why:
            log.warning("network '%s' is not served: %s", network, why)
        self._states[network] = why
        if served is not None:
            if served.tftp is not None:
                served.tftp.close()
            await self._servers.remove(served.http)

    async def follow(self) -> None:
        """Stop at once what links, ports, addresses, routes or the site no longer allow, and serve what they allow when
        they have settled."""
        self._see(await asyncio.to_thread(interfaces.look))
        watching, settled = asyncio.create_task(self._watch()), True
        core, looked, self._news = self._service.core, time.monotonic(), time.monotonic()
        site = core.store.snapshot.site
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _TICK_SECONDS if settled else _SETTLE_SECONDS)
                if time.monotonic() - looked > _LOOK_SECONDS:
                    looked = time.monotonic()
                    with contextlib.suppress(Unavailable):
                        self._see(await asyncio.to_thread(interfaces.look))
                # What could not be served, as when another program had the port, is tried again.
                waiting = not settled or len(self._served) < len(core.settings.listen)
                if self._changed.is_set() or waiting or core.store.snapshot.site is not site:
                    self._changed.clear()
                    site, settled = core.store.snapshot.site, time.monotonic() - self._news >= _SETTLE_SECONDS
                    await self.reconcile(self._machine, start=settled)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Take the kernel's notifications of the machine."""
        while True:
            try:
                async for machine in self._neighbours.changes(settle=0.0):
                    self._see(machine)
                    self._news = time.monotonic()
            except ProvisionError as error:
                log.error("the interfaces cannot be followed, trying again: %s", error)
                await asyncio.sleep(_TICK_SECONDS)

    def _see(self, machine: Machine) -> None:
        """Go by `machine` from now on, unless a look that began later has come first."""
        if machine.taken >= self._machine.taken:
            self._machine = machine
            self._changed.set()

    def close(self) -> None:
        """End every TFTP transfer; the HTTP listeners end with `Servers`."""
        for unwatch in self._unwatch:
            unwatch()
        for served in self._served.values():
            if served.tftp is not None:
                served.tftp.close()
