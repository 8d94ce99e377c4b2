"""What is done to many hosts at once: what each would be refused, said before anything is done, and how it is begun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from provision.api.bmc import BootOrder, BootVia, ChangePower, PowerAction
from provision.api.links import LinkMedium, MadeLink, MakeLink
from provision.api.operations import Operation
from provision.api.status import Explanation
from provision.bmc.vendors import Via
from provision.boot import Medium
from provision.errors import Conflict, Denied, Invalid, NotFound, ProvisionError
from provision.principal import Principal
from provision.service.bmc_boots import BmcBoots, Parts, require_served
from provision.service.operations import Operations

MOST_LINKS = 200
"""Links that are made by one answer, which is the only one that has them."""


class Action(StrEnum):
    """What can be done to a selection of hosts."""

    WINDOW = "window"
    LINK_ISO = "link-iso"
    LINK_DISK = "link-disk"
    ON = "power-on"
    OFF = "power-off"
    CYCLE = "power-cycle"
    BOOT_PXE = "boot-pxe"
    BOOT_HTTP = "boot-http-boot"
    BOOT_CD = "boot-cd"

    @property
    def words(self) -> str:
        """The same for people, as an order."""
        return _WORDS[self]

    @property
    def power(self) -> PowerAction | None:
        """What it does to the power of a machine that is not booted; None for anything else."""
        return _POWER.get(self)

    @property
    def via(self) -> BootVia | None:
        """From what it boots a host by its BMC; None for anything else."""
        return _VIA.get(self)

    @property
    def link(self) -> LinkMedium | None:
        """To what it makes links; None for anything else."""
        return _LINKS.get(self)


_WORDS = {
    Action.WINDOW: "Open window",
    Action.LINK_ISO: "Make link to ISO",
    Action.LINK_DISK: "Make link to disk image",
    Action.ON: "Power on",
    Action.OFF: "Power off",
    Action.CYCLE: "Power cycle",
    Action.BOOT_PXE: "Boot by PXE",
    Action.BOOT_HTTP: "Boot by HTTP boot",
    Action.BOOT_CD: "Boot from virtual CD",
}
_POWER = {Action.ON: PowerAction.ON, Action.OFF: PowerAction.OFF, Action.CYCLE: PowerAction.CYCLE}
_VIA = {Action.BOOT_PXE: BootVia.PXE, Action.BOOT_HTTP: BootVia.HTTP_BOOT, Action.BOOT_CD: BootVia.CD}
_LINKS = {Action.LINK_ISO: LinkMedium.ISO, Action.LINK_DISK: LinkMedium.DISK}
_NETWORK = {Action.BOOT_PXE: (Medium.PXE,), Action.BOOT_HTTP: (Medium.HTTP_BOOT,)}
_COPIES = {Action.LINK_ISO: Medium.ISO, Action.LINK_DISK: Medium.DISK, Action.BOOT_CD: Medium.ISO}


@dataclass(frozen=True)
class Options:
    """How an action is done; None leaves a number to the service. `force` switches machines off at once."""

    minutes: int | None = None
    boots: int | None = None
    uses: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why an action would be refused for a host, and the way out; `rule` is policy's, "" when it is not policy."""

    host: str
    reason: str
    remedy: str
    rule: str = ""


Begin = Callable[[str], Operation | None]
"""Does an action to a host, or begins it: then the operation is what goes on. Raises ProvisionError."""


class Selections:
    """Judges and does actions, by the same calls as for a single host."""

    def __init__(self, parts: Parts, boots: BmcBoots, operations: Operations) -> None:
        self._parts, self._boots, self._operations = parts, boots, operations

    def refusals(self, names: Iterable[str], action: Action, principal: Principal) -> list[Refusal]:
        """Which of the hosts would be refused now, and why. Nothing is done or recorded. Raises NotFound."""
        busy = self._operations.running(principal) if action.power or action.via else {}
        found = (self._refusal(name, action, principal, busy.get(name)) for name in names)
        return [refusal for refusal in found if refusal is not None]

    def _refusal(self, name: str, action: Action, principal: Principal, under_way: Operation | None) -> Refusal | None:
        if action.power or action.via:
            try:
                self._parts.core.store.bmcs.get(name)
            except NotFound as error:
                return refusal(name, error)
            if under_way is not None:
                return Refusal(name, f"{under_way.kind} is under way", "wait for its end, or cancel it")
        if action.via:
            try:
                require_served(self._parts.listeners(), self._parts.core.seen(name, principal).host, Via(action.via))
            except Conflict as error:
                return refusal(name, error)
        if action.power:
            return None
        if action in _COPIES:
            try:
                self._parts.links.require(name, _COPIES[action], principal)
            except (Denied, Conflict) as error:
                return refusal(name, error)
            return None
        media = _NETWORK.get(action, (Medium.PXE, Medium.HTTP_BOOT))
        return _denied(name, self._parts.reports.explain_with_window(name, principal, media))

    def begin(self, action: Action, options: Options, principal: Principal) -> Begin:
        """What does the action to one host. Raises Invalid for options that cannot be."""
        parts, power, via = self._parts, action.power, action.via
        if power is not None:
            order = ChangePower(action=power, force=options.force)
            return lambda name: parts.bmcs.change_power(name, order, principal)
        if via is not None:
            minutes = 60 if options.minutes is None else options.minutes
            if not 1 <= minutes <= 1440:
                raise Invalid("boot", "has 1 to 1440 minutes", "choose a number in that range")
            boot = BootOrder(via=via, minutes=minutes, force=options.force)
            return lambda name: self._boots.begin(name, boot, principal)

        def open_window(name: str) -> None:
            parts.windows.open(name, options.minutes, options.boots, principal)

        return open_window

    def links(
        self, names: Sequence[str], medium: LinkMedium, options: Options, principal: Principal
    ) -> tuple[list[MadeLink], list[Refusal]]:
        """A link to each host's medium, and for whom there is none. Raises Invalid for more than MOST_LINKS."""
        if len(names) > MOST_LINKS:
            fact = f"{len(names)} hosts are more than the {MOST_LINKS} that get links at once"
            raise Invalid("selection", fact, "select fewer: search, or filter by a label")
        given = {"minutes": options.minutes, "uses": options.uses}
        numbers = {field: number for field, number in given.items() if number is not None}
        order = MakeLink.model_validate({"medium": medium, **numbers})
        made, refused = [], []
        for name in names:
            try:
                made.append(self._parts.links.make(name, order, principal))
            except ProvisionError as error:
                refused.append(refusal(name, error))
        return made, refused


def refusal(host: str, error: ProvisionError) -> Refusal:
    """The error of a host as what it was refused."""
    return Refusal(host, reason(host, error.subject, error.fact), error.remedy, getattr(error, "rule", ""))


def reason(host: str, subject: str, fact: str) -> str:
    """The fact as a row of the host says it: what it is about is named when that is not the host."""
    return fact if subject == host else f"{subject}: {fact}"


def _denied(name: str, rows: Sequence[Explanation]) -> Refusal | None:
    """What policy says against all of it, management networks first; None when it allows something."""
    if any(row.allowed for row in rows):
        return None
    nearest = sorted(rows, key=lambda row: not row.channel.startswith("management"))
    if not nearest:
        return Refusal(name, "there is no network that it could boot from", "give it an interface on a network")
    row = nearest[0]
    return Refusal(name, row.reason or "", row.remedy or "", row.rule or "")
