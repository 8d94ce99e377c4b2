"""A roll-out to hosts that start signed images from the slots of their disks, by what these say of them."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.api.rollouts import RolloutStatus, StartRollout
from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.errors import NotFound, Problems
from provision.media.unified import UnifiedImages
from provision.service.alive import Message
from provision.service.update_requests import Asked, Describe
from provision.site_key import KeyUse
from provision.stored import envelope_label
from tests.helpers.host_programs import load
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, make_base, site

load("libcrypto")
load("signed_file")
READER: Any = load("update_description")
NAMES = ["n1", "n2", "n3", "n4", "n5"]
SITE = INVENTORY.partition("hosts:\n")[0] + "hosts:\n"
SITE += "".join(
    f"  {name}:\n    labels: {{rack: {'b' if name == 'n5' else 'a'}}}\n    chain: uki\n    storage: persistent\n"
    f"    interfaces:\n"
    f'      mgmt: {{mac: "52:54:00:00:02:0{name[1:]}", network: mgmt, addressing: dhcp}}\n'
    for name in NAMES
)
SEQUENCE = itertools.count(1)


class Host:
    """A host of the site, which speaks with the key from its envelope."""

    def __init__(self, here: Site, name: str) -> None:
        self.here, self.name = here, name
        self.boot = envelope_label(1)
        self.key = here.service.core.store.keys.alive(name, self.boot).reveal()

    def says(self, slots: str) -> str:
        """Say that of its slots; what it is to do, "" for nothing."""
        said = Message(self.name, self.boot, "run1", next(SEQUENCE), True, b"", "", slots)
        said = replace(said, tag=hmac.digest(self.key, said.signed, hashlib.sha256))
        order = self.here.service.netboot.phone_home.alive(said)
        return order["order"].split()[0] if order is not None else ""

    def settled(self) -> str:
        return self.says(f"a a {old(self.here)} - idle")

    def tries(self) -> str:
        return self.says(f"b a {old(self.here)} {new(self.here)} trying {new(self.here)}")

    def keeps(self) -> str:
        return self.says(f"b b {old(self.here)} {new(self.here)} idle")

    def fails(self) -> str:
        return self.says(f"a a {old(self.here)} {new(self.here)} failed {new(self.here)} 1 libvirt does not answer")

    def is_given(self) -> str:
        """The base whose signed image it is told to put into the other slot."""
        asked = Asked(self.name, self.boot, "run1", next(SEQUENCE), f"describe {'0f' * 16}", b"")
        asked = replace(asked, tag=hmac.digest(self.key, asked.signed, hashlib.sha256))
        wish, service = asked.wish, self.here.service
        assert isinstance(wish, Describe)
        keys = [key.public for key in service.site_keys.trusted(KeyUse.SIGNING)]
        found = READER.read(service.updates.describe(asked, wish, None), keys, self.name, "example.test", wish.nonce)
        images = UnifiedImages(self.here.state)
        signed = images.get(found.version)
        assert signed is not None
        assert [one.sha256 for one in found.files["slot"]] == [images.slot(signed).sha256]
        return str(found.version)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, SITE) as found:
        found.service.core.store.bases.name("other", make_base(found.state, "other").id)
        found.service.secure_boot.init(NewSecureBootKey(), ROOT)
        found.service.secure_boot.sign("base", SignUnified(), ROOT)
        yield found


def old(here: Site) -> str:
    return here.base.id


def new(here: Site) -> str:
    return here.service.core.bases()["other"]


def start(here: Site) -> dict[str, Host]:
    """All hosts, and half of those in rack a are to have the other base."""
    hosts = {name: Host(here, name) for name in NAMES}
    assert {one.settled() for one in hosts.values()} == {""}
    order = {"base": "other", "selector": {"rack": "a"}, "percent": 50, "minutes": 10}
    with pytest.raises(Problems, match="not signed yet"):
        here.service.rollouts.start(StartRollout.model_validate(order), ROOT)
    here.service.secure_boot.sign("other", SignUnified(), ROOT)
    here.service.rollouts.start(StartRollout.model_validate(order), ROOT)
    return hosts


def look(here: Site) -> RolloutStatus:
    here.service.rollouts.look()
    return here.service.rollouts.status()


def moved(here: Site, outcome: str) -> list[str]:
    return [one.host for one in look(here).hosts if one.outcome == outcome]


def test_so_many_at_a_time_take_it_and_the_rest_when_those_keep_it(here: Site) -> None:
    hosts = start(here)
    first = moved(here, "pending")
    assert len(first) == 2 and "n5" not in first
    assert {name for name, one in hosts.items() if one.settled() == "update"} == set(first)
    for name in first:
        assert hosts[name].is_given() == new(here) and hosts[name].tries() == "heard"
    assert moved(here, "pending") == first, "what is tried is not proved"
    hosts[first[0]].keeps()
    assert (moved(here, "up"), look(here).left) == ([first[0]], 2)
    hosts[first[1]].keeps()
    assert look(here).left == 0
    rest = moved(here, "pending")
    assert len(rest) == 2 and not set(rest) & set(first)
    for name in rest:
        hosts[name].keeps()
    assert look(here).state == "done" and hosts["n5"].settled() == ""


def test_it_stops_when_one_does_not_keep_it_or_does_not_come_back(here: Site) -> None:
    hosts = start(here)
    first, second = moved(here, "pending")
    assert hosts[first].fails() == "", "and it is not asked to try that again"
    status = look(here)
    assert (status.state, status.left, moved(here, "failed")) == ("stopped", 2, [first])
    here.service.rollouts.go_on(ROOT)
    hosts[second].says(f"a a {old(here)} {new(here)} rebooting {new(here)}")
    here.clock.advance(minutes=9)
    assert look(here).state == "running"
    here.clock.advance(minutes=1)
    assert (look(here).state, moved(here, "failed")) == ("stopped", sorted((first, second)))


def test_the_way_back_is_an_update_too(here: Site) -> None:
    hosts = start(here)
    kept, tried = moved(here, "pending")
    hosts[kept].keeps()
    hosts[tried].tries()
    assert here.service.rollouts.roll_back(ROOT).booted == (kept,)
    with pytest.raises(NotFound, match="there is none"):
        here.service.rollouts.status()
    assert hosts[kept].keeps() == "update" and hosts[kept].is_given() == old(here)
    assert hosts[tried].tries() == "heard", "it is proved first"
    assert hosts[tried].keeps() == "update" and hosts[tried].is_given() == old(here)
    hosts[kept].says(f"a a {old(here)} {new(here)} idle")
    assert hosts[kept].settled() == "" and {hosts[name].settled() for name in NAMES if name != tried} == {""}
