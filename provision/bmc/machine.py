"""One machine behind its BMC: finding it, its power, and from what it boots once.

A BMC's word that something was done counts for nothing: what it shows afterwards does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from provision.bmc import documents, vendors
from provision.bmc.access import Access
from provision.bmc.connection import Connection, Refused, Reply
from provision.bmc.documents import Document
from provision.bmc.vendors import Tags, Vendor, Via
from provision.errors import Invalid, NotFound, Unavailable
from provision.model import normalize_mac

ROOT = "/redfish/v1"
POLL_SECONDS = 2.0
SETTLE_SECONDS = 120.0
"""How long a BMC may take until it shows what it was told to do."""
SHUT_DOWN_SECONDS = 300.0
"""How long an operating system may take to shut down."""

Pause = Callable[[float], None]
"""Waits so many seconds, or raises when the work is to end."""


class Power(StrEnum):
    """Whether a machine runs."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"
    UNKNOWN = "unknown"


_POWER = {"On": Power.ON, "Off": Power.OFF, "PoweringOn": Power.CHANGING, "PoweringOff": Power.CHANGING}
_LOG = "look at the BMC's own log"
_ONCE = "Boot", "BootSourceOverrideEnabled"


@dataclass(frozen=True)
class Identity:
    """What a BMC says of itself and its machine. `macs` is empty when it does not tell."""

    manufacturer: str
    model: str
    firmware: str
    vendor: Vendor
    system: str
    manager: str
    macs: frozenset[str]


class Machine:
    """A machine. The methods block; everything that goes wrong is Unavailable, and NotFound for what is not there."""

    def __init__(
        self, name: str, access: Access, pause: Pause = time.sleep, connection: Connection | None = None
    ) -> None:
        """`name` is the host's."""
        self.connection = connection or Connection(name, access)
        self.subject, self.pause = self.connection.subject, pause
        self._wanted = access.system
        self.identity = self._find()

    def request(self, method: str, path: str, body: Any = None, etag: str | None = None) -> Reply:
        """One request, unless the work is to end: a BMC may take a minute for each of dozens."""
        self.pause(0)
        return self.connection.request(method, path, body, etag)

    def get(self, path: str) -> Document:
        """The resource at `path`."""
        return self.request("GET", path).body

    # Who it is

    def _find(self) -> Identity:
        root = self.get(f"{ROOT}/")
        system_path = self._system_path(documents.path(root, "Systems") or f"{ROOT}/Systems")
        system = self.get(system_path)
        manager_path = next(iter(documents.paths(system, "Links", "ManagedBy")), "") or self._first_manager(root)
        manager = self.get(manager_path) if manager_path else {}
        said = [documents.text(root, "Vendor"), documents.text(root, "Product"), documents.text(root, "Name")]
        said += [documents.text(system, "Manufacturer"), documents.text(manager, "Manufacturer")]
        said += [documents.text(manager, "Model")]
        return Identity(
            manufacturer=documents.text(system, "Manufacturer") or documents.text(root, "Vendor"),
            model=documents.text(system, "Model"),
            firmware=documents.text(manager, "FirmwareVersion"),
            vendor=vendors.choose(said),
            system=system_path,
            manager=manager_path,
            macs=frozenset(self._macs(documents.path(system, "EthernetInterfaces"))),
        )

    def _system_path(self, collection: str) -> str:
        found = self.members(collection)
        if self._wanted:
            found = [path for path in found if path.rstrip("/").rpartition("/")[2] == self._wanted]
        if len(found) == 1:
            return found[0]
        if self._wanted:
            raise NotFound(self.subject, f"has no machine '{self._wanted}'", "correct --system: 'provision bmc set'")
        remedy = "say which one: 'provision bmc set' with --system ID"
        raise Invalid(self.subject, f"has {len(found)} machines", remedy)

    def _first_manager(self, root: Document) -> str:
        collection = documents.path(root, "Managers")
        return next(iter(self.members(collection)), "") if collection else ""

    def members(self, collection: str) -> list[str]:
        """The paths of a collection's members."""
        return list(documents.paths(self.get(collection), "Members"))

    def _macs(self, collection: str) -> Iterator[str]:
        """The MACs of the machine's NICs, as far as the BMC knows them; some show them only while it is on."""
        if not collection:
            return
        try:
            nics = [self.get(path) for path in self.members(collection)[:16]]
        except Refused:
            return
        for nic in nics:
            for key in ("PermanentMACAddress", "MACAddress"):
                try:
                    yield normalize_mac(documents.text(nic, key))
                except ValueError:
                    continue

    # Power

    def power(self) -> Power:
        """Whether it runs."""
        return _POWER.get(documents.text(self.get(self.identity.system), "PowerState"), Power.UNKNOWN)

    def turn_on(self) -> None:
        """Let it run; nothing when it does."""
        if self.power() is not Power.ON:
            self._reset(("On",))
            self._await_power(Power.ON, SETTLE_SECONDS)

    def turn_off(self, force: bool = False) -> None:
        """Let it stop: by its operating system, or by `force` at once."""
        if self.power() is Power.OFF:
            return
        if force:
            self._reset(("ForceOff",))
            self._await_power(Power.OFF, SETTLE_SECONDS)
        else:
            self._reset(self.identity.vendor.shut_down)
            self._await_power(Power.OFF, SHUT_DOWN_SECONDS)

    def _reset(self, kinds: tuple[str, ...]) -> None:
        action = documents.at(self.get(self.identity.system), "Actions", "#ComputerSystem.Reset")
        target = action.get("target") if isinstance(action, dict) else None
        if not isinstance(target, str):
            raise Unavailable(self.subject, "has no way to switch the machine", "update its firmware")
        allowed = documents.texts(action, "ResetType@Redfish.AllowableValues")
        kind = next((kind for kind in kinds if kind in allowed), None if allowed else kinds[0])
        if kind is None:
            remedy = "use --force" if "ForceOff" in allowed and kinds[0] != "ForceOff" else "update its firmware"
            raise Unavailable(self.subject, f"cannot do {kinds[0]}", remedy)
        self.request("POST", target, {"ResetType": kind})

    def _await_power(self, wanted: Power, seconds: float) -> None:
        remedy = "use --force" if seconds == SHUT_DOWN_SECONDS else _LOG
        self.wait(lambda: self.power() is wanted, seconds, f"the machine is not {wanted}", remedy)

    def wait(self, reached: Callable[[], bool], seconds: float, fact: str, remedy: str) -> None:
        """Ask until it is `reached`; raises Unavailable when it is not in so many seconds, in which its answers are."""
        waited, end = 0.0, time.monotonic() + seconds
        while not reached():
            if waited >= seconds or time.monotonic() >= end:
                raise Unavailable(self.subject, f"took the order, but after {seconds:g} seconds {fact}", remedy)
            self.pause(POLL_SECONDS)
            waited += POLL_SECONDS

    # What it boots from

    def boot_once(self, via: Via) -> None:
        """Let its next start be from there, and only that one."""
        vendor = self.identity.vendor
        target = self._device(vendor.targets[via])
        boot: dict[str, Any] = {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": "Once"}
        if vendor.mode:
            boot["BootSourceOverrideMode"] = vendor.mode
        self._override({"Boot": boot})
        if not self._shows_once(target):
            raise Unavailable(self.subject, f"took the order to boot from {target} once, but does not show it", _LOG)

    def boot_as_usual(self) -> None:
        """Let its next start be from where it is set to boot."""
        places = {self.identity.system, self._override_path()}
        if any(documents.text(self.get(path), *_ONCE) not in ("", "Disabled") for path in places):
            self._override({"Boot": dict(self.identity.vendor.usual)})

    def _device(self, usual: str) -> str:
        """The boot device that is meant, by a name that the BMC takes; raises Unavailable when there is none."""
        system = self.get(self.identity.system)
        allowed = documents.texts(system, "Boot", "BootSourceOverrideTarget@Redfish.AllowableValues")
        names = (usual, "Cd") if usual == "UsbCd" else (usual,)
        found = next((name for name in names if name in allowed), None if allowed else usual)
        if found is None:
            raise Unavailable(self.subject, f"cannot boot its machine from {usual}", "choose another --via")
        return found

    def _shows_once(self, target: str) -> bool:
        for path in {self.identity.system, self._override_path()}:
            boot = documents.at(self.get(path), "Boot") or {}
            if documents.text(boot, "BootSourceOverrideTarget") == target:
                # The emulator and some BMCs show "Continuous" for what they were told to do once.
                return documents.text(boot, "BootSourceOverrideEnabled") in ("Once", "Continuous")
        return False

    def _override_path(self) -> str:
        system = self.identity.system
        if not self.identity.vendor.settings:
            return system
        return documents.path(self.get(system), "@Redfish.Settings", "SettingsObject") or system

    def _override(self, body: Document) -> None:
        self.patch(self._override_path(), body)

    def patch(self, path: str, body: Document) -> None:
        """Change the resource at `path` as it is now; once more when it has changed meanwhile (412)."""
        for attempt in range(2):
            try:
                self.request("PATCH", path, body, self._tag(self.request("GET", path)))
                return
            except Refused as error:
                if error.answered != 412 or attempt:
                    raise

    def _tag(self, seen: Reply) -> str | None:
        tags = self.identity.vendor.tags
        if tags is Tags.NONE or seen.etag is None:
            return None
        return seen.etag.removeprefix("W/") if tags is Tags.STRONG else seen.etag
