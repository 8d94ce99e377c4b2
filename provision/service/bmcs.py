"""BMCs of hosts: an admin says where one is, operators use it. Its password goes to the BMC alone."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from provision.api import bmc as api
from provision.api.bmc import PowerAction, PowerState
from provision.api.operations import Operation
from provision.bmc import virtual_media
from provision.bmc.access import Access, Pin, parse
from provision.bmc.machine import Machine, Pause
from provision.errors import Conflict, ProvisionError, Unavailable
from provision.host import Host
from provision.principal import Principal
from provision.secret import Secret
from provision.service.core import Core
from provision.service.operations import Operations, Running
from provision.store.bmcs import Bmc

_AT_ONCE = 8
"""Requests that wait for a BMC's answer themselves; the others have operations."""
_PATIENCE = 120.0
"""Seconds that such a one may take: looking at a BMC takes dozens of requests, and each may take a minute."""

Reach = Callable[[str, Access, Pause], Machine]


class Bmcs:
    """Sets, shows, removes, checks and uses the BMCs of hosts."""

    def __init__(self, core: Core, operations: Operations, reach: Reach = Machine) -> None:
        self._core, self._operations, self._reach = core, operations, reach
        self._room = threading.BoundedSemaphore(_AT_ONCE)

    def put(self, host: str, wanted: api.NewBmc, principal: Principal) -> api.BmcRow:
        """Seal the password of the host's BMC, instead of what was set before; the same again changes nothing. Raises
        NotFound, Invalid, and Conflict while something is under way with it."""
        core, password = self._core, Secret(wanted.password)
        core.seen(host, principal)
        access = parse(wanted.url, wanted.user, password, Pin(wanted.ca, wanted.fingerprint), wanted.system)
        pin = access.pin
        made = Bmc(access.url, access.user, access.system, pin.ca, pin.fingerprint, core.clock(), principal.name)
        if (present := self._same(host, made, password)) is not None:
            return _row(host, present)
        with self._operations.none_for(host), core.act("bmc-set", principal, host=host, address=access.url):
            core.store.bmcs.set(host, made, password)
        core.witness()
        return _row(host, made)

    def _same(self, host: str, wanted: Bmc, password: Secret) -> Bmc | None:
        """What is set, when setting this would change nothing but who did it and when."""
        try:
            present, held = self._core.store.bmcs.open(host)
        except ProvisionError:
            return None  # there is none, or it is damaged and to be replaced
        same = replace(wanted, created=present.created, actor=present.actor) == present
        return present if same and hmac.compare_digest(held.reveal(), password.reveal()) else None

    def get(self, host: str, principal: Principal) -> api.BmcRow:
        """The host's BMC, without its password; raises NotFound."""
        self._core.seen(host, principal)
        return _row(host, self._core.store.bmcs.get(host))

    def remove(self, host: str, principal: Principal) -> None:
        """Know the host's BMC no longer; raises NotFound, and Conflict while something is under way with it."""
        core = self._core
        core.seen(host, principal)
        core.store.bmcs.get(host)
        with self._operations.none_for(host), core.act("bmc-removed", principal, host=host):
            core.store.bmcs.remove(host)
        core.witness()

    def place(self, host: str) -> str:
        """Where the host's BMC is, and which of its machines is the host; raises NotFound."""
        bmc = self._core.store.bmcs.get(host)
        return f"{bmc.url}/{bmc.system}"

    def machine(self, host: str, pause: Pause) -> Machine:
        """The host's machine, behind its BMC; raises NotFound, Unavailable."""
        bmc, password = self._core.store.bmcs.open(host)
        access = parse(bmc.url, bmc.user, password, Pin(bmc.ca, bmc.fingerprint), bmc.system)
        return self._reach(host, access, pause)

    def check(self, host: str, principal: Principal) -> api.BmcReport:
        """Log in, and look at all that is needed to boot the host. Raises NotFound, Unavailable."""
        state = self._core.seen(host, principal)
        self._core.store.bmcs.get(host)
        with self._in_room(), self._core.act("bmc-checked", principal, host=host):
            machine = self.machine(host, _patience(host))
            found, drives = machine.identity, virtual_media.slots(machine)
            problems = [fact] if (fact := stranger(machine, state.host)) else []
            if not drives:
                problems.append("it has no virtual CD, so its machine boots by pxe or http-boot only")
            return api.BmcReport(
                host=host,
                manufacturer=found.manufacturer,
                model=found.model,
                firmware=found.firmware,
                vendor=found.vendor.title,
                power=PowerState(machine.power()),
                drive=drives[0].id if drives else None,
                macs=tuple(sorted(found.macs)),
                problems=tuple(problems),
            )

    def power(self, host: str, principal: Principal) -> api.HostPower:
        """Whether the host runs, as its BMC says. Raises NotFound, Unavailable."""
        self._core.seen(host, principal)
        with self._in_room():
            return api.HostPower(host=host, power=PowerState(self.machine(host, _patience(host)).power()))

    def change_power(self, host: str, order: api.ChangePower, principal: Principal) -> Operation:
        """Begin to switch the host's machine. Raises NotFound, and Conflict when something is under way with it."""
        core = self._core
        core.seen(host, principal)
        core.store.bmcs.get(host)
        how = f"{order.action}, forced" if order.force else str(order.action)

        def work(running: Running) -> None:
            with core.act("power-changed", principal, host=host, kind=how):
                switch(self.machine(host, running.pause), order, running.say)

        return self._operations.begin(f"power {order.action}", host, principal, work)

    @contextmanager
    def _in_room(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise Conflict("BMCs", f"{_AT_ONCE} are being asked", "try again in a moment")
        try:
            yield
        finally:
            self._room.release()


def _patience(host: str) -> Pause:
    """What waits for whoever waits for the answer themselves: for so long and no longer."""
    end = time.monotonic() + _PATIENCE

    def pause(seconds: float) -> None:
        if time.monotonic() >= end:
            fact = f"has not answered everything in {_PATIENCE:g} seconds"
            raise Unavailable(f"{host}: BMC", fact, "try again, or restart it")
        time.sleep(seconds)

    return pause


def switch(machine: Machine, order: api.ChangePower, say: Callable[[str], None]) -> None:
    """Switch a machine; each state that it was seen in is said."""
    if order.action is not PowerAction.ON:
        machine.turn_off(order.force)
        say("the machine is off")
    if order.action is not PowerAction.OFF:
        machine.turn_on()
        say("the machine is on")


def stranger(machine: Machine, host: Host) -> str:
    """Why the machine is not the host's, whose secrets it would get; "" when it may be. A BMC need not tell its
    machine's MACs."""
    macs = machine.identity.macs
    if not macs or macs & set(host.macs):
        return ""
    return f"its machine has none of the MACs of {host.name}, so it is another host's BMC, or the inventory is wrong"


def _row(host: str, bmc: Bmc) -> api.BmcRow:
    return api.BmcRow(
        host=host,
        url=bmc.url,
        user=bmc.user,
        known_by=str(Pin(bmc.ca, bmc.fingerprint)),
        system=bmc.system or None,
        set=bmc.created.isoformat(),
        by=bmc.actor,
    )
