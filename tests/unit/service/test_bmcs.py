"""BMCs for operators: sealed, audited, seen by those who see the host, and used by those who may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.api.bmc import ChangePower, NewBmc, PowerAction, PowerState
from provision.api.operations import Operation, OperationState
from provision.errors import Conflict, Invalid, NotFound, ProvisionError, Unavailable
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.service import Service
from tests.helpers.principals import ROOT
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served
from tests.helpers.site_fixture import Site, site

RACK_A = Principal("token:a", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "a"),))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with served("dell") as there:
        yield there


def wanted(bmc: Bmc | None = None, **fields: Any) -> NewBmc:
    usual: dict[str, Any] = {
        "url": bmc.url if bmc else "https://127.0.0.1:9",
        "user": USER,
        "fingerprint": fingerprint(certificate()[0]),
    }
    return NewBmc.model_construct(**{"password": PASSWORD.encode(), "ca": "", "system": "", **usual, **fields})


def test_nothing_shows_the_password(here: Site, bmc: Bmc, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    bmcs = here.service.bmcs
    shown = [bmcs.put("node1", wanted(bmc), ROOT), bmcs.get("node1", ROOT), bmcs.check("node1", ROOT), wanted(bmc)]
    bmcs.put("node1", wanted(bmc, password=PASSWORD.encode() + b"x"), ROOT)
    with pytest.raises(Unavailable) as refused:
        bmcs.power("node1", ROOT)
    with pytest.raises(Invalid) as invalid:
        bmcs.put("node1", wanted(bmc, user=":"), ROOT)
    texts = [*map(repr, shown), *map(str, here.audit()), str(refused.value), str(invalid.value), caplog.text]
    assert not any(PASSWORD in text for text in texts)
    files = [path.read_bytes() for path in here.state.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in files)
    assert [entry["address"] for entry in here.audit("bmc-set")] == [bmc.url, bmc.url]
    assert len(here.audit("bmc-checked")) == 1


def test_another_address_means_another_password(here: Site, bmc: Bmc) -> None:
    """There is no way to have the sealed password sent elsewhere: whoever sets an address sets a password."""
    here.service.bmcs.put("node1", wanted(bmc), ROOT)
    here.service.bmcs.put("node1", wanted(bmc, password=b"guess"), ROOT)
    with pytest.raises(Unavailable, match="does not let this user"):
        here.service.bmcs.check("node1", ROOT)


OF_ONE_HOST: dict[str, Callable[[Service, str], Any]] = {
    "put": lambda service, name: service.bmcs.put(name, wanted(), RACK_A),
    "get": lambda service, name: service.bmcs.get(name, RACK_A),
    "check": lambda service, name: service.bmcs.check(name, RACK_A),
    "power": lambda service, name: service.bmcs.power(name, RACK_A),
    "change": lambda service, name: service.bmcs.change_power(name, ChangePower(action=PowerAction.ON), RACK_A),
    "remove": lambda service, name: service.bmcs.remove(name, RACK_A),
}


@pytest.mark.parametrize("what", OF_ONE_HOST)
def test_a_host_that_is_not_seen_is_as_one_that_is_not_there(here: Site, what: str) -> None:
    here.service.bmcs.put("node3", wanted(), ROOT)
    before, said = len(here.audit()), []
    for name in ("node3", "node9"):
        with pytest.raises(ProvisionError) as told:
            OF_ONE_HOST[what](here.service, name)
        said.append((type(told.value), str(told.value).replace(name, "NAME")))
    assert said[0] == said[1] and said[0][0] is NotFound
    assert len(here.audit()) == before


def ended(here: Site, begun: Operation) -> Operation:
    for thread in threading.enumerate():
        if thread.name == f"operation {begun.id}":
            thread.join(60)
    return here.service.operations.get(begun.id, ROOT)


def test_power(here: Site, bmc: Bmc) -> None:
    bmcs = here.service.bmcs
    bmcs.put("node1", wanted(bmc), ROOT)
    assert bmcs.power("node1", ROOT).power is PowerState.OFF
    done = ended(here, bmcs.change_power("node1", ChangePower(action=PowerAction.CYCLE), ROOT))
    assert (done.state, done.steps) == (OperationState.DONE, ("the machine is off", "the machine is on"))
    assert bmcs.power("node1", ROOT).power is PowerState.ON
    (begun,) = [entry for entry in here.audit("begun") if entry["subject"] == "power-changed"]
    (entry,) = here.audit("power-changed")
    assert entry["of"] == begun["seq"] and (entry["kind"], entry["host"]) == ("cycle", "node1")


def test_nothing_happens_that_cannot_be_recorded(here: Site, bmc: Bmc, monkeypatch: pytest.MonkeyPatch) -> None:
    here.service.bmcs.put("node1", wanted(bmc), ROOT)

    def full(*_: Any, **__: Any) -> int:
        raise Unavailable("audit.log", "cannot be written", "make room")

    with monkeypatch.context() as patched:
        patched.setattr(here.service.core.audit, "record", full)
        done = ended(here, here.service.bmcs.change_power("node1", ChangePower(action=PowerAction.ON), ROOT))
        with pytest.raises(Unavailable, match="cannot be written"):
            here.service.bmcs.check("node1", ROOT)
    assert done.state is OperationState.FAILED and bmc.asked == []


def test_not_too_many_wait_for_bmcs(here: Site, bmc: Bmc) -> None:
    here.service.bmcs.put("node1", wanted(bmc), ROOT)
    reached, go = threading.Semaphore(0), threading.Event()

    def slow(asked: object, handler: object) -> None:
        reached.release()
        go.wait(60)

    bmc.spoils = slow
    threads = [threading.Thread(target=here.service.bmcs.power, args=("node1", ROOT)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert reached.acquire(timeout=60)
    with pytest.raises(Conflict, match="8 are being asked"):
        here.service.bmcs.power("node1", ROOT)
    go.set()
    for thread in threads:
        thread.join()
    assert here.service.bmcs.power("node1", ROOT).power is PowerState.OFF


def test_the_same_again_is_no_act(here: Site) -> None:
    wanted = NewBmc(url="https://10.0.0.201", user="root", password=b"word")
    first = here.service.bmcs.put("node1", wanted, ROOT)
    here.clock.advance(minutes=1)
    assert here.service.bmcs.put("node1", wanted, ROOT) == first
    assert len(here.audit("bmc-set")) == 1
    for changed in ({"password": b"other"}, {"user": "admin"}, {"url": "https://10.0.0.202"}):
        wanted = wanted.model_copy(update=changed)
        assert here.service.bmcs.put("node1", wanted, ROOT).set != first.set
    assert len(here.audit("bmc-set")) == 4
