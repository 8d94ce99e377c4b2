"""What policy says to the bearer of a link."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

import pytest

from provision import policy
from provision.boot import LINK_IDLE, OPERATOR, Bearer, Channel, ChannelKind, Copy, Link, LinkUse, Medium, Payload
from provision.boot import Requester as Asks
from provision.denial import Denial
from provision.errors import Denied
from provision.host import Storage
from provision.link_rules import standing
from provision.policy import Ground, HostState, Release, decide
from tests.helpers.store_samples import NOW, host, inventory

SITE = inventory().site
MINUTE = timedelta(minutes=1)
STATE = HostState(host(1), "r1", identity="i1")
BMC = "10.0.0.201"
PLAIN = Channel(ChannelKind.MANAGEMENT, "mgmt", "eth1", IPv4Address("10.0.0.1"), IPv4Network("10.0.0.0/24"), True)
LINK = Link("3f9a1c2b7d4e", 1, "n1", Medium.ISO, "i1", "s1", "c" * 32, NOW, NOW + 60 * MINUTE, 1, "uid=0")
USED = replace(LINK, taken=(LinkUse(BMC, NOW, NOW),))


def ask(
    link: Link = LINK, peer: str = BMC, channel: Channel = OPERATOR, now: datetime = NOW, **fields: Any
) -> Release | Denial:
    state = fields.pop("state", STATE)
    medium = fields.pop("medium", Medium.ISO)
    asks = Asks(bearer=Bearer(link, ip_address(peer)), **fields)
    return decide(state, SITE, medium, channel, asks, Payload.CLEAR, now)


def rule(answer: Release | Denial) -> str:
    return answer.rule if isinstance(answer, Denial) else ""


def test_a_link_gives_its_medium_over_tls() -> None:
    answer = ask()
    assert isinstance(answer, Release) and answer.link == LINK.id
    assert rule(ask(peer="2001:db8::1")) == ""


def test_it_gives_nothing_else() -> None:
    assert rule(ask(medium=Medium.DISK)) == "operator-only"
    assert rule(ask(state=replace(STATE, host=host(2)))) == "operator-only"
    for medium in (Medium.PXE, Medium.HTTP_BOOT):
        assert rule(ask(medium=medium, channel=PLAIN)) == "not-a-boot"


@pytest.mark.parametrize(
    ("link", "now", "why"),
    [
        (replace(LINK, revoked=True), NOW, "revoked"),
        (LINK, NOW + 60 * MINUTE, "expired"),
        (replace(USED, taken=(LinkUse("10.0.0.9", NOW, NOW),)), NOW, "in use by 10.0.0.9"),
        (USED, NOW + LINK_IDLE, "used up (1 of 1 uses)"),
        (LINK, NOW - 60 * MINUTE, "in the future"),
        (replace(USED, revoked=True), NOW + MINUTE, "revoked"),
    ],
)
def test_a_link_ends(link: Link, now: datetime, why: str) -> None:
    answer = ask(link, now=now)
    assert isinstance(answer, Denial) and answer.rule == "link-ended"
    assert (
        why in answer.reason and LINK.id in answer.reason and answer.remedy.endswith("'provision link n1 --medium iso'")
    )


def test_a_use_goes_on_while_its_peer_comes_back() -> None:
    assert rule(ask(USED, now=NOW + LINK_IDLE - MINUTE)) == ""
    assert rule(ask(replace(USED, taken=(LinkUse(BMC, NOW, NOW + 20 * MINUTE),)), now=NOW + 29 * MINUTE)) == ""
    assert rule(ask(replace(USED, uses=2), peer="10.0.0.9")) == "", "another use"
    assert standing(USED, NOW) == "" and standing(USED, NOW + LINK_IDLE).startswith("used up")


def test_a_link_for_one_address() -> None:
    bound = replace(LINK, address=BMC)
    assert rule(ask(bound)) == ""
    assert rule(ask(bound, peer="10.0.0.9")) == "link-elsewhere"
    assert rule(ask(replace(bound, revoked=True), peer="10.0.0.9")) == "link-ended"


def test_a_link_to_what_the_host_was() -> None:
    changed = replace(STATE, identity="i2")
    assert rule(ask(state=changed)) == "link-withdrawn"
    assert rule(ask(USED, now=NOW + LINK_IDLE, state=changed)) == "link-ended", "it tells nothing of the host"


def test_plain_http_is_for_management_networks_that_say_so() -> None:
    assert rule(ask(channel=PLAIN)) == ""
    general = replace(PLAIN, kind=ChannelKind.GENERAL, network="office")
    for channel in (general, replace(PLAIN, links=False)):
        answer = ask(channel=channel)
        assert isinstance(answer, Denial) and answer.rule == "link-in-clear" and "https://" in answer.remedy
    assert rule(ask(channel=PLAIN, local=True)) == "link-in-clear"
    assert rule(ask(channel=PLAIN, peer="10.9.0.1")) == "link-in-clear"
    harmless = decide(STATE, SITE, Medium.ISO, general, Asks(bearer=Bearer(LINK, ip_address(BMC))), Payload.NONE, NOW)
    assert rule(harmless) == "link-in-clear", "whatever the bytes carry"


def test_what_keeps_an_operator_from_it_keeps_a_link_from_it() -> None:
    assert rule(ask(state=replace(STATE, missing=("its base image",)))) == "incomplete"
    assert rule(ask(state=replace(STATE, ground=Ground(distrust="is older")))) == "store-not-trusted"
    assert rule(ask(state=replace(STATE, ground=Ground(behind=MINUTE)))) == "clock-went-back"
    disk = replace(LINK, medium=Medium.DISK)
    assert rule(ask(disk, medium=Medium.DISK, state=replace(STATE, host=host(1, storage=Storage.NONE)))) == "no-storage"


def test_a_release_is_for_the_copy_of_its_link() -> None:
    copy = Copy("n1", Medium.ISO, "c" * 32, LINK.id)
    for channel in (OPERATOR, PLAIN):
        release = ask(channel=channel)
        assert policy.require(release, STATE, copy, NOW) is release
        for other in (replace(copy, link=None), replace(copy, link="0" * 12)):
            with pytest.raises(Denied) as error:
                policy.require(release, STATE, other, NOW)
            assert error.value.rule == "other-release"
