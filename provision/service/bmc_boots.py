"""Boots by BMCs, from powered off to up: each step is written down before it is done, and undone at the end.

Whatever ends a boot (the host is up, a step fails, somebody cancels it, the service is killed), its link, window,
medium and boot override are taken back: by the boot itself, or by the next start of the service. What others have given
the host meanwhile stays, and so does what a BMC shows that was made the host's since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from provision.api.bmc import BootOrder, BootVia
from provision.api.links import LinkMedium, MakeLink
from provision.api.operations import Operation
from provision.api.status import HostStatus
from provision.bmc import virtual_media
from provision.bmc.machine import Machine, Power
from provision.bmc.vendors import Via
from provision.boot import Medium
from provision.errors import Conflict, Denied, NotFound, ProvisionError, Unavailable
from provision.host import Host
from provision.principal import Authentication, Principal, PrincipalRole
from provision.secret import Secret
from provision.service import standing
from provision.service.arrivals import Arrivals
from provision.service.bmcs import Bmcs, stranger
from provision.service.boot_plan import AT_BMC, Begun, Step, steps, to_undo
from provision.service.core import Core
from provision.service.link_reads import boot_files, told
from provision.service.links import Links
from provision.service.listeners import Listeners, Listening, serves
from provision.service.operations import Operations, Running
from provision.service.status import Reports
from provision.service.windows import Windows
from provision.store.bmc_boots import BmcBoot

_LOOK_SECONDS = 1.0
_MEDIA = {Via.PXE: Medium.PXE, Via.HTTP_BOOT: Medium.HTTP_BOOT}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What of the service a boot uses; `listeners` says what it serves."""

    core: Core
    bmcs: Bmcs
    links: Links
    windows: Windows
    reports: Reports
    listeners: Listeners
    arrivals: Arrivals


class BmcBoots:
    """Begins boots by BMCs, and undoes those that were left behind."""

    def __init__(self, parts: Parts, operations: Operations) -> None:
        self._parts, self._operations = parts, operations

    def begin(self, host: str, order: BootOrder, principal: Principal) -> Operation:
        """Begin to boot the host. Raises NotFound, Denied when policy would give it nothing, and Conflict when nothing
        is served or something is under way with the host."""
        parts, via = self._parts, Via(order.via.value)
        wanted = parts.core.seen(host, principal).host
        parts.core.store.bmcs.get(host)
        require_served(parts.listeners(), wanted, via)
        if order.via is not BootVia.CD:
            _require_allowed(parts.reports, host, _MEDIA[via], principal)

        def work(running: Running) -> None:
            _Boot(parts, host, order, principal, running).run()

        return self._operations.begin(f"boot {via}", host, principal, work)

    def recover(self) -> None:
        """Undo what boots that nobody does any more have left. Raises Unavailable when that cannot be known."""
        for left in self._parts.core.store.bmc_boots.all():
            asked = Principal(left.actor, PrincipalRole.OPERATOR, Authentication.PEER_CREDENTIALS)
            try:
                self._operations.begin("undo boot", left.host, asked, self._undoing(left.host, asked))
            except Conflict:
                continue  # its boot is under way, or there is no room now

    def _undoing(self, host: str, asked: Principal) -> Callable[[Running], None]:
        def work(running: Running) -> None:
            running.undo()
            # Looked at again: until this began, its boot may have ended by itself.
            _Undo(self._parts, asked, running).leftovers(host)

        return work


def require_served(listeners: Mapping[str, Listening], host: Host, via: Via) -> None:
    """Raise Conflict unless something is served that the host could boot from."""
    if not serves(listeners, None if via is Via.CD else {one.network for one in host.interfaces.values()}):
        own = " or ".join(sorted({one.network for one in host.interfaces.values() if one.network}))
        fact = "nothing is served" if via is Via.CD else f"nothing is served on its networks ({own})"
        block = "an [api] block" if via is Via.CD else "a [[listen]] block for one of them"
        remedy = f"add {block} to provision.toml, or see the service's log"
        raise Conflict(host.name, f"{fact}, so it cannot boot from here", remedy)


def _require_allowed(reports: Reports, host: str, medium: Medium, principal: Principal) -> None:
    """Raise Denied when policy says no for another reason than that there is no window yet."""
    rows = [row for row in reports.explain(host, principal) if row.medium is medium]
    if any(row.allowed or row.rule == "window-closed" for row in rows):
        return
    said = next((row for row in rows if row.rule), None)
    if said is not None:
        raise Denied(host, said.reason or "", said.remedy or "", said.rule or "")


class _Boot:
    """One boot, in its operation."""

    def __init__(self, parts: Parts, host: str, order: BootOrder, principal: Principal, running: Running) -> None:
        self._parts, self._host, self._order, self._principal = parts, host, order, principal
        self._running, self._via = running, Via(order.via.value)
        self._urls: tuple[str, ...] = ()
        self._link = ""

    def run(self) -> None:
        """Boot the host, and take back what was given for it."""
        parts, host = self._parts, self._host
        # The host may have other labels by then than those that the principal's selector names.
        undo = _Undo(parts, replace(self._principal, selector=()), self._running)
        undo.leftovers(host)
        machine = parts.bmcs.machine(host, self._running.pause)
        was_off = self._require_ready(machine)
        left = BmcBoot(host, parts.core.clock(), was_off, (), self._principal.name)
        there = parts.bmcs.place(host)
        try:
            for step in steps(self._via):
                standing.require(parts.core.store, self._principal)
                begun = Begun(step, there if step in AT_BMC else "")
                left = replace(left, steps=(*left.steps, str(begun)))
                parts.core.store.bmc_boots.put(left)
                parts.core.witness()
                # In the journal with the next step: who is killed before that leaves what the time alone tells of.
                begun = replace(begun, what=self._do(step, machine) or begun.what)
                left = replace(left, steps=(*left.steps[:-1], str(begun)))
                self._running.pause(0)  # raises when it was cancelled meanwhile
            self._await_up(left.started)
        except BaseException:
            self._running.undo()
            undo.run(left, up=parts.arrivals.is_on_its_way(host, left.started), quiet=True)
            raise
        self._running.undo()
        try:
            undo.run(left, up=True)
        except ProvisionError as error:
            fact = f"is up, but not everything set up for its boot could be undone ({error.fact})"
            raise Unavailable(host, fact, "this is tried again every ten minutes; see 'provision bmc check'") from None

    def _require_ready(self, machine: Machine) -> bool:
        """Whether the machine is off; raises Conflict when it is not the host's, or runs and is not to be stopped."""
        if fact := stranger(machine, self._parts.core.state(self._host).host):
            raise Conflict(self._host, fact, "see 'provision bmc check'")
        off = machine.power() is Power.OFF
        if not off and not self._order.force:
            fact = "its machine is on"
            raise Conflict(self._host, fact, f"run 'provision power {self._host} off', or give --force")
        if self._via is Via.CD:
            virtual_media.slot(machine)
        return off

    def _do(self, step: Step, machine: Machine) -> str:
        """Do a step; returns the id of what it has made, "" when it makes nothing."""
        core, host, principal = self._parts.core, self._host, self._principal
        if step is Step.WINDOW:
            window = self._parts.windows.give(host, self._order.minutes, 1, principal)
            self._running.say(f"a window is open for {self._order.minutes} minutes")
            return str(window.id)
        if step is Step.LINK:
            self._make_link()
            return self._link
        if step is Step.MEDIUM:
            with core.act("medium-inserted", principal, host=host, medium="iso"):
                self._insert(machine)
        elif step is Step.ONCE:
            with core.act("boot-set", principal, host=host, kind=str(self._via)):
                machine.boot_once(self._via)
            self._running.say(f"it boots once by {self._via}")
        else:
            with core.act("power-changed", principal, host=host, kind="cycle, forced" if self._order.force else "on"):
                machine.turn_off(force=True)  # nothing when it is off
                machine.turn_on()
            self._running.say("the machine is on")
        return ""

    def _make_link(self) -> None:
        bmc = self._parts.core.store.bmcs.get(self._host)
        # A boot that begins again reads again; the link is for one address, so that nobody else does.
        order = MakeLink(medium=LinkMedium.ISO, minutes=self._order.minutes, uses=2, address=_address(bmc.url))
        made = self._parts.links.make(self._host, order, self._principal)
        self._urls, self._link = made.urls, made.id
        self._running.say(f"link {made.id} is made")

    def _insert(self, machine: Machine) -> None:
        """By the first URL that the BMC can read: over TLS, or else in plain HTTP where the network allows that."""
        drive = virtual_media.slot(machine)
        virtual_media.eject(machine, drive)
        for last, url in ((url is self._urls[-1], url) for url in self._urls):
            try:
                virtual_media.insert(machine, drive, Secret(url.encode()))
                break
            except Unavailable:
                if last:
                    raise
                virtual_media.eject(machine, drive)
        self._running.say(f"its medium is in the virtual CD {drive.id}")

    def _await_up(self, since: datetime) -> None:
        """Wait until the host says that it is up, and say how far it is meanwhile. Raises Unavailable."""
        core, said = self._parts.core, ""
        end = since + timedelta(minutes=self._order.minutes)
        while core.clock() < end:
            (status,) = self._parts.reports.status(self._principal, self._host).hosts
            if come := self._parts.arrivals.said(status, since):
                self._running.say(come)
                return
            if (now := self._seen(status, since)) and now != said:
                self._running.say(now)
                said = now
            standing.require(core.store, self._principal)
            self._running.pause(_LOOK_SECONDS)
        fact = f"did not report within {self._order.minutes} minutes that it was up (last seen: {said or 'nothing'})"
        raise Unavailable(self._host, fact, "look at its console, or give it more --minutes")

    def _seen(self, status: HostStatus, since: datetime) -> str:
        """What of the boot was seen."""
        if self._via is Via.CD:
            return self._read_by_link()
        if status.started is None or datetime.fromisoformat(status.started) < since:
            return ""
        return f"{status.stage} {status.parts[status.stage]} %" if status.stage in status.parts else status.stage

    def _read_by_link(self) -> str:
        """How much of its medium the BMC has read, and of what the machine boots."""
        medium = self._parts.links.layout(self._host, Medium.ISO)
        return told(self._parts.links.reads, self._link, medium.size, boot_files(medium))


class _Undo:
    """Takes back what boots were given."""

    def __init__(self, parts: Parts, principal: Principal, running: Running) -> None:
        self._parts, self._principal, self._running = parts, principal, running

    def leftovers(self, host: str) -> None:
        """Undo what an earlier boot of the host has left, if one has. Raises the first failure."""
        core = self._parts.core
        for left in core.store.bmc_boots.all():
            if left.host == host:
                self.run(left, up=self._parts.arrivals.is_on_its_way(host, left.started))

    def run(self, left: BmcBoot, up: bool, quiet: bool = False) -> None:
        """Undo each step, also when another one fails; what fails stays in the journal. Raises the first failure,
        unless it is `quiet`: then another error is under way."""
        failed: list[tuple[Begun, ProvisionError]] = []
        for begun in to_undo([Begun.parse(text) for text in left.steps], left.was_off, up):
            try:
                self._one(begun, left)
            except ProvisionError as error:
                failed.append((begun, error))
                self._running.say(f"not undone yet ({begun.step}): {error}")
        kept = tuple(str(begun) for begun, _ in reversed(failed))
        try:
            if kept:
                self._parts.core.store.bmc_boots.put(replace(left, steps=kept))
            else:
                self._parts.core.store.bmc_boots.remove(left.host)
            self._parts.core.witness()
        except ProvisionError as error:
            _log.error("the journal of boots by BMCs: %s", error)
        if failed and not quiet:
            raise failed[0][1]

    def _one(self, begun: Begun, left: BmcBoot) -> None:
        if begun.step is Step.WINDOW:
            self._close(begun.what, left)
        elif begun.step is Step.LINK:
            self._revoke(begun.what, left)
        elif begun.what and begun.what != (there := self._place(left.host)):
            # Its machine is maybe another one by now, and nobody has told it anything.
            now = f"is at {there}" if there else "is not known"
            self._running.say(f"its BMC {now} by now: what was told to that at {begun.what} is not undone")
        else:
            self._at_bmc(begun.step, left.host)

    def _place(self, host: str) -> str:
        try:
            return self._parts.bmcs.place(host)
        except NotFound:
            return ""

    def _close(self, id_: str, left: BmcBoot) -> None:
        """Close the boot's own window, and no other: an operator may have opened one meanwhile."""
        window = self._parts.core.store.windows.of(left.host)
        if window is None:
            return
        since = window.opened is not None and window.opened >= left.started
        if str(window.id) == id_ if id_ else since:
            self._parts.windows.close(left.host, self._principal)

    def _revoke(self, id_: str, left: BmcBoot) -> None:
        """Revoke the boot's own link; when nobody had time to write down which it is, all that its actor has made
        for the host since."""
        for link in self._parts.core.store.links.all():
            since = link.host == left.host and link.actor == left.actor and link.made >= left.started
            if (link.id == id_ if id_ else since) and not link.revoked:
                self._parts.links.revoke(link.id, self._principal)

    def _at_bmc(self, step: Step, host: str) -> None:
        core, machine = self._parts.core, self._parts.bmcs.machine(host, self._running.pause)
        if step is Step.MEDIUM:
            with core.act("medium-ejected", self._principal, host=host, medium="iso"):
                for drive in virtual_media.slots(machine)[:1]:
                    virtual_media.eject(machine, drive)
            self._running.say("its virtual CD is empty")
        elif step is Step.ONCE:
            machine.boot_as_usual()
        else:
            with core.act("power-changed", self._principal, host=host, kind="off, forced"):
                machine.turn_off(force=True)
            self._running.say("the machine is off again")


def _address(url: str) -> IPv4Address | IPv6Address | None:
    """The BMC's address, when its URL has one: it reads from there."""
    try:
        return ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None
