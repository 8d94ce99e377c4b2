"""Updates in two slots: what hosts are told and given, who else asks in vain, and what a roll-out makes of it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.api.rollouts import StartRollout
from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.errors import Conflict, Denied, Gone, Invalid, NotFound, TooMany
from provision.host import Chain
from provision.media.unified import UnifiedImages
from provision.render.identity import machine_id
from provision.service.update_requests import Asked, Describe, Part
from provision.service.updates import PART
from provision.site_key import KeyUse
from provision.web import boot_app
from tests.helpers.agent import NONCE, Updated, other, two_bases, updated
from tests.helpers.host_programs import load
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, IP, MAC1, MAC2, Site, edge, request, seed_url

load("libcrypto")
load("signed_file")
READER: Any = load("update_description")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with two_bases(tmp_path) as found:
        yield found


@pytest.fixture
def agent(here: Site) -> Updated:
    """node2 is up."""
    return updated(here)


def wants(here: Site, base: str = "other", **fields: str) -> None:
    """Let node2's base be that one."""
    more = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    here.apply(INVENTORY.replace("  node2:\n", f"  node2:\n    base: {base}\n{more}"))


def test_a_host_is_told_when_it_is_to_have_another_base(here: Site, agent: Updated) -> None:
    assert agent.tells() == ""
    wants(here)
    (key,) = here.service.site_keys.trusted(KeyUse.SIGNING)
    assert agent.tells() == f"update {key.public.hex()}"
    second = here.service.site_keys.roll(KeyUse.SIGNING, ROOT)
    assert len(agent.tells().split()) == 3 and second.number > key.number
    assert agent.tells(f"waiting {other(here)}", b=other(here)) == ""
    wants(here, "base")
    assert agent.tells(f"waiting {other(here)}", b=other(here)).startswith("update "), "it is to stay, after all"
    assert agent.tells(b=other(here)) == ""


def test_the_description_is_what_the_host_verifies(here: Site, agent: Updated) -> None:
    wants(here, update="{reboot: now}", kernel_arguments="[quiet]")
    agent.tells()
    keys = [key.public for key in here.service.site_keys.trusted(KeyUse.SIGNING)]
    found = READER.read(agent.describes(), keys, "node2", "example.test", NONCE)
    base = here.service.core.base(other(here))
    host = here.service.core.hosts["node2"]
    arguments = f"console=ttyS0 quiet provision.identity={machine_id(host, here.service.core.site)}"
    assert (found.version, found.reboot, found.arguments) == (base.id, "now", arguments)
    for file, there in ((found.files["kernel"][0], base.kernel), (found.files["initrd"][0], base.initrds[0])):
        wish = agent.asks(f"part {found.version} {file.name} 0").wish
        assert isinstance(wish, Part)
        data = here.service.updates.part(here.service.core.hosts["node2"], wish)
        assert len(data) == file.size <= PART and hashlib.sha256(data).hexdigest() == file.sha256 == there.sha256
    (entry,) = here.audit("update-released")
    assert (entry["host"], entry["image"], entry["version"]) == ("node2", "other", 1)


def test_the_sequence_only_rises(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    keys = [key.public for key in here.service.site_keys.trusted(KeyUse.SIGNING)]
    first = READER.read(agent.describes(), keys, "node2", "example.test", NONCE).sequence
    wants(here, "base")
    wants(here)
    assert READER.read(agent.describes(), keys, "node2", "example.test", NONCE).sequence > first


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"host": "node1"}, "alive"),
        ({"host": "nobody"}, "alive"),
        ({"boot": "999"}, "alive"),
        ({"sequence": 0}, "alive"),
    ],
)
def test_nobody_else_gets_one(here: Site, agent: Updated, fields: dict[str, Any], rule: str) -> None:
    wants(here)
    agent.tells()
    agent.describes()
    asked = agent.asks(f"describe {NONCE}", **fields)
    with pytest.raises(Denied) as caught:
        here.service.updates.describe(asked, Describe(NONCE), None)
    assert caught.value.rule == rule
    assert here.audit("update")[-1]["rule"] == rule


def test_a_request_is_signed_whole(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    asked = agent.asks(f"describe {NONCE}")
    for changed in (replace(asked, what=f"describe {'00' * 16}"), replace(asked, run="run2"), replace(asked, tag=b"")):
        with pytest.raises(Denied, match="not asked for with the key"):
            here.service.updates.admit(changed, None)
    here.service.updates.admit(asked, None)
    with pytest.raises(Denied, match="asked for before"):
        here.service.updates.admit(asked, None)


def test_a_host_that_is_not_up_gets_none(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    agent.says(up=False)
    with pytest.raises(Denied, match="has not said that it is up"):
        agent.describes()
    agent.tells()
    agent.describes()
    here.clock.advance(seconds=31)
    with pytest.raises(Denied, match="has not said that it is up"):
        agent.describes()


def test_a_host_that_says_nothing_of_slots_gets_none(here: Site, agent: Updated) -> None:
    wants(here)
    assert agent.says() is None
    with pytest.raises(Denied, match="no image in two slots"):
        agent.describes()


def test_parts_are_of_the_image_that_it_should_have(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    host = here.service.core.hosts["node2"]
    with pytest.raises(Gone):
        here.service.updates.part(host, Part(here.base.id, "kernel", 0))
    with pytest.raises(NotFound):
        here.service.updates.part(host, Part(other(here), "initrd/7", 0))
    assert here.service.updates.part(host, Part(other(here), "kernel", 10**11)) == b""
    of = f"part {other(here)}"
    for what in ("part", f"{of} /etc/passwd 0", f"{of} kernel -1", f"{of} slot/0 0", "describe", "describe x"):
        with pytest.raises(Invalid):
            _ = agent.asks(what).wish


@pytest.mark.integration
def test_a_host_of_signed_images_gets_the_file_system_of_one(here: Site, agent: Updated) -> None:
    here.service.secure_boot.init(NewSecureBootKey(), ROOT)
    wants(here, chain="uki", update="{reboot: never}")
    agent.tells()
    with pytest.raises(Denied, match="no signed image of 'other'"):
        agent.describes()
    here.service.secure_boot.sign("other", SignUnified(), ROOT)
    keys = [bytes.fromhex(key) for key in agent.tells().removeprefix("update ").split()]
    found = READER.read(agent.describes(), keys, "node2", "example.test", NONCE)
    host, signed = here.service.core.hosts["node2"], UnifiedImages(here.state).get(other(here))
    data = here.service.updates.part(host, Part(found.version, "slot", 0))
    assert (found.version, found.arguments, [*found.files]) == (other(here), None, ["slot"])
    assert signed is not None and signed.file.path.read_bytes() in data
    assert [one.sha256 for one in found.files["slot"]] == [hashlib.sha256(data).hexdigest()]
    for chain, name in ((Chain.UKI, "kernel"), (Chain.UKI, "initrd/0"), (Chain.GRUB, "slot")):
        with pytest.raises(NotFound, match=f"is given no file '{name}'"):
            here.service.updates.part(host.model_copy(update={"chain": chain}), Part(found.version, name, 0))
    here.service.envelopes.revoke("other", ROOT)
    assert agent.tells() == ""


def test_few_are_served_at_a_time_and_next_to_none_beside_boots(here: Site) -> None:
    updates = here.service.updates
    with updates.turn("n1"), updates.turn("n2"), updates.turn("n3"):
        with pytest.raises(TooMany), updates.turn("n1"):
            pass
        with updates.turn("n4"), pytest.raises(TooMany), updates.turn("n5"):
            pass
    here.clock.advance(seconds=1)
    seed_url(here, MAC2)
    with updates.turn("n1"), pytest.raises(TooMany), updates.turn("n2"):
        pass
    here.clock.advance(seconds=11)
    with updates.turn("n1"), updates.turn("n2"):
        pass


def test_who_takes_long_gives_way_to_others(here: Site) -> None:
    """A host that somebody owns would else have the one place that is left beside boots, again and again."""
    updates = here.service.updates
    for _ in range(3):
        with updates.turn("n1"):
            here.clock.advance(seconds=4)
    with pytest.raises(ConnectionAbortedError), updates.turn("n1"):
        here.clock.advance(seconds=30)
        raise ConnectionAbortedError
    with updates.turn("n2"), pytest.raises(TooMany), updates.turn("n1"):
        pass
    here.clock.advance(seconds=299)
    with pytest.raises(TooMany), updates.turn("n1"):
        pass
    here.clock.advance(seconds=1)
    with updates.turn("n1"):
        here.clock.advance(seconds=5)
    here.clock.advance(seconds=-(10**6))
    with updates.turn("n1"):
        pass


def test_one_that_is_tried_hears_the_server_and_is_kept(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    assert agent.tells(f"trying {other(here)}", "b", "a", other(here)) == "heard"
    assert agent.tells("idle", "b", "b", other(here)) == ""
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.slots is not None and (row.slots.image, row.slots.running, row.slots.failed) == ("other", "b", ())
    kinds = [(entry["kind"], entry["base"]) for entry in here.audit("update-state")]
    assert kinds == [("idle", here.base.id[:16]), ("trying", other(here)[:16]), ("idle", other(here)[:16])]


def test_one_that_failed_is_remembered_until_it_is_asked_for_again(here: Site, agent: Updated) -> None:
    with pytest.raises(Conflict, match="no update has failed"):
        here.service.updates.retry("node2", ROOT)
    wants(here)
    failed = f"failed {other(here)} 1 libvirt does not answer"
    assert agent.tells(failed, "b", "a", other(here)) == ""
    here.clock.advance(minutes=1)
    assert agent.tells(f"failed {other(here)} 1 it did not prove itself", b=other(here)) == ""
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.slots is not None and [one.reason for one in row.slots.failed] == ["libvirt does not answer"]
    assert here.service.inventories.host("node2", ROOT).slots == row.slots
    assert [alert.event for alert in row.alerts] == ["update-failed"]
    with pytest.raises(Denied) as caught:
        agent.describes()
    assert caught.value.rule == "update-failed"
    shown = here.service.updates.retry("node2", ROOT)
    assert [one.retried for one in shown.failed] == [True]
    assert agent.tells(f"failed {other(here)} 1 it did not prove itself", b=other(here)).startswith("update ")
    assert b"\nattempt 2\n" in agent.describes()
    agent.tells("idle", "b", "b", other(here))
    (row,) = here.service.reports.of_hosts(["node2"])
    assert row.slots is not None and row.slots.failed == ()


def test_what_is_remembered_outlives_the_service(here: Site, agent: Updated) -> None:
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    store, known = here.service.core.store, here.service.core.store.slots.of("node2")
    assert store.database.recheck()
    store.database.load(store.slots.load)
    assert store.slots.of("node2") == known is not None


def test_a_host_cannot_have_more_remembered_than_there_is(here: Site, agent: Updated) -> None:
    """Whoever is root on it may say that any number of images have failed."""
    for number in range(20):
        agent.tells(f"failed {number:064x} 1 " + "x" * 250)
    known = here.service.core.store.slots.of("node2")
    assert known is not None and known.failed == {}
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    here.service.core.store.bases.name("other", here.base.id)
    agent.tells()
    known = here.service.core.store.slots.of("node2")
    assert known is not None and known.failed == {}, "nobody can be given that image any more"


def between(here: Site, monkeypatch: pytest.MonkeyPatch, event: str, then: Callable[[], object]) -> None:
    """Do something in another thread once that event is about to be recorded, for as long as it can."""
    act, threads = here.service.core.act, list[threading.Thread]()

    def acting(name: str, *arguments: Any, **fields: Any) -> Any:
        if name == event and not threads:
            threads.append(threading.Thread(target=then))
            threads[0].start()
            threads[0].join(0.3)
        return act(name, *arguments, **fields)

    monkeypatch.setattr(here.service.core, "act", acting)


def test_a_retry_is_not_lost_when_the_host_says_something_at_that_moment(
    here: Site, agent: Updated, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(here)
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    between(here, monkeypatch, "update-state", lambda: here.service.updates.retry("node2", ROOT))
    agent.tells(b=other(here))
    until = time.monotonic() + 10
    while not here.audit("update-retried"):
        assert time.monotonic() < until
    known = here.service.core.store.slots.of("node2")
    assert known is not None and known.attempt == 2 and known.report.doing == "idle"


def test_a_retry_does_not_take_back_what_the_host_says(
    here: Site, agent: Updated, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants(here)
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    said = threading.Event()

    def says() -> None:
        agent.tells(f"fetching {other(here)}", b=other(here))
        said.set()

    between(here, monkeypatch, "update-retried", says)
    here.service.updates.retry("node2", ROOT)
    assert said.wait(10)
    known = here.service.core.store.slots.of("node2")
    assert known is not None and known.attempt == 2 and known.report.doing == "fetching"


def rollout(here: Site, agent: Updated) -> None:
    agent.tells()
    order = {"base": "other", "selector": {"rack": "a"}, "percent": 100, "minutes": 10}
    here.service.rollouts.start(StartRollout.model_validate(order), ROOT)


def outcome(here: Site) -> tuple[str, str]:
    here.service.rollouts.look()
    status = here.service.rollouts.status()
    return status.state, {one.host: one.outcome for one in status.hosts}["node2"]


def test_a_roll_out_updates_in_place(here: Site, agent: Updated) -> None:
    rollout(here, agent)
    assert agent.tells().startswith("update ")
    agent.tells(f"waiting {other(here)}", b=other(here))
    here.clock.advance(minutes=60)
    assert outcome(here) == ("running", "pending"), "guests run there"
    agent.tells(f"trying {other(here)}", "b", "a", other(here))
    assert outcome(here)[1] == "pending"
    agent.tells("idle", "b", "b", other(here))
    assert outcome(here)[1] == "up"
    assert here.service.rollouts.roll_back(ROOT).booted == ("node2",)
    assert agent.tells("idle", "b", "b", other(here)).startswith("update "), "back to the base of the inventory"


def test_a_failure_stops_the_roll_out(here: Site, agent: Updated) -> None:
    rollout(here, agent)
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    assert outcome(here) == ("stopped", "failed")


def test_so_does_a_host_that_does_not_come_back(here: Site, agent: Updated) -> None:
    rollout(here, agent)
    agent.tells(f"rebooting {other(here)}", b=other(here))
    assert outcome(here) == ("running", "pending")
    here.clock.advance(minutes=10)
    assert outcome(here) == ("stopped", "failed")


def test_over_http(here: Site, agent: Updated) -> None:
    wants(here)
    agent.tells()
    app = boot_app.create(here.service.netboot, edge())

    def post(path: str, asked: Asked | bytes) -> tuple[int, bytes]:
        body = asked
        if isinstance(asked, Asked):
            fields = {name: getattr(asked, name) for name in ("host", "boot", "run", "sequence", "what")}
            body = json.dumps({**fields, "tag": asked.tag.hex()}).encode()
        assert isinstance(body, bytes)
        reply = request(app, "POST", path, body=body, peer=IP[MAC1])
        return reply.status, reply.body

    status, body = post("/update", agent.asks(f"describe {NONCE}"))
    assert status == 200 and body.startswith(b"provision-update 1\n")
    kernel = here.service.core.base(other(here)).kernel.path.read_bytes()
    for start in (0, 100):
        assert post("/update/part", agent.asks(f"part {other(here)} kernel {start}")) == (200, kernel[start:])
    assert post("/update", agent.asks(f"part {other(here)} kernel 0"))[0] == 422
    assert post("/update/part", agent.asks(f"describe {NONCE}"))[0] == 422
    assert post("/update", agent.asks(f"describe {NONCE}", host="node1"))[0] == 403
    for bad in (b"", b"[]", b"{}", b'{"host": 1, "boot": "1", "run": "1", "sequence": 1, "what": "x", "tag": ""}'):
        assert post("/update", bad)[0] == 422
    with here.service.updates.turn("node2"):
        assert post("/update/part", agent.asks(f"part {other(here)} kernel 0"))[0] == 429
    assert here.service.updates._served == set()
