"""The agent of a booted host, and what the server answers to a machine that asks in its name."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from provision.boot import Medium
from provision.errors import Denied, NotFound
from provision.media.initrd import ALIVE
from provision.media.reader import Reader
from provision.service.alive import Message
from provision.service.netboot import Netboot
from provision.service.update_requests import Asked, Describe
from provision.settings import Listen
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    INVENTORY,
    MAC2,
    SETTINGS,
    Site,
    boot_iso,
    charged,
    everything,
    make_base,
    origin,
    seed_url,
    site,
    uncharged,
)

TOKEN2 = b"token-of-node2"
NONCE = "0f" * 16


class Agent:
    """The agent of a booted host, with what it reads in its seed."""

    def __init__(self, here: Site, seed: bytes, run: str = "run1") -> None:
        start = seed.index(b'{\n  "format"')
        text = seed[start : seed.index(b"\n}\n", start) + 2].decode()
        self.about: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
        self.here, self.run, self.sequence = here, run, 0

    def up(self) -> None:
        """Say once that the boot has come up."""
        self.here.service.netboot.phone_home.up(self.about["host"], bytes.fromhex(self.about["phone_home"]["key"]))

    def message(self, up: bool = True, identity: str = "") -> Message:
        self.sequence += 1
        said = Message(self.about["host"], self.about["alive"]["boot"], self.run, self.sequence, up, b"", identity)
        key = bytes.fromhex(self.about["alive"]["key"])
        return replace(said, tag=hmac.digest(key, said.signed, hashlib.sha256))

    def says(self, up: bool = True, identity: str = "") -> dict[str, str] | None:
        """Say something; returns what the server orders."""
        return self.here.service.netboot.phone_home.alive(self.message(up, identity))

    @property
    def stored(self) -> str:
        """What it says when it has its identity on its disk."""
        versions = "".join(f" {name}={one['version']}" for name, one in self.about["credentials"].items())
        return f"stored {self.about['revision']}{versions}"


class Updated(Agent):
    """node2 with two slots, the base of the site in `a`."""

    def tells(self, doing: str = "idle", running: str = "a", default: str = "a", b: str = "-") -> str:
        """Say what becomes of the slots; returns what the server orders, "" for nothing."""
        message = self.message()
        message = replace(message, slots=f"{running} {default} {self.here.base.id} {b} {doing}")
        message = replace(message, tag=hmac.digest(self.key, message.signed, hashlib.sha256))
        order = self.here.service.netboot.phone_home.alive(message)
        if order is None:
            return ""
        assert order["tag"] == message.order(self.key, order["order"])
        return order["order"]

    @property
    def key(self) -> bytes:
        return bytes.fromhex(self.about["alive"]["key"])

    def asks(self, what: str, **fields: Any) -> Asked:
        self.sequence += 1
        asked = Asked("node2", self.about["alive"]["boot"], self.run, self.sequence, what, b"")
        asked = replace(asked, **fields)
        return replace(asked, tag=hmac.digest(self.key, asked.signed, hashlib.sha256))

    def describes(self) -> bytes:
        asked = self.asks(f"describe {NONCE}")
        wish = asked.wish
        assert isinstance(wish, Describe)
        return self.here.service.updates.describe(asked, wish, None)


def booted(here: Site) -> Agent:
    """node2, which may boot at any time, has booted and is up."""
    seed = charged(here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))).data
    assert TOKEN2 in seed
    agent = Agent(here, seed)
    agent.up()
    agent.says()
    return agent


OFFICE = INVENTORY.replace(
    'mgmt: {mac: "52:54:00:00:00:02", network: mgmt, addressing: dhcp, reservation: 10.0.0.12}',
    'office: {mac: "52:54:00:00:00:02", network: office, addressing: dhcp}',
)
"""The site, with node2 on the general network alone."""
IN_OFFICE = (*SETTINGS, Listen(network="office", interface="lo", address=IPv4Address("10.1.0.1")))
"""Settings by which that network is served, too."""


@contextmanager
def two_bases(directory: Path) -> Iterator[Site]:
    """A site whose hosts can be told of updates, with another base image, "other"."""
    with site(directory) as found:
        found.can(ALIVE)
        found.service.core.store.bases.name("other", make_base(found.state, "other").id)
        yield found


def updated(here: Site) -> Updated:
    """node2 is up, and takes updates."""
    found = booted(here)
    found.__class__ = Updated
    assert isinstance(found, Updated)
    return found


def other(here: Site) -> str:
    """The id of that other base image."""
    return here.service.core.bases()["other"]


def from_disk(here: Site) -> Agent:
    """node2, which runs from its disk image."""
    plan = here.service.media.plan("node2", Medium.DISK, ROOT)
    return Agent(here, b"".join(patch.data for patch in plan.patches))


def stored(here: Site) -> Agent:
    """It has booted, and has said that it has its identity on its disk; its image can do that."""
    agent = booted(here)
    assert agent.says(identity=agent.stored) is None
    return agent


Ask = Callable[[Netboot], bytes]
WAYS: dict[str, Ask] = {
    "pxelinux": lambda netboot: netboot.pxelinux_config(origin(MAC2), MAC2),
    "grub": lambda netboot: netboot.grub_config(origin(MAC2)),
    "seed": lambda netboot: charged(netboot.seed(origin(MAC2), None)).data,
    "size": lambda netboot: uncharged(netboot.seed(origin(MAC2), None)).data,
    "iso": lambda netboot: _read(netboot, 0),
}


def _read(netboot: Netboot, start: int) -> bytes:
    plan = boot_iso(netboot, origin(MAC2), start, everything)
    with Reader(plan) as reader:
        return reader.pread(0, plan.size)


def answer(here: Site, way: str) -> bytes:
    try:
        return WAYS[way](here.service.netboot)
    except Denied as error:
        return f"(rule: {error.rule})".encode()
    except NotFound as error:
        assert "node2 is up" in error.fact, error
        return b"(rule: host-is-up)"
