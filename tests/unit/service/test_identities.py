"""Identities on hosts' disks: what hosts say of them, what they boot then, and how one ends."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from provision.errors import Conflict, Denied, Gone, Invalid, TooMany
from provision.media.initrd import ALIVE, IDENTITY
from provision.media.plan import PLAIN, Plan
from provision.media.reader import Reader
from provision.render.identity import machine_id
from provision.service.news import AT_ONCE
from provision.slots import HostSlots
from provision.stored import Holds
from tests.helpers.agent import TOKEN2, Agent, stored
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, INVENTORY, MAC2, Site, origin


@pytest.fixture
def here(here: Site) -> Site:
    here.can(ALIVE, IDENTITY)
    return here


@pytest.fixture
def agent(here: Site) -> Agent:
    """node2 is up, and has said that its identity is on its disk."""
    return stored(here)


def config(here: Site, channel: object = None) -> bytes:
    """What PXELINUX gets that asks for node2."""
    general = origin(MAC2, GENERAL, address=IPv4Address("10.1.0.12"))
    asks = origin(MAC2) if channel is None else general
    return here.service.netboot.pxelinux_config(asks, MAC2)


def test_what_a_host_holds_is_known_and_whether_it_is_current(here: Site, agent: Agent) -> None:
    known = here.service.core.store.identities.of("node2")
    assert known is not None and known.holds == Holds(agent.about["revision"], {"token": 1}) and known.network == "mgmt"
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.stored is not None and row.stored.current and row.stored.credentials == {"token": 1}
    assert here.service.inventories.host("node2", ROOT).stored == row.stored
    agent.says(identity=agent.stored)
    assert len(here.audit("identity-stored")) == 1, "said again, it is no news"
    here.secret("node2", b"another token")
    (sealed,) = here.service.credentials.listing("node2", ROOT)
    assert (sealed.version, sealed.held) == (2, 1)
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.stored is not None and not row.stored.current and row.stored.credentials == {"token": 1}


def test_an_older_credential_is_kept_until_the_host_has_the_newest(here: Site, agent: Agent) -> None:
    store = here.service.core.store
    here.secret("node2", b"another token")
    here.secret("node2", b"a third token")
    (sealed,) = here.service.credentials.listing("node2", ROOT)
    assert (sealed.version, sealed.held, sealed.earlier) == (3, 1, 1)
    (earlier,) = store.earlier_credentials.open("node2")
    assert (earlier.name, earlier.version, earlier.secret.reveal()) == ("token", 1, TOKEN2)
    agent.says(identity=agent.stored)
    assert store.earlier_credentials.of("node2") == {"token": 1}, "it has the old one still"
    agent.says(identity=agent.stored.replace("token=1", "token=3"))
    (sealed,) = here.service.credentials.listing("node2", ROOT)
    assert (sealed.version, sealed.held, sealed.earlier) == (3, 3, None)
    assert store.earlier_credentials.open("node2") == []
    assert [entry["credential"] for entry in here.audit("credential-rolled")] == ["token"]


def test_what_no_host_holds_is_not_kept(here: Site) -> None:
    here.secret("node2", b"another token")
    assert here.service.core.store.earlier_credentials.of("node2") == {}


@pytest.mark.parametrize("end", ["wiped", "refused sda is gone"])
def test_with_the_identity_goes_what_was_kept_for_it(here: Site, agent: Agent, end: str) -> None:
    here.secret("node2", b"another token")
    agent.says(identity=end)
    assert here.service.core.store.earlier_credentials.of("node2") == {}


def test_what_was_kept_of_a_compromised_host_is_exposed_as_well(here: Site, agent: Agent) -> None:
    here.secret("node2", b"another token")
    assert here.service.compromises.declare("node2", ROOT).exposed == ("token",)
    assert here.service.core.store.earlier_credentials.of("node2") == {}
    here.secret("node2", TOKEN2)
    (sealed,) = here.service.credentials.listing("node2", ROOT)
    assert (sealed.version, sealed.exposed) == (3, True)


def test_it_boots_its_image_alone_on_every_lan(here: Site, agent: Agent) -> None:
    for way in (None, GENERAL):
        text = config(here, way)
        assert b"LINUX" in text and b"initrd/0" in text and b"seed" not in text
    assert b"seed" not in here.service.netboot.grub_config(origin(MAC2))
    named = f"provision.identity={machine_id(here.service.core.hosts['node2'], here.service.core.site)}".encode()
    assert named in config(here) and named in here.service.netboot.grub_config(origin(MAC2))
    made = here.service.netboot.http_boot(origin(MAC2), 0)
    assert isinstance(made, Plan) and made.revision == PLAIN
    with Reader(made) as reader:
        medium = reader.pread(0, made.size)
    assert TOKEN2 not in medium and named in medium and b"seed.img" not in medium and b"initrd0.img" in medium
    with pytest.raises(Denied, match="its identity is on its own disk"):
        here.service.netboot.seed(origin(MAC2), None)
    rows = here.service.reports.explain("node2", ROOT)
    assert {(row.channel, row.allowed, row.plain) for row in rows if row.medium.from_network} == {
        ("management:mgmt", True, True),
        ("general:office", True, True),
    }


@pytest.mark.parametrize(
    ("disk", "named"),
    [
        ("{serial: boot-7}", b" provision.disk=serial:boot-7"),
        ("{wwn: naa.5000c50000001234, wipe: yes}", b" provision.disk=wwn:naa.5000c50000001234"),
        ("{path: 'pci0000:00/0000:00:1f.2/ata2'}", b" provision.disk=path:pci0000:00/0000:00:1f.2/ata2"),
        ("{smallest: yes}", b""),
    ],
)
def test_a_boot_without_a_seed_names_the_disk(here: Site, agent: Agent, disk: str, named: bytes) -> None:
    """An identity is named by what anybody can compute; which disk is the host's own, nobody else says."""
    here.apply(INVENTORY.replace("  node2:\n", f"  node2:\n    disk: {disk}\n"))
    made = here.service.netboot.http_boot(origin(MAC2), 0)
    assert isinstance(made, Plan) and made.revision == PLAIN
    with Reader(made) as reader:
        medium = reader.pread(0, made.size)
    for text in (config(here), here.service.netboot.grub_config(origin(MAC2)), medium):
        assert b"provision.identity=" in text and named in text and (b"provision.disk=" in text) == bool(named)
    agent.says(up=False)
    here.clock.advance(seconds=60)
    here.service.decommissions.reprovision("node2", ROOT)
    text = config(here)
    assert b"seed" in text and b"provision.disk" not in text, "its seed says which"


def test_its_first_word_says_that_it_is_up(here: Site, agent: Agent) -> None:
    config(here)
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.stage == "configuration"
    agent.run = "run2"
    agent.says(identity=agent.stored)
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.stage == "up" and len(here.audit("up")) == 2
    agent.says(identity=agent.stored)
    assert len(here.audit("up")) == 2


def test_a_window_lets_it_have_a_new_one(here: Site, agent: Agent) -> None:
    agent.says(up=False)
    here.clock.advance(seconds=60)
    here.service.decommissions.reprovision("node2", ROOT)
    assert b"seed" in config(here) and b"seed" not in config(here, GENERAL)
    assert len(here.audit("reprovision-ordered")) == 1


def test_an_image_that_keeps_no_identity_is_never_booted_alone(here: Site, agent: Agent) -> None:
    here.can(ALIVE)
    agent.says(up=False)
    here.clock.advance(seconds=60)
    assert b"seed" in config(here)


def test_a_host_that_cannot_store_it_says_why(here: Site, agent: Agent) -> None:
    agent.says(identity="refused sda holds something else")
    agent.says(identity="refused sda holds something else")
    assert here.service.core.store.identities.of("node2") is None
    (row,) = here.service.reports.of_hosts(["node2"])
    assert [alert.text for alert in row.alerts] == ["its identity is not stored: sda holds something else"]
    assert [entry["reason"] for entry in here.audit("identity-refused")] == ["sda holds something else"]


def test_a_host_that_refused_the_seed_of_its_boot_says_so(here: Site, agent: Agent) -> None:
    reason = "it is of the site's epoch 1, and the identity on the disk of 3"
    for _ in range(2):
        agent.says(identity=f"{agent.stored}; refused {reason}")
    known = here.service.core.store.identities.of("node2")
    assert known is not None and known.holds == Holds(agent.about["revision"], {"token": 1})
    (row,) = here.service.reports.of_hosts(["node2"])
    assert [alert.text for alert in row.alerts] == [f"it has not taken the seed of its last boot: {reason}"]
    assert [entry["reason"] for entry in here.audit("seed-refused")] == [reason]
    assert len(here.audit("identity-stored")) == 1


def test_a_host_that_always_gets_another_one_is_not_told_to_wipe_it(here: Site, agent: Agent) -> None:
    with pytest.raises(Conflict, match="netboot: always"):
        here.service.decommissions.decommission("node2", ROOT)
    assert here.audit("decommission-ordered") == []


def test_a_host_wipes_its_identity_when_it_is_told_to(here: Site, agent: Agent) -> None:
    here.apply(INVENTORY.replace("netboot: always", "netboot: never"))
    here.service.decommissions.decommission("node2", ROOT)
    message = agent.message(identity=agent.stored)
    order = here.service.netboot.phone_home.alive(message)
    key = bytes.fromhex(agent.about["alive"]["key"])
    signed = f"order|node2|{message.boot}|{message.run}|{message.sequence}|wipe".encode()
    assert order == {"order": "wipe", "tag": hmac.digest(key, signed, hashlib.sha256).hex()}
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.stored is not None and row.stored.wiping
    assert agent.says(identity="wiped") is None
    assert here.service.core.store.identities.of("node2") is None
    assert [len(here.audit(event)) for event in ("decommission-ordered", "identity-wiped")] == [1, 1]


def test_a_disk_that_is_lost_exposes_its_credentials(here: Site, agent: Agent) -> None:
    here.service.decommissions.lost("node2", ROOT)
    assert here.service.core.store.identities.of("node2") is None
    assert b"credential-exposed" in config(here)
    with pytest.raises(Denied, match="not signed with the key"):  # whoever has the disk has the old key
        agent.says(identity=agent.stored)
    assert here.service.core.store.identities.of("node2") is None


@pytest.mark.parametrize("end", ["compromised", "lost", "wiped"])
def test_what_is_on_the_disk_no_longer_is_believed_no_longer(here: Site, agent: Agent, end: str) -> None:
    """Neither the identity nor the slots: a roll-out would wait for them, where the host boots another way by then."""
    store = here.service.core.store
    store.slots.put("node2", HostSlots(f"a a {here.base.id} - idle", here.clock()))
    if end == "wiped":
        agent.says(identity="wiped")
    else:
        compromises, ends = here.service.compromises, here.service.decommissions
        _ = compromises.declare("node2", ROOT) if end == "compromised" else ends.lost("node2", ROOT)
    assert store.identities.of("node2") is None and store.slots.of("node2") is None
    assert store.database.recheck()
    store.database.load(store.slots.load)
    assert store.slots.of("node2") is None


def test_a_read_by_ranges_is_of_one_medium(here: Site, agent: Agent) -> None:
    agent.says(up=False)
    here.clock.advance(seconds=60)
    asked = origin(MAC2)
    assert isinstance(here.service.netboot.http_boot(asked, 0), Plan)
    here.service.decommissions.reprovision("node2", ROOT)
    with pytest.raises(Gone):
        here.service.netboot.http_boot(asked, 4096)


def test_what_holds_nothing_has_nothing_to_end(here: Site) -> None:
    for end in (here.service.decommissions.decommission, here.service.decommissions.reprovision):
        with pytest.raises(Conflict, match="has not reported an identity on its disk; boot it first"):
            end("node2", ROOT)


def test_nobody_else_speaks_for_it(here: Site, agent: Agent) -> None:
    forged = replace(agent.message(), identity="wiped")
    with pytest.raises(Denied):
        here.service.netboot.phone_home.alive(forged)
    with pytest.raises(Invalid):
        agent.says(identity="stored nothing")
    assert here.service.core.store.identities.of("node2") is not None


def test_a_boot_that_begins_in_between_makes_its_next_word_news(here: Site, agent: Agent) -> None:
    """For that word says that it is up, which is written: not on the event loop, and not without a bound."""
    phone_home = here.service.netboot.phone_home
    agent.says(identity=agent.stored)
    assert not phone_home.is_news(agent.message(identity=agent.stored))
    here.clock.advance(hours=1)
    assert b"provision.identity=" in config(here)
    assert phone_home.is_news(agent.message(identity=agent.stored))
    agent.says(identity=agent.stored)
    agent.says(identity=agent.stored)
    assert not phone_home.is_news(agent.message(identity=agent.stored))


def test_what_is_refused_is_always_news(here: Site, agent: Agent) -> None:
    for _ in range(2):
        agent.says(identity="refused the disk is read-only")
    assert here.service.netboot.phone_home.is_news(agent.message(identity="refused the disk is read-only"))


def test_its_boots_cannot_fill_the_audit_log(here: Site, agent: Agent) -> None:
    """Root of a host can ask for its configuration again and again, and say after each that it is up."""
    with pytest.raises(TooMany):
        for _ in range(AT_ONCE + 2):
            here.clock.advance(hours=1)
            config(here)
            agent.says(identity=agent.stored)
