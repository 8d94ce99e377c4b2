"""A roll-out: a few hosts, then more when those have come up; a stop when they do not, and a way back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.accounts import Accounts
from provision.api.rollouts import RolloutStatus, StartRollout
from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.boot import Medium
from provision.errors import Conflict, Gone, NotFound, Problems
from provision.service.service import Service
from tests.helpers.links import make, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, charged, make_base, origin, seed_url, site, sources
from tests.helpers.stored_site import opened

NAMES = [f"n{number}" for number in range(10, 20)]
MACS = {name: f"52:54:00:00:01:{name[1:]}" for name in NAMES}
SITE = INVENTORY.partition("hosts:\n")[0] + "hosts:\n"
SITE += "".join(
    f"  {name}:\n    labels: {{rack: {'a' if number < 8 else 'b'}}}\n    netboot: always\n    interfaces:\n"
    f'      mgmt: {{mac: "{MACS[name]}", network: mgmt, addressing: dhcp}}\n'
    for number, name in enumerate(NAMES)
)
NEW = "other"


@contextmanager
def ten_hosts(directory: Path) -> Iterator[Site]:
    """Ten hosts, eight of them in rack a, and another base image."""
    with site(directory, SITE) as here:
        base = make_base(here.state, NEW)
        here.service.core.store.bases.name(NEW, base.id)
        yield here


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with ten_hosts(tmp_path) as opened_site:
        yield opened_site


def start(here: Site, **fields: Any) -> RolloutStatus:
    order = {"base": NEW, "selector": {"rack": "a"}, "percent": 25, **fields}
    return here.service.rollouts.start(StartRollout.model_validate(order), ROOT)


def look(here: Site) -> RolloutStatus:
    here.service.rollouts.look()
    return here.service.rollouts.status()


def boot(here: Site, name: str, *, up: bool = True) -> None:
    """The host boots from the network, and comes up."""
    delivery = here.service.netboot.seed(origin(MACS[name]), seed_url(here, MACS[name]))
    charged(delivery)
    if up:
        key = here.service.core.store.keys.phone_home(delivery.boot.id, name).reveal()
        here.service.netboot.phone_home.up(name, key)


def having(here: Site) -> set[str]:
    """The hosts whose media are of the new base."""
    core = here.service.core
    return {name for name, host in core.hosts.items() if core.base_of(host).name == NEW}


def test_a_few_hosts_first_and_all_in_the_end(here: Site) -> None:
    seen: set[str] = set()
    status = start(here)
    for left in (6, 4, 2, 0):
        status = look(here)
        moved = {one.host for one in status.hosts}
        assert (status.state, status.left, len(moved)) == ("running", left, 8 - left)
        assert having(here) == moved >= seen and moved <= set(NAMES[:8])
        first, second = sorted(moved - seen)
        boot(here, first)
        assert look(here).left == left, "the other one is waited for"
        boot(here, second)
        seen = moved
        status = look(here)
    assert (status.state, {one.outcome for one in status.hosts}) == ("done", {"up"})
    events = [entry["event"] for entry in here.audit() if entry["event"].startswith("rollout-")]
    assert events == ["rollout-started", *["rollout-moved"] * 8, "rollout-done"]
    assert having(here) == set(NAMES[:8])


def test_the_order_is_always_the_same(tmp_path: Path) -> None:
    orders = []
    for directory in ("one", "two"):
        (tmp_path / directory).mkdir()
        with ten_hosts(tmp_path / directory) as here:
            orders.append([one.host for one in start(here, percent=50).hosts])
    assert orders[0] == orders[1] and len(orders[0]) == 4


def test_it_stops_when_one_does_not_come_up(here: Site) -> None:
    first, second = (one.host for one in start(here).hosts)
    boot(here, first)
    boot(here, second, up=False)
    here.clock.advance(minutes=59)
    assert look(here).state == "running"
    here.clock.advance(minutes=1)
    status = look(here)
    assert status.state == "stopped" and {one.host: one.outcome for one in status.hosts}[second] == "failed"
    assert look(here).left == 6 and having(here) == {first, second}
    (entry,) = here.audit("rollout-stopped")
    assert (entry["image"], entry["count"]) == (NEW, 1)
    assert entry["reason"] == status.reason == "1 of its hosts did not come up in 60 minutes"
    assert here.service.rollouts.go_on(ROOT).state == "running"
    assert look(here).left == 4, "what has failed is taken as it is"


def test_one_that_was_late_is_up_when_it_is_up(here: Site) -> None:
    """Nobody is told that a host has failed that runs, nor is it left out of those that a way back leaves running."""
    first, second = (one.host for one in start(here).hosts)
    boot(here, first)
    delivery = here.service.netboot.seed(origin(MACS[second]), seed_url(here, MACS[second]))
    charged(delivery)
    here.clock.advance(hours=1)
    assert look(here).state == "stopped"
    key = here.service.core.store.keys.phone_home(delivery.boot.id, second).reveal()
    here.service.netboot.phone_home.up(second, key)
    status = look(here)
    assert {one.outcome for one in status.hosts} == {"up"} and (status.state, status.reason) == ("stopped", None)
    assert here.service.rollouts.roll_back(ROOT).booted == tuple(sorted((first, second)))


def test_a_host_that_it_does_not_fit_by_now_does_not_get_it(here: Site) -> None:
    begun = start(here)
    here.clock.advance(minutes=1)
    (late, *_) = [name for name in NAMES[:8] if name not in {one.host for one in begun.hosts}]
    for one in begun.hosts:
        boot(here, one.host)
    spec = "    key: {kind: token, path: /etc/key, owner: ceph}\nhosts:\n"
    third = replace(make_base(here.state, "third"), accounts=Accounts({"ceph": 64045}, {}))
    here.service.core._bases[third.id] = third
    here.service.core.store.bases.name("third", third.id)
    own = f"  {late}:\n    base: third\n    credentials: [key]\n"
    here.apply(SITE.replace("hosts:\n", spec).replace(f"  {late}:\n", own))
    status = look(here)
    assert status.state == "stopped" and having(here) == {one.host for one in begun.hosts}
    assert status.reason and "the base image 'other' has no user 'ceph'" in status.reason
    assert here.audit("rollout-stopped")[0]["reason"] == status.reason
    here.apply(SITE)
    here.service.rollouts.go_on(ROOT)
    assert look(here).left == 4


@pytest.mark.parametrize("up", [True, False])
def test_what_is_applied_after_a_boot_does_not_hide_what_came_of_it(here: Site, up: bool) -> None:
    """Or a roll-out would wait for hosts to be booted again that run, or that a base has broken."""
    begun = start(here)
    here.clock.advance(minutes=1)
    for one in begun.hosts:
        boot(here, one.host, up=up)
    here.apply(SITE.replace("example.test", "example.org"))
    here.clock.advance(hours=1)
    status = look(here)
    assert {one.outcome for one in status.hosts if one.host in {two.host for two in begun.hosts}} == {
        "up" if up else "failed"
    }
    assert status.left == (4 if up else 6)


def test_a_boot_that_an_apply_has_cut_off_is_no_failure(here: Site) -> None:
    begun = start(here)
    here.clock.advance(minutes=1)
    for one in begun.hosts:
        seed_url(here, MACS[one.host])
    here.apply(SITE.replace("example.test", "example.org"))
    here.clock.advance(hours=1)
    assert {one.outcome for one in look(here).hosts} == {"pending"}


def test_so_many_may_fail(here: Site) -> None:
    first, second = (one.host for one in start(here, max_failures=1).hosts)
    boot(here, first)
    boot(here, second, up=False)
    here.clock.advance(hours=1)
    assert (look(here).state, here.service.rollouts.status().left) == ("running", 4)


def test_who_is_not_booted_is_waited_for(here: Site) -> None:
    start(here)
    here.clock.advance(days=7)
    assert (look(here).state, having(here)) == ("running", {one.host for one in look(here).hosts})


def test_a_boot_with_the_old_base_does_not_count(here: Site) -> None:
    start(here, percent=100)
    name = NAMES[0]
    here.service.rollouts.roll_back(ROOT)
    delivery = here.service.netboot.seed(origin(MACS[name]), seed_url(here, MACS[name]))
    charged(delivery)
    start(here, percent=100)
    with pytest.raises(Gone):
        delivery.check()
    key = here.service.core.store.keys.phone_home(delivery.boot.id, name).reveal()
    here.service.netboot.phone_home.up(name, key)
    outcomes = {one.host: one.outcome for one in look(here).hosts}
    assert outcomes[name] == "pending"


def test_a_pause_and_a_way_back(here: Site) -> None:
    first, second = (one.host for one in start(here).hosts)
    link = take(here, make(here, first))
    assert here.service.rollouts.pause(ROOT).state == "paused"
    for name in (first, second):
        boot(here, name)
    assert look(here).left == 6
    with pytest.raises(Conflict, match="is paused"):
        here.service.rollouts.pause(ROOT)
    done = here.service.rollouts.roll_back(ROOT)
    assert (done.hosts, done.booted) == (2, tuple(sorted((first, second)))) and having(here) == set()
    with pytest.raises(Gone):
        link.check()
    for act in (here.service.rollouts.status, lambda: here.service.rollouts.roll_back(ROOT)):
        with pytest.raises(NotFound, match="there is none"):
            act()


def test_an_apply_says_what_it_leaves_and_ends_what_it_has_caught_up_with(here: Site) -> None:
    start(here, percent=100)
    changes = here.service.inventories.preview(sources(SITE.replace("rack: b", "rack: c")), prune=False)[1]
    assert changes.notes == ("hosts that keep the base 'other' of a roll-out: 8; see 'provision rollout status'",)
    here.apply(SITE.replace("rack: b", "rack: c"))
    assert having(here) == set(NAMES[:8])
    for name in NAMES[:8]:
        boot(here, name)
    assert look(here).state == "done"
    here.apply(SITE.replace("  base: base\n", "  base: other\n"))
    here.service.rollouts.look()
    with pytest.raises(NotFound):
        here.service.rollouts.status()
    assert having(here) == set(NAMES) and here.audit("rollout-ended")


def test_what_cannot_be_rolled_out(here: Site) -> None:
    with pytest.raises(NotFound, match="base image 'nothing'"):
        start(here, base="nothing")
    for fields in ({"base": "base"}, {"selector": {"rack": "z"}}):
        with pytest.raises(Conflict, match="no host would get"):
            start(here, **fields)
    start(here)
    with pytest.raises(Conflict, match="one of 'other' is running"):
        start(here)
    with pytest.raises(Conflict, match="is used by"):
        here.service.images.remove(NEW, ROOT)


def test_its_base_stays_what_it_is_until_it_is_done(here: Site) -> None:
    """Else its later hosts would get another image than those by which it was tried."""
    other, images = make_base(here.state, "a third"), here.service.images
    start(here, percent=100)
    with pytest.raises(Conflict, match=r"a roll-out of it is running, .*import it under another name"):
        images._name(NEW, other, ROOT)
    images._name("base", other, ROOT)
    images._name("fresh", other, ROOT)
    assert here.service.core.bases()[NEW] != other.id == here.service.core.bases()["fresh"]
    for name in NAMES[:8]:
        boot(here, name)
    assert look(here).state == "done"
    images._name(NEW, other, ROOT)
    assert here.service.core.bases()[NEW] == other.id


def test_media_are_of_the_new_base_at_once(here: Site) -> None:
    before = here.service.media.plan(NAMES[0], Medium.ISO, ROOT)
    start(here, percent=100)
    assert here.service.media.plan(NAMES[0], Medium.ISO, ROOT).base != before.base


@pytest.mark.parametrize("step", ["put", "move"])
def test_a_kill_in_between_leaves_what_goes_on(tmp_path: Path, step: str) -> None:
    with ten_hosts(tmp_path) as here:
        state, clock = here.state, here.clock
    child = os.fork()
    if child == 0:
        with opened(state) as service:
            _die_after(service, step)
            service.rollouts.start(StartRollout(base=NEW, percent=50), ROOT)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with opened(state, clock) as service:
        service.rollouts.look()
        status = service.rollouts.status()
        assert (status.state, len(status.hosts), status.left) == ("running", 5, 5)
        assert len(service.core.store.snapshot.moved) == 5


def _die_after(service: Service, step: str) -> None:
    """Let this process be killed when that part of the store is written."""
    store = service.core.store.rollouts
    real = getattr(store, step)

    def dying(*args: Any) -> None:
        real(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(store, step, dying)


def test_hosts_that_boot_a_signed_image_get_no_base_that_has_none(here: Site) -> None:
    here.apply(SITE.replace(f"  {NAMES[0]}:\n", f"  {NAMES[0]}:\n    chain: uki\n"))
    with pytest.raises(Problems, match=f"not signed yet; Sign it: 'provision sb sign {NEW}'"):
        start(here)
    with pytest.raises(NotFound):
        here.service.rollouts.status()
    here.service.secure_boot.init(NewSecureBootKey(), ROOT)
    here.service.secure_boot.sign(NEW, SignUnified(), ROOT)
    assert start(here).hosts
