"""The service's ground: opening a state directory, what is kept in memory, decisions and their record."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from provision import netcheck
from provision.api.inventory import Discrepancy
from provision.api.status import Status
from provision.boot import Medium
from provision.denial import Denial
from provision.errors import Conflict, Invalid, NotFound, Problems, Unavailable
from provision.secret import Secret
from provision.service.media import Digests
from provision.service.service import Service
from provision.settings import Settings
from provision.site import Inventory
from provision.store.keys import create_key
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, MAC1, Site, charged, closed_site, make_base, origin, settings


def test_a_state_directory_is_opened_once(here: Site) -> None:
    with pytest.raises(Conflict, match="another provision process"):
        Service.open(settings(here.state))


def test_a_failed_opening_lets_go_of_the_lock(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    key = (state / "key").read_bytes()
    (state / "key").unlink()
    for _ in range(2):
        with pytest.raises(Unavailable, match="master key is missing"):
            Service.open(settings(state))
    (state / "key").write_bytes(key)
    (state / "key").chmod(0o600)
    service = Service.open(settings(state))
    service.close()
    service.close()


def test_without_its_audit_log_a_service_opens_and_gives_nothing(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    (state / "audit.log").rename(state / "audit.moved")
    (state / "audit.log").mkdir()
    service = Service.open(settings(state))
    for call in (
        lambda: service.media.plan("node1", Medium.ISO, ROOT),
        lambda: service.windows.open("node1", 5, 1, ROOT),
        lambda: service.core.audit.entries(None, 10),
        lambda: service.auditing.verify(ROOT),
    ):
        with pytest.raises(Unavailable, match=r"audit\.log"):
            call()
    assert service.reports.explain("node1", ROOT)
    service.close()
    (state / "audit.log").rmdir()
    (state / "audit.moved").rename(state / "audit.log")
    service = Service.open(settings(state))
    assert service.media.plan("node1", Medium.ISO, ROOT).size
    service.close()


def test_opening_sweeps_what_was_interrupted(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    (state / "tmp" / "upload").write_bytes(b"half")
    (state / "bases" / ".import-1-abc").mkdir()
    Service.open(settings(state)).close()
    assert list((state / "tmp").iterdir()) == []
    assert not (state / "bases" / ".import-1-abc").exists()


def test_nothing_is_there_before_the_first_apply(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    create_key(state)
    service = Service.open(Settings(state=state))
    try:
        assert service.inventories.hosts(ROOT) == []
        assert service.reports.status(ROOT) == Status(hosts=(), unknown=(), warnings=(), problems=())
        for call in (
            service.exports.dhcp,
            lambda: service.inventories.current(ROOT),
            lambda: service.inventories.check(None, ROOT),
        ):
            with pytest.raises(Conflict, match="nothing has been applied"):
                call()
        with pytest.raises(NotFound):
            service.core.state("node1")
    finally:
        service.close()


def test_what_a_host_lacks_is_named(here: Site) -> None:
    here.service.credentials.remove("node1", "token", ROOT)
    assert here.service.core.state("node1").missing == ("its credential 'token'",)
    here.apply(INVENTORY.replace("base: base", "base: nothing"))
    assert here.service.core.state("node1").missing == ("its credential 'token'", "its base image 'nothing'")
    answer = here.service.core.decide(
        here.service.core.state("node1"), Medium.PXE, origin().channel, origin().requester
    )
    assert isinstance(answer, Denial)
    assert answer.rule == "incomplete"
    with pytest.raises(NotFound, match=r"there: base"):
        here.service.core.base_of(here.service.core.hosts["node1"])


def test_a_charge_that_comes_while_boots_are_read_is_not_lost(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.window()
    core = here.service.core
    really, reading, go_on = core.store.boots.of, threading.Event(), threading.Event()

    def slow(host: str) -> Any:
        found = really(host)
        if not reading.is_set():
            reading.set()
            go_on.wait(5)
        return found

    monkeypatch.setattr(core.store.boots, "of", slow)
    core.charged.forget("node1")
    reader = threading.Thread(target=core.state, args=("node1",))
    reader.start()
    assert reading.wait(5)
    boot = core.store.boots.begin("node1", MAC1, Medium.PXE, "mgmt", here.clock.now, "a" * 64)
    assert core.store.boots.charge(boot, here.clock.now)
    core.charged.forget("node1")
    go_on.set()
    reader.join()
    assert [known.id for known in core.state("node1").boots] == [boot.id]


def test_a_host_that_comes_back_under_its_name_has_no_boots(here: Site) -> None:
    here.window()
    charged(here.service.netboot.seed(origin(), None))
    assert here.service.core.state("node1").boots
    here.apply(INVENTORY.replace("  node1:", "  other:"))
    here.apply(INVENTORY)
    assert not here.service.core.state("node1").boots


def test_a_load_is_all_or_nothing(here: Site) -> None:
    items = [("node1", "token", Secret(b"good")), ("node9", "token", Secret(b"x")), ("node2", "nothing", Secret(b"y"))]
    with pytest.raises(Problems) as told:
        here.service.credentials.put_many(items, ROOT)
    assert [problem.file for problem in told.value.problems] == ["node2/nothing", "node9/token"]
    assert [row.version for row in here.service.credentials.listing(None, ROOT)] == [1, 1]


def test_digests_are_remembered_by_what_they_are_of(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = Digests()
    plan = here.service.media.plan("node1", Medium.ISO, ROOT)
    first = digests.of(plan)
    here.base.iso.path.unlink()
    assert digests.of(plan) == first
    other = here.service.media.plan("node2", Medium.ISO, ROOT)
    with pytest.raises(Unavailable):
        digests.of(other)


@pytest.mark.parametrize(
    "server", ["", "x", "10.0.0.1:dns", "10.0.0.1:53:1", "host.test", "10.0.0.1:-1", "[10.0.0.1]:53", "[::1", "[::1]:"]
)
def test_a_resolver_is_an_address(here: Site, server: str) -> None:
    with pytest.raises(Invalid, match="ADDRESS"):
        here.service.inventories.check(server, ROOT)


def test_a_resolvers_port_is_one(here: Site) -> None:
    for server in ("127.0.0.1:0", "127.0.0.1:65536", "[::1]:99999"):
        with pytest.raises(Invalid, match=r"server: port \d+ is not in 1 to 65535; such as"):
            here.service.inventories.check(server, ROOT)


@pytest.mark.parametrize(
    ("server", "asked"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
    ],
)
def test_which_resolver_is_asked(
    here: Site, monkeypatch: pytest.MonkeyPatch, server: str, asked: tuple[str, int]
) -> None:
    def check(_: Inventory, resolvers: Sequence[netcheck.Resolver]) -> list[netcheck.Finding]:
        return [netcheck.Finding(host, str(port), "") for host, port in resolvers]

    monkeypatch.setattr(netcheck, "check", check)
    assert here.service.inventories.check(server, ROOT) == [
        Discrepancy(subject=asked[0], fact=str(asked[1]), remedy="")
    ]


def test_a_second_base_is_taken_by_the_hosts_that_name_it(here: Site) -> None:
    other = make_base(here.state, "other")
    here.service.core.store.bases.name("other", other.id)
    here.apply(INVENTORY.replace("  node1:\n", "  node1:\n    base: other\n"))
    core = here.service.core
    assert core.base_of(core.hosts["node1"]).id == other.id
    assert core.base_of(core.hosts["node2"]).id == core.base_of(None).id == here.base.id
    with pytest.raises(Conflict, match="is used by node1"):
        here.service.images.remove("other", ROOT)


def test_what_did_not_happen_is_not_recorded(here: Site) -> None:
    service = here.service
    with pytest.raises(Conflict):
        service.images.remove("base", ROOT)
    with pytest.raises(NotFound):
        service.images.remove("nothing", ROOT)
    for host, name in (("node3", "token"), ("node1", "nothing"), ("node9", "token")):
        with pytest.raises(NotFound):
            service.credentials.remove(host, name, ROOT)
    service.windows.close("node1", ROOT)
    assert not [e for e in here.audit() if e["event"] in ("image-removed", "credential-removed", "window-closed")]
    here.window()
    service.windows.close("node1", ROOT)
    service.windows.close("node1", ROOT)
    service.credentials.remove("node1", "token", ROOT)
    assert [len(here.audit(event)) for event in ("window-closed", "credential-removed")] == [1, 1]


def test_a_host_is_described_while_the_database_is_busy(here: Site) -> None:
    """The event loop itself asks for it, and boots wait for that."""
    with ThreadPoolExecutor(1) as pool, here.service.core.store.database.lock:
        host = pool.submit(here.service.inventories.host, "node1", ROOT).result(30)
    assert (host.name, host.missing) == ("node1", ())
