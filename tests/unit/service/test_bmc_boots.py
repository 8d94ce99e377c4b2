"""Boots by BMCs: from off to up, with everything taken back at whatever end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from provision.api.bmc import BootOrder, BootVia
from provision.api.links import LinkMedium, MakeLink
from provision.api.operations import OperationState
from provision.boot import Medium
from provision.errors import Conflict, Denied, NotFound, Unavailable
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service import bmc_boots
from provision.service.boot_plan import Begun
from provision.service.listeners import Listening
from tests.helpers.bmc_boots import CD, PXE, at, boot, come_up, ended, failure, nothing_left, recover
from tests.helpers.principals import ROOT
from tests.helpers.redfish import Asked, Bmc, served
from tests.helpers.site_fixture import INVENTORY, Site, site


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(bmc_boots, "_LOOK_SECONDS", 0.01)
    with site(tmp_path) as opened:
        opened.service.listeners = lambda: {"mgmt": Listening("serving", True)}
        yield opened


@pytest.fixture
def bmc(here: Site) -> Iterator[Bmc]:
    with served("other") as there:
        for name in ("node1", "node3"):
            here.service.bmcs.put(name, at(there), ROOT)
        yield there


def test_by_cd_from_off_to_up(here: Site, bmc: Bmc) -> None:
    bmc.drive.update({"Inserted": True, "Image": "http://stale/image.iso"})
    bmc.spoils = come_up(here)
    done = boot(here, CD)
    assert done.state is OperationState.DONE, done
    names = [name for name, _ in bmc.orders()]
    drive = ["VirtualMedia.EjectMedia", "VirtualMedia.InsertMedia"]
    system = bmc.rules["system"].rpartition("/")[2]
    assert names == [*drive, system, "ComputerSystem.Reset", system, drive[0]]
    image = next(body["Image"] for name, body in bmc.orders() if name.endswith("InsertMedia"))
    assert image.startswith("http://10.0.0.1/b/") and image.endswith(".iso")
    assert "the host is up" in done.steps and bmc.system["PowerState"] == "On"
    (link,) = here.service.core.store.links.all()
    assert str(link.address) == "127.0.0.1", "for the BMC alone"
    nothing_left(here, bmc)
    secret = image.rpartition("/")[2].partition(".")[0]
    assert secret not in str(here.audit()) + repr(done)
    events = [entry["event"] for entry in here.audit() if entry["event"] in EVENTS]
    assert events == [*EVENTS[:4], "medium-ejected", "link-revoked"]


EVENTS = ["link-made", "medium-inserted", "boot-set", "power-changed", "medium-ejected", "link-revoked"]


@pytest.mark.parametrize("via", [BootVia.PXE, BootVia.HTTP_BOOT])
def test_by_the_network(here: Site, bmc: Bmc, via: BootVia) -> None:
    seen: list[bool] = []

    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        window = here.service.core.store.windows.of("node1")
        if asked.body == {"ResetType": "On"}:
            seen.append(window is not None and window.is_open(here.clock.now))
            come_up(here)(asked, handler)

    bmc.spoils = spoil
    assert boot(here, BootOrder(via=via)).state is OperationState.DONE
    assert seen == [True] and not here.service.core.store.links.all()
    nothing_left(here, bmc)


# Whatever fails, all is taken back


FAILURES = {
    "InsertMedia": ("POST", "InsertMedia"),
    "boot once": ("PATCH", "437XR1138R2"),
    "switching on": ("POST", "Reset"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_step_that_fails(here: Site, bmc: Bmc, what: str) -> None:
    method, end = FAILURES[what]
    failed: list[Asked] = []

    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> Any:
        if (asked.method, asked.path.endswith(end)) == (method, True) and not failed:
            failed.append(asked)
            return 500, {}, b"{}"
        return None

    bmc.spoils = spoil
    assert "answered 500" in failure(boot(here, CD)) and failed
    assert bmc.system["PowerState"] == "Off"
    nothing_left(here, bmc)


def test_a_host_that_is_up_while_its_bmc_goes_away(here: Site, bmc: Bmc) -> None:
    up = come_up(here)

    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> Any:
        up(asked, handler)
        return (500, {}, b"{}") if asked.path.endswith("EjectMedia") else None

    bmc.spoils = spoil
    said = failure(boot(here, CD))
    assert said.startswith("node1: is up, but not everything set up for its boot could be undone (answered 500)")
    assert bmc.system["PowerState"] == "On"
    bmc.spoils = lambda asked, _: None
    recover(here)
    assert bmc.system["PowerState"] == "On"
    nothing_left(here, bmc)


def test_a_host_that_does_not_come_up(here: Site, bmc: Bmc) -> None:
    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> None:
        if asked.body == {"ResetType": "On"}:
            here.clock.advance(minutes=61)

    bmc.spoils = spoil
    assert "did not report within 60 minutes that it was up (last seen: nothing)" in failure(boot(here, CD))
    assert bmc.system["PowerState"] == "Off", "it was off before"
    nothing_left(here, bmc)


def test_cancelling(here: Site, bmc: Bmc) -> None:
    on = threading.Event()
    bmc.spoils = lambda asked, _: on.set() if asked.body == {"ResetType": "On"} else None
    begun = here.service.bmc_boots.begin("node1", CD, ROOT)
    with pytest.raises(Conflict, match="is under way"):
        here.service.bmc_boots.begin("node1", CD, ROOT)
    assert on.wait(60)
    here.service.operations.cancel(begun.id, ROOT)
    assert "was cancelled" in failure(ended(here, begun))
    assert bmc.system["PowerState"] == "Off"
    nothing_left(here, bmc)


@pytest.mark.parametrize("order", [CD, PXE])
def test_a_host_that_gets_other_labels_meanwhile(here: Site, bmc: Bmc, order: BootOrder) -> None:
    """Who began its boot sees the host no longer. The boot ends, and all of it is undone."""
    by = Principal("token:ci", PrincipalRole.OPERATOR, Authentication.PEER_CREDENTIALS, (("rack", "a"),))

    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> None:
        if asked.body == {"ResetType": "On"}:
            here.apply(INVENTORY.replace("labels: {rack: a}", "labels: {rack: b}", 1))

    bmc.spoils = spoil
    with pytest.raises(NotFound):
        boot(here, order, "node3", by)
    assert "no host of this name" in failure(boot(here, order, by=by))
    assert bmc.system["PowerState"] == "Off"
    nothing_left(here, bmc)
    closed = [entry for entry in here.audit() if entry["event"] in ("window-closed", "link-revoked")]
    assert [entry["operator"] for entry in closed] == ["token:ci"]


def test_a_bmc_that_goes_away_is_asked_again_later(here: Site, bmc: Bmc) -> None:
    """What can be undone without it is undone at once; the rest stays in the journal."""
    here.clock.advance(minutes=1)

    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> Any:
        return (500, {}, b"{}") if bmc.drive["Inserted"] else None

    bmc.spoils = spoil
    done = boot(here, CD)
    assert "answered 500" in failure(done) and "not undone yet" in " ".join(done.steps)
    store = here.service.core.store
    assert journal(here) == [["medium"]]
    assert all(link.revoked for link in store.links.all())
    bmc.spoils = lambda asked, _: None
    recover(here)
    nothing_left(here, bmc)


def journal(here: Site) -> list[list[str]]:
    """The steps of each boot that is to be undone."""
    return [[Begun.parse(text).step for text in left.steps] for left in here.service.core.store.bmc_boots.all()]


@pytest.mark.parametrize(
    ("order", "step"), [*((CD, step) for step in (1, 2, 3, 4)), *((PXE, step) for step in (1, 2, 3))]
)
def test_what_a_killed_service_left_is_undone_at_the_next_start(
    here: Site, bmc: Bmc, monkeypatch: pytest.MonkeyPatch, order: BootOrder, step: int
) -> None:
    """Killed when that many steps are in the journal and done."""
    done: list[str] = []
    real = bmc_boots._Boot._do

    def dying(self: Any, what: Any, machine: Any) -> Any:
        made = real(self, what, machine)
        done.append(what)
        if len(done) == step:
            raise Unavailable("test", "killed", "")
        return made

    with monkeypatch.context() as patched:
        patched.setattr(bmc_boots._Boot, "_do", dying)
        patched.setattr(bmc_boots._Undo, "run", lambda *_, **__: None)
        boot(here, order)
    assert journal(here) == [done] and len(done) == step
    recover(here)
    assert bmc.system["PowerState"] == "Off"
    nothing_left(here, bmc)


def test_a_host_that_came_up_meanwhile_stays_on(here: Site, bmc: Bmc, monkeypatch: pytest.MonkeyPatch) -> None:
    bmc.spoils = come_up(here)
    with monkeypatch.context() as patched:
        patched.setattr(bmc_boots._Undo, "run", lambda *_, **__: None)
        boot(here, CD)
    assert here.service.core.store.bmc_boots.all()
    recover(here)
    assert bmc.system["PowerState"] == "On"
    nothing_left(here, bmc)


def test_the_next_boot_undoes_first_what_one_has_left(here: Site, bmc: Bmc) -> None:
    bmc.spoils = lambda asked, _: (500, {}, b"{}") if bmc.drive["Inserted"] else None
    failure(boot(here, CD))
    assert here.service.core.store.bmc_boots.all() and bmc.drive["Inserted"]
    assert "answered 500" in failure(boot(here, PXE)), "it is still not to be reached"
    assert journal(here) == [["medium"]]
    bmc.spoils = come_up(here)
    assert boot(here, PXE).state is OperationState.DONE
    nothing_left(here, bmc)


def test_a_host_that_came_up_at_the_last_moment_stays_on(here: Site, bmc: Bmc) -> None:
    """The machine was switched on, and the BMC says that it was not."""
    up = come_up(here)

    def spoil(asked: Asked, handler: BaseHTTPRequestHandler) -> Any:
        up(asked, handler)
        if asked.body == {"ResetType": "On"}:
            bmc.system["PowerState"] = "On"
            return 500, {}, b"{}"
        return None

    bmc.spoils = spoil
    assert "answered 500" in failure(boot(here, CD))
    assert bmc.system["PowerState"] == "On"
    nothing_left(here, bmc)


# What is not the boot's own stays as it is


def test_what_others_give_the_host_meanwhile_stays(here: Site, bmc: Bmc) -> None:
    def spoil(asked: Asked, _: BaseHTTPRequestHandler) -> Any:
        if asked.body == {"ResetType": "On"}:
            here.service.links.make("node1", MakeLink(medium=LinkMedium.DISK), ROOT)
            here.window("node1")
            return 500, {}, b"{}"
        return None

    bmc.spoils = spoil
    for order in (CD, PXE):
        assert "answered 500" in failure(boot(here, order))
        window = here.service.core.store.windows.of("node1")
        assert window is not None and window.is_open(here.clock.now)
    left = [link for link in here.service.core.store.links.all() if not link.revoked]
    assert [link.medium for link in left] == [Medium.DISK, Medium.DISK]


def test_its_bmc_is_not_changed_meanwhile(here: Site, bmc: Bmc) -> None:
    on = threading.Event()
    bmc.spoils = lambda asked, _: on.set() if asked.body == {"ResetType": "On"} else None
    begun = here.service.bmc_boots.begin("node1", CD, ROOT)
    assert on.wait(60)
    here.service.bmcs.put("node1", at(bmc), ROOT)
    with pytest.raises(Conflict, match=r"operation .* \(boot cd\) is under way"):
        here.service.bmcs.put("node1", at(bmc, "other"), ROOT)
    with pytest.raises(Conflict, match="is under way"):
        here.service.bmcs.remove("node1", ROOT)
    here.service.operations.cancel(begun.id, ROOT)
    failure(ended(here, begun))
    here.service.bmcs.remove("node1", ROOT)
    assert not [entry for entry in here.audit() if entry["event"] == "failed" and entry["subject"] == "bmc-removed"]


@pytest.mark.parametrize("removed", [False, True])
def test_another_bmc_is_told_nothing_of_a_boot_before(here: Site, bmc: Bmc, removed: bool) -> None:
    """What a boot left behind at a BMC that is gone is not undone at its successor, which may be another machine's."""
    bmc.spoils = lambda asked, _: (500, {}, b"{}") if bmc.drive["Inserted"] else None
    failure(boot(here, CD))
    assert journal(here) == [["medium"]]
    with served("other") as successor:
        if removed:
            here.service.bmcs.remove("node1", ROOT)
        else:
            here.service.bmcs.put("node1", at(successor), ROOT)
        recover(here)
        assert successor.asked == [] and journal(here) == []
    (told,) = [one for one in here.service.operations.listing(ROOT) if one.kind == "undo boot"]
    assert f"what was told to that at {bmc.url}/ is not undone" in " ".join(told.steps)


# What is refused before anything is done


def test_policy_is_asked_first(here: Site, bmc: Bmc) -> None:
    with pytest.raises(Denied) as told:
        here.service.bmc_boots.begin("node3", PXE, ROOT)
    assert told.value.rule == "netboot-never" and bmc.asked == []


def test_nothing_is_begun_that_nobody_serves(here: Site, bmc: Bmc) -> None:
    deaf: list[dict[str, Listening]] = [{"[api]": Listening("served", True)}, {"mgmt": Listening("no carrier", False)}]
    for listeners in deaf:
        here.service.listeners = partial(dict, listeners)
        with pytest.raises(Conflict, match="nothing is served"):
            here.service.bmc_boots.begin("node1", PXE, ROOT)
    here.service.listeners = dict
    with pytest.raises(Conflict, match="nothing is served"):
        here.service.bmc_boots.begin("node1", CD, ROOT)
    with pytest.raises(NotFound, match="provision bmc set"):
        here.service.bmc_boots.begin("node2", CD, ROOT)


def test_a_machine_that_runs_is_left_alone(here: Site, bmc: Bmc) -> None:
    bmc.system["PowerState"] = "On"
    assert "its machine is on" in failure(boot(here, CD)) and bmc.orders() == []
    bmc.spoils = come_up(here)
    assert boot(here, BootOrder(via=BootVia.CD, force=True)).state is OperationState.DONE
    assert [body["ResetType"] for name, body in bmc.orders() if name.endswith("Reset")] == ["ForceOff", "On"]


def test_another_hosts_machine_gets_nothing(here: Site, bmc: Bmc) -> None:
    nic = next(document for path, document in bmc.documents.items() if path.endswith("NIC.1"))
    nic.update({"MACAddress": "52:54:00:00:00:77", "PermanentMACAddress": "52:54:00:00:00:77"})
    assert "none of the MACs of node1" in failure(boot(here, CD))
    assert bmc.orders() == [] and not here.service.core.store.links.all()


def test_a_machine_without_a_drive(here: Site, bmc: Bmc) -> None:
    bmc.drive["MediaTypes"] = []
    assert "no virtual CD" in failure(boot(here, CD)) and bmc.orders() == []
    assert not here.service.core.store.links.all()
