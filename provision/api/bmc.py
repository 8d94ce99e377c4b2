"""BMCs: where a host's is, and what it says. A password goes in, and never out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.wire import Answer, Bytes, Line, Request, Time, examples
from provision.model import Name

_Text = Annotated[str, StringConstraints(max_length=512)]
_Ca = Annotated[str, StringConstraints(max_length=32 << 10)]


class NewBmc(Request):
    """A host's BMC. `ca` (PEM) or `fingerprint` (SHA-256) is by what its certificate is known; with neither, by the CAs
    of the server's system. `system` is the machine's Redfish id when the BMC has several."""

    model_config = examples(
        {
            "url": "https://10.0.0.201",
            "user": "provision",
            "password": "dGhlIHBhc3N3b3Jk",
            "fingerprint": "ab" * 32,
        }
    )

    url: _Text
    user: _Text
    password: Bytes = Field(repr=False)
    ca: _Ca = Field(default="", repr=False)
    fingerprint: _Text = ""
    system: _Text = ""


class BmcRow(Answer):
    """A host's BMC, without its password: its address, who logs in, by what it is known, who set it, and when."""

    model_config = examples(
        {
            "host": "node1",
            "url": "https://10.0.0.201",
            "user": "provision",
            "known_by": "sha256 " + "ab" * 32,
            "system": None,
            "set": "2026-03-01T12:00:00+00:00",
            "by": "uid=0",
        }
    )

    host: Name
    url: Line
    user: Line
    known_by: Line
    system: Line | None
    set: Time
    by: Line


class PowerState(StrEnum):
    """Whether a machine runs."""

    ON = "on"
    OFF = "off"
    CHANGING = "changing"
    UNKNOWN = "unknown"


class BmcReport(Answer):
    """What a BMC answered: its maker and firmware, how it is treated (`vendor`), the machine's power, the virtual CD
    that would be used, and what is in the way of using it."""

    model_config = examples(
        {
            "host": "node1",
            "manufacturer": "Dell Inc.",
            "model": "PowerEdge R650",
            "firmware": "6.10.30.00",
            "vendor": "Dell iDRAC",
            "power": "off",
            "drive": "CD",
            "macs": ["52:54:00:00:00:01"],
            "problems": [],
        }
    )

    host: Name
    manufacturer: Line
    model: Line
    firmware: Line
    vendor: Line
    power: PowerState
    drive: Line | None
    macs: tuple[Line, ...]
    problems: tuple[Line, ...]


class PowerAction(StrEnum):
    """What is done to a machine's power."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"


class ChangePower(Request):
    """A change of power: by the host's operating system, or at once with `force`."""

    model_config = examples({"action": "cycle", "force": False})

    action: PowerAction
    force: bool = False


class BootVia(StrEnum):
    """From what a host boots once."""

    PXE = "pxe"
    HTTP_BOOT = "http-boot"
    CD = "cd"


class BootOrder(Request):
    """A boot, by way of that, which has so many minutes until the host is up. With `force` a machine that runs is
    switched off first, at once."""

    model_config = examples({"via": "cd", "minutes": 60, "force": False})

    via: BootVia = BootVia.PXE
    minutes: int = Field(default=60, ge=1, le=1440)
    force: bool = False


class HostPower(Answer):
    """Whether a host runs, as its BMC says."""

    model_config = examples({"host": "node1", "power": "on"})

    host: Name
    power: PowerState
