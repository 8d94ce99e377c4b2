"""A machine of the laboratory with a BMC: Redfish switches it, and its virtual CD is read from a URL by ranges."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from provision import proc
from provision.demo.site import DemoSite
from provision.lab.lans import Lan, inside
from provision.lab.vm import VM, Device, Firmware, Machine
from tests.boot.site import BMC_ADDRESS, BootSite, Member
from tests.helpers.redfish import PASSWORD, USER, Answer, Asked, Bmc, certificate, fingerprint, load, serving

_DEVICES = {"Cd": Device.CD, "Pxe": Device.NETWORK, "UefiHttp": Device.NETWORK}


@dataclass
class Box(ABC):
    """The machine of a member, and the BMC beside it, which is at `address` in the namespace `bmcs`.

    `plain` is for a BMC that has no use for https URLs. `urls` is what was inserted, and `medium` a copy of it, made
    when it was ejected. An emulator ends with the thread that started it, so one thread has all of them.
    """

    site: DemoSite
    member: Member
    bmcs: str
    address: str
    bmc: Bmc
    plain: bool = field(default=False, kw_only=True)
    urls: list[str] = field(default_factory=list, kw_only=True)
    vm: VM | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        self.bmc.spoils = self._follow
        self._switchboard = ThreadPoolExecutor(1)
        for resource in self.bmc.documents.values():
            resource.update(
                {name: self.member.macs[0] for name in ("PermanentMACAddress", "MACAddress") if name in resource}
            )

    @property
    def medium(self) -> Path:
        """What the link gave at the end."""
        return self.site.lab.directory / f"ejected-{self.member.name}.iso"

    @property
    def on(self) -> bool:
        """Whether the machine runs."""
        return self.vm is not None and self.vm.running

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Its BMC is on the LAN."""
        with inside(self.bmcs):
            served = serving(self.bmc, place=(self.address, 443))
            served.__enter__()
        try:
            yield
        finally:
            served.__exit__(None, None, None)

    def introduce(self) -> None:
        """Let the service know the BMC."""
        place = ("--url", f"https://{self.address}", "--user", USER, "--password-file", "-")
        pin = ("--fingerprint", fingerprint(certificate()[0]))
        self.site.call("bmc", "set", self.member.name, *place, *pin, stdin=PASSWORD.encode())

    def status_of(self, url: str, target: Path = Path("/dev/null")) -> int:
        """How the BMC is answered when it asks for a URL; what it gets goes to `target`."""
        argv = ["curl", "-sk", "-m", "60", "-o", str(target), "-w", "%{http_code}", url]
        return int(proc.run(["ip", "netns", "exec", self.bmcs, *argv], package="curl", ok=range(256)).stdout)

    def close(self) -> None:
        """Cut the power."""
        self._switchboard.submit(self._switch, False).result()
        self._switchboard.shutdown()

    def _follow(self, asked: Asked, handler: BaseHTTPRequestHandler) -> Answer | None:
        """Do with the machine what its BMC is told, and let the BMC answer by itself."""
        if asked.path.endswith("InsertMedia"):
            if self.plain and asked.body["Image"].startswith("https:"):
                return 400, {}, b'{"error": {"code": "Base.1.8.PropertyValueFormatError"}}'
            self.urls.append(asked.body["Image"])
        elif asked.path.endswith("EjectMedia") and self.bmc.drive["Inserted"]:
            self.status_of(self.urls[-1], self.medium)
        elif asked.path.endswith("ComputerSystem.Reset"):
            self._switchboard.submit(self._switch, asked.body["ResetType"] == "On").result()
        elif asked.method == "GET":
            self.bmc.system["PowerState"] = "On" if self.on else "Off"
        return None

    def _switch(self, on: bool) -> None:
        if self.vm is not None:
            self.vm.stop()
        if on:
            boot = self.bmc.system["Boot"]
            once = boot["BootSourceOverrideTarget"] if boot["BootSourceOverrideEnabled"] == "Once" else ""
            boot["BootSourceOverrideEnabled"] = "Disabled"
            self.vm = self._powered(once)
            self.vm.start()

    @abstractmethod
    def _powered(self, once: str) -> VM:
        """The machine, and from what it is to boot this once."""


@dataclass
class Chassis(Box):
    """A machine that is cabled to the management LAN."""

    lan: Lan
    firmware: Firmware

    def _powered(self, once: str) -> VM:
        machine = Machine(
            self.member.name,
            self.firmware,
            self.member.nics(self.lan),
            (_DEVICES[once],) if once else (),
            1024 if once == "UefiHttp" else 640,
            uuid=self.member.uuid,
            cd_url=self.bmc.drive["Image"] or "",
            http_boot=once == "UefiHttp",
        )
        return VM(self.site.lab, machine, self.bmcs)


@contextmanager
def chassis(site: BootSite, member: Member, firmware: Firmware, plain: bool = False) -> Iterator[Chassis]:
    """A machine that is off, with a BMC that the service knows."""
    bmc = load("other")
    found = Chassis(site, member, site.bmcs, BMC_ADDRESS, bmc, site.mgmt, firmware, plain=plain)
    try:
        found.introduce()
        yield found
    finally:
        found.close()
