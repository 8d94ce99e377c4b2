"""Policy: every rule, the order, and what a Release is."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from provision import policy
from provision.boot import OPERATOR, SAME_BOOT, Boot, Channel, ChannelKind, Copy, Medium, Payload, Requester, Window
from provision.denial import Denial
from provision.errors import Denied
from provision.host import Host
from provision.policy import Ground, HostState, Release, decide, require
from provision.site import Site
from provision.stored import Holds, StoredIdentity
from provision.wrapping_rules import TpmStanding, Wrapping
from tests.helpers.principals import ROOT

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MAC = "52:54:00:00:00:07"
PREFIX = IPv4Network("10.20.0.0/24")
SITE = Site.model_validate(
    {
        "domain": "example.org",
        "networks": {
            "mgmt": {"role": "management", "prefix": "10.20.0.0/24"},
            "office": {"role": "general", "prefix": "10.30.0.0/24"},
        },
    }
)
MGMT = Channel(ChannelKind.MANAGEMENT, "mgmt", "eth1", IPv4Address("10.20.0.1"), PREFIX)
OFFICE = Channel(ChannelKind.GENERAL, "office", "eth2", IPv4Address("10.30.0.1"), IPv4Network("10.30.0.0/24"))
PEER = Requester(address=IPv4Address("10.20.0.7"), mac=MAC, confirmed=True)
OFFICE_PEER = Requester(address=IPv4Address("10.30.0.7"), mac=MAC)
ADMIN = Requester(principal=ROOT)
SECRET, OPEN = Payload.CLEAR, Payload.NONE
IDENTITY = "a" * 64
BOOT = Boot(1, "node7", MAC, Medium.PXE, "mgmt", NOW - timedelta(minutes=9), seed_revision=IDENTITY)
WINDOW = Window(1, NOW + timedelta(minutes=5), 1, 0)


def state(
    window: Window | None = WINDOW, boots: tuple[Boot, ...] = (), missing: tuple[str, ...] = (), **fields: Any
) -> HostState:
    host = Host.model_validate(
        {"name": "node7", "interfaces": {"mgmt": {"macs": [MAC], "network": "mgmt", "addressing": "dhcp"}}, **fields}
    )
    return HostState(host, host.revision, missing, IDENTITY, window, boots)


def ask(
    subject: HostState | None = None,
    medium: Medium = Medium.PXE,
    channel: Channel = MGMT,
    requester: Requester = PEER,
    payload: Payload = SECRET,
    now: datetime = NOW,
) -> Release | Denial:
    return decide(subject or state(), SITE, medium, channel, requester, payload, now)


def rule(answer: Release | Denial) -> str:
    assert isinstance(answer, Denial), "released"
    return answer.rule


@pytest.mark.parametrize("medium", [Medium.PXE, Medium.HTTP_BOOT])
def test_a_host_boots_on_the_management_lan(medium: Medium) -> None:
    answer = ask(medium=medium)
    assert isinstance(answer, Release)
    assert (answer.host, answer.medium, answer.channel) == ("node7", medium, MGMT)
    assert answer.expires == NOW + policy.RELEASE_LIFETIME


@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_an_operator_gets_every_download(medium: Medium) -> None:
    assert isinstance(ask(medium=medium, channel=OPERATOR, requester=ADMIN), Release)


def test_secrets_never_go_over_a_general_network() -> None:
    for subject in (state(), state(netboot="always"), state(storage="none", netboot="always")):
        for medium in (Medium.PXE, Medium.HTTP_BOOT):
            answer = ask(subject, medium, OFFICE, OFFICE_PEER)
            assert rule(answer) == "secrets-on-general"
            assert "'office' is general" in str(answer) and "'mgmt'" in str(answer)


def test_storage_exempts_nothing_but_a_payload_without_secrets_is_free() -> None:
    assert isinstance(ask(channel=OFFICE, requester=OFFICE_PEER, payload=OPEN), Release)


@pytest.mark.parametrize(
    ("requester", "expected"),
    [
        (Requester(address=PEER.address, mac=MAC, local=True), "local-peer"),
        (Requester(address=IPv4Address("10.30.0.7"), mac=MAC), "off-prefix"),
        (Requester(address=None, mac=MAC), "off-prefix"),
        (Requester(address=PEER.address), "no-neighbour"),
        (Requester(address=PEER.address, mac="52:54:00:00:00:08"), "foreign-mac"),
        (Requester(address=PEER.address, mac=MAC, principal=ROOT), "not-a-boot"),
    ],
)
def test_who_asks(requester: Requester, expected: str) -> None:
    assert rule(ask(requester=requester)) == expected


def test_an_unknown_machine_gets_nothing() -> None:
    answer = decide(None, SITE, Medium.PXE, MGMT, PEER, SECRET, NOW)
    assert rule(answer) == "unknown-host"
    assert MAC in str(answer)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (None, "no open boot window"),
        (dataclasses.replace(WINDOW, used=1), "used its boot window (1 of 1 boots)"),
        (dataclasses.replace(WINDOW, expires=NOW), "expired"),
        (dataclasses.replace(WINDOW, closed=True), "closed"),
        (dataclasses.replace(WINDOW, opened=NOW + timedelta(minutes=1)), "opened in the future"),
    ],
)
def test_a_window_must_be_open(window: Window | None, words: str) -> None:
    answer = ask(state(window=window))
    assert rule(answer) == "window-closed"
    assert words in str(answer) and "provision window node7" in str(answer)


def test_a_window_is_open_from_when_it_was_opened() -> None:
    for ahead, open_ in ((-60, True), (0, True), (10, True), (11, False), (86400 * 3650, False)):
        opened = NOW + timedelta(seconds=ahead)
        assert Window(1, opened + timedelta(hours=1), 1, 0, opened=opened).is_open(NOW) is open_, ahead


def test_a_boot_of_the_future_is_no_boot() -> None:
    for ahead, good in ((-599, True), (-600, False), (10, True), (11, False), (300, False)):
        moment = NOW + timedelta(seconds=ahead)
        charged = dataclasses.replace(BOOT, charged=moment)
        assert charged.is_charged(NOW) is good and charged.is_running(NOW) is good, ahead
        assert dataclasses.replace(BOOT, started=moment).is_running(NOW) is good, ahead


@pytest.mark.parametrize(
    ("ground", "expected", "words"),
    [
        (Ground(distrust="is older"), "store-not-trusted", "provision store accept"),
        (Ground(behind=timedelta(seconds=11)), "clock-went-back", "is 11 seconds earlier than it was"),
        (Ground(behind=timedelta(days=20514)), "clock-went-back", "is 20514 days earlier"),
        (Ground("is older", timedelta(hours=3)), "store-not-trusted", "is older"),
    ],
)
def test_nothing_at_all_on_bad_ground(ground: Ground, expected: str, words: str) -> None:
    for netboot in ("window", "always", "never"):
        there = dataclasses.replace(state(netboot=netboot), ground=ground)
        answers = [ask(there, medium=medium) for medium in (Medium.PXE, Medium.HTTP_BOOT)]
        answers += [ask(there, m, OPERATOR, ADMIN) for m in (Medium.ISO, Medium.DISK)]
        assert {rule(answer) for answer in answers} == {expected}
        assert words in str(answers[0])


def test_always_needs_no_window_and_never_takes_none() -> None:
    assert isinstance(ask(state(window=None, netboot="always")), Release)
    assert rule(ask(state(netboot="never"))) == "netboot-never"


@pytest.mark.parametrize(
    ("boot", "released"),
    [
        ({}, True),
        ({"mac": "52:54:00:00:00:99"}, False),
        ({"charged": NOW - SAME_BOOT}, False),
        ({"charged": None}, False),
        ({"up": NOW}, False),
        ({"medium": Medium.HTTP_BOOT}, False),
        ({"network": "storage"}, False),
        ({"seed_revision": "b" * 64}, False),
    ],
)
def test_re_reads_of_the_same_boot_need_no_new_window(boot: dict[str, Any], released: bool) -> None:
    running = dataclasses.replace(BOOT, **{"charged": BOOT.started, **boot})
    later = dataclasses.replace(running, id=2, mac="52:54:00:00:00:98", charged=NOW)
    for boots in ((running,), (later, running)):
        answer = ask(state(window=dataclasses.replace(WINDOW, used=1), boots=boots))
        assert isinstance(answer, Release) is released


def test_a_window_that_the_operator_closes_ends_the_running_boot() -> None:
    boots = (dataclasses.replace(BOOT, charged=NOW - timedelta(minutes=1)),)
    used = dataclasses.replace(WINDOW, used=1)
    assert isinstance(ask(state(window=used, boots=boots)), Release)
    assert rule(ask(state(window=dataclasses.replace(used, closed=True), boots=boots))) == "window-closed"


def test_downloads_are_for_operators_only() -> None:
    for medium in (Medium.ISO, Medium.DISK):
        assert rule(ask(medium=medium)) == "operator-only"
        other = ask(medium=medium, channel=OPERATOR, requester=Requester())
        assert isinstance(other, Denial) and other.rule == "operator-only"
        assert other.reason.endswith("image is given to operators only, not to another role")
        assert "with an operator's token" in other.remedy
        assert rule(ask(medium=medium, channel=OFFICE, requester=ADMIN)) == "operator-only"


def test_a_host_without_storage_takes_an_iso_but_no_disk() -> None:
    diskless = state(storage="none")
    assert isinstance(ask(diskless, Medium.ISO, OPERATOR, ADMIN), Release)
    assert rule(ask(diskless, Medium.DISK, OPERATOR, ADMIN)) == "no-storage"


def test_what_cannot_be_made_is_denied_with_the_reason() -> None:
    lacking = state(missing=("its credential 'keytab'", "its base image 'base'"))
    for answer in (ask(lacking), ask(lacking, Medium.ISO, OPERATOR, ADMIN)):
        assert rule(answer) == "incomplete"
        assert "'keytab' and its base image 'base'" in str(answer)


def test_decide_is_pure() -> None:
    subject = state(window=None)
    assert ask(subject) == ask(subject)


def test_only_policy_issues_releases() -> None:
    real = ask()
    assert isinstance(real, Release)
    with pytest.raises(TypeError):
        Release(real.host, real.revision, real.medium, real.channel, real.expires, real.payload)
    with pytest.raises(TypeError):
        dataclasses.replace(real, host="node8")
    with pytest.raises(TypeError):
        copy.copy(real)
    with pytest.raises(TypeError):
        pickle.dumps(real)
    forged = object.__new__(Release)
    for name in ("host", "revision", "medium", "channel", "expires"):
        object.__setattr__(forged, name, getattr(real, name))
    assert policy.require(real, state(), BOOT, NOW) is real
    for fake in (forged, None, "release", ask(state(netboot="never"))):
        with pytest.raises(Denied, match="no release"):
            policy.require(fake, state(), BOOT, NOW)


def test_a_release_is_bound_to_host_revision_medium_channel_and_time() -> None:
    real, right = ask(), state()
    assert isinstance(real, Release)
    other = dataclasses.replace
    for subject, boot, now, expected in (
        (state(name="node8"), BOOT, NOW, "other-release"),
        (right, other(BOOT, host="node8"), NOW, "other-release"),
        (other(right, revision="0" * 64), BOOT, NOW, "other-release"),
        (right, other(BOOT, medium=Medium.HTTP_BOOT), NOW, "other-release"),
        (right, other(BOOT, network="office"), NOW, "other-release"),
        (right, Copy("node7", Medium.PXE, "0" * 32), NOW, "other-release"),
        (right, BOOT, real.expires, "expired-release"),
        (right, BOOT, NOW - timedelta(seconds=11), "expired-release"),
    ):
        with pytest.raises(Denied) as caught:
            policy.require(real, subject, boot, now)
        assert caught.value.rule == expected


def test_a_machine_that_did_not_answer_for_its_address_is_refused() -> None:
    silent, unasked = (dataclasses.replace(PEER, confirmed=answer) for answer in (False, None))
    denial = ask(requester=silent)
    assert isinstance(denial, Denial) and denial.rule == "not-confirmed" and MAC in denial.reason
    release = ask(requester=unasked)
    assert isinstance(release, Release), "a configuration holds no secret, and nobody has to be asked for it"
    with pytest.raises(Denied) as caught:
        policy.require(release, state(), BOOT, NOW)
    assert caught.value.rule == "not-confirmed", "but no seed can be made of that"


def test_every_denial_is_one_line_with_a_remedy() -> None:
    for answer in (ask(state(window=None)), ask(channel=OFFICE, requester=OFFICE_PEER), ask(medium=Medium.ISO)):
        assert isinstance(answer, Denial)
        assert "\n" not in str(answer) and answer.remedy and answer.error().rule == answer.rule


STORED = StoredIdentity("1", "mgmt", Holds("b" * 64, {"keytab": 1}), NOW - timedelta(days=1))
USED = Window(1, NOW + timedelta(minutes=5), 1, 1)


def test_a_host_with_its_identity_on_its_disk_needs_no_window_and_no_management_lan() -> None:
    kept = replace(state(None), stored=STORED, heard=NOW - timedelta(seconds=5))
    for channel, requester in ((MGMT, replace(PEER, confirmed=None)), (OFFICE, OFFICE_PEER)):
        assert kept.is_plain(Medium.PXE, channel, NOW)
        answer = ask(kept, Medium.PXE, channel, requester, OPEN)
        assert isinstance(answer, Release) and answer.plain
        with pytest.raises(Denied) as refused:
            require(answer, kept, replace(BOOT, network=channel.network or ""), NOW)
        assert refused.value.rule in ("plain", "not-confirmed")


def test_a_window_lets_it_have_a_new_one_on_its_management_lan_only() -> None:
    kept = replace(state(WINDOW), stored=STORED)
    assert not kept.is_plain(Medium.PXE, MGMT, NOW) and kept.is_plain(Medium.PXE, OFFICE, NOW)
    assert not kept.is_plain(Medium.ISO, OPERATOR, NOW), "what an operator downloads has a seed"
    running = replace(state(USED, (replace(BOOT, charged=NOW),)), stored=STORED)
    assert not running.is_plain(Medium.PXE, MGMT, NOW), "the boot that used the window up goes on"
    assert replace(running, window=replace(USED, closed=True)).is_plain(Medium.PXE, MGMT, NOW)
    assert replace(running, identity="c" * 64).is_plain(Medium.PXE, MGMT, NOW)
    assert replace(running, boots=(replace(BOOT, charged=NOW, up=NOW),)).is_plain(Medium.PXE, MGMT, NOW)


def test_a_host_with_an_envelope_on_its_disk_boots_as_before() -> None:
    """Its seed is measured, so it comes at each boot, in a window; that it was up a moment ago is no matter."""
    enrolled = Wrapping(TpmStanding.ENROLLED)
    kept = replace(state(None), stored=replace(STORED, boot="envelope 7", network=""), wrapping=enrolled)
    for channel in (MGMT, OFFICE):
        assert not kept.is_plain(Medium.PXE, channel, NOW)
    assert rule(ask(kept, Medium.PXE, OFFICE, OFFICE_PEER, Payload.WRAPPED)) == "window-closed"
    up = replace(kept, window=WINDOW, heard=NOW - timedelta(seconds=5))
    assert isinstance(ask(up, Medium.PXE, OFFICE, OFFICE_PEER, Payload.WRAPPED), Release)
    assert rule(ask(up)) == "host-is-up", "in clear it waits"


def test_a_seed_in_clear_is_never_released_as_the_image_alone() -> None:
    """Whatever the time was when the payload was looked at: a window may have expired since."""
    kept = replace(state(None), stored=STORED)
    denial = ask(kept, payload=SECRET)
    assert isinstance(denial, Denial) and denial.rule == "window-closed"
    denial = ask(kept, channel=OFFICE, requester=OFFICE_PEER, payload=SECRET)
    assert isinstance(denial, Denial) and denial.rule == "secrets-on-general"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"exposed": ("keytab",)}, "credential-exposed"),
        ({"missing": ("its base image",)}, "incomplete"),
        ({"ground": Ground("is older")}, "store-not-trusted"),
    ],
)
def test_what_keeps_a_host_from_everything_keeps_it_from_its_image(change: dict[str, Any], rule: str) -> None:
    denial = ask(replace(state(None), stored=STORED, **change), payload=OPEN)
    assert isinstance(denial, Denial) and denial.rule == rule
