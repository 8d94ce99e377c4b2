"""A compromised host gets nothing, of nobody and in no way, until what others may have of it is replaced."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from provision.api.links import LinkMedium, MakeLink
from provision.api.operations import OperationState
from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.errors import Denied, Gone, NotFound, ProvisionError, Unauthenticated
from provision.principal import Authentication, Principal, PrincipalRole
from provision.secret import Secret
from provision.service.operations import Running
from provision.service.service import Service
from provision.token import parse
from tests.helpers.links import make, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, MAC2, Site, origin, seed_url, site
from tests.helpers.stored_site import gains, opened

OTHER = b"another-token-of-node1"
MINE = "node1"


def declare(here: Site, name: str = MINE) -> None:
    here.service.compromises.declare(name, ROOT)


def rules(here: Site) -> set[str | None]:
    rows = here.service.reports.explain(MINE, ROOT)
    assert not any(row.allowed for row in rows)
    return {row.rule for row in rows}


def test_nothing_at_all_until_the_credential_is_replaced(here: Site) -> None:
    here.window(boots=3)
    before = gains(here.service)
    assert {(MAC1, "pxe", MINE), (MAC1, "http-boot", MINE), ("iso", MINE, MINE)} <= before
    said = here.service.compromises.declare(MINE, ROOT)
    assert (said.exposed, said.window, said.links, said.tokens, said.boots) == (("token",), True, 0, (), 0)
    assert gains(here.service) == {row for row in before if row[2] != MINE}, "other hosts have what they had"
    assert "credential-exposed" in rules(here)
    again = here.service.credentials.put(MINE, "token", Secret(CANARY), None, None, ROOT)
    assert again.exposed, "who sets it hears that nothing is better"
    assert gains(here.service) == {row for row in before if row[2] != MINE}, "the same content is no other one"
    for act in (lambda: here.window(), lambda: make(here)):
        with pytest.raises(Denied, match="others may have its credential 'token'") as refused:
            act()
        assert refused.value.rule == "credential-exposed" and "provision credential set node1 token" in str(refused)
    assert not here.service.credentials.put(MINE, "token", Secret(OTHER), None, None, ROOT).exposed
    assert "credential-exposed" not in {row.rule for row in here.service.reports.explain(MINE, ROOT)}
    here.window()
    here.service.media.plan(MINE, Medium.ISO, ROOT)
    here.secret(MINE, CANARY)
    assert "credential-exposed" in rules(here), "what others have is never good again"


def test_no_window_is_opened_in_that_very_moment(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be there for the host, and for whoever is in it, as soon as its credentials have new content."""
    act = here.service.core.act

    def overtaken(event: str, *about: Any, **fields: Any) -> Any:
        if event == "window-opened":
            monkeypatch.setattr(here.service.core, "act", act)
            declare(here)
        return act(event, *about, **fields)

    monkeypatch.setattr(here.service.core, "act", overtaken)
    with pytest.raises(Denied, match="others may have its credential"):
        here.window()
    assert here.audit("failed")[0]["subject"] == "window-opened" and not here.audit("window-opened")
    here.secret(MINE, OTHER)
    assert here.service.core.store.windows.of(MINE) is None


def test_a_link_and_a_boot_of_before_are_good_for_nothing_afterwards(here: Site) -> None:
    taken = take(here, make(here))
    taken.check()
    here.window(boots=5)
    revision = seed_url(here)
    delivery = here.service.netboot.seed(origin(), revision)
    delivery.check()
    declare(here)
    with pytest.raises(Gone):
        delivery.check()
    here.secret(MINE, OTHER)
    with pytest.raises(Gone):
        delivery.check()
    with pytest.raises(ProvisionError):
        here.service.netboot.seed(origin(), revision)
    assert {row.state for row in here.service.links.listing(ROOT)} == {"revoked"}
    with pytest.raises(Gone):
        taken.check()


def test_a_host_that_boots_at_any_time_is_cut_off_too(here: Site) -> None:
    delivery = here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))
    declare(here, "node2")
    with pytest.raises(Gone, match="withdrawn"):
        delivery.check()


def test_tokens_for_this_host_alone_are_revoked(here: Site) -> None:
    def token(name: str, **selector: str) -> Principal:
        made = here.service.tokens.create(NewToken(name=name, role=PrincipalRole.OPERATOR, selector=selector), ROOT)
        secret = parse(made.token.encode())
        assert secret is not None
        found = here.service.core.store.tokens.find(secret)
        assert found is not None
        return found.principal

    here.apply(INVENTORY.replace("labels: {rack: a}", "labels: {rack: a, only: here}", 1))
    mine, rack, anybody = token("mine", only="here"), token("rack", rack="a"), token("anybody")
    nowhere = token("nowhere", rack="none")
    mine_goes, rack_goes = (here.service.media.going_on(MINE, one) for one in (mine, rack))
    here.service.links.make("node1", MakeLink(medium=LinkMedium.ISO, minutes=5, uses=1), mine)
    said = here.service.compromises.declare(MINE, ROOT)
    assert said.tokens == ("mine",) and said.links == 1
    stands = here.service.core.store.tokens.stands
    assert [stands(one) for one in (mine, rack, anybody, nowhere)] == [False, True, True, True]
    with pytest.raises(Unauthenticated):
        mine_goes()
    with pytest.raises(Gone, match="was declared compromised"):
        rack_goes()
    here.service.media.going_on(MINE, rack)()
    entries = [e for e in here.service.core.audit.entries() if e["event"] == "host-compromised"]
    assert [(e.get("host"), e.get("count"), e.get("token")) for e in entries] == [(MINE, 1, None), (MINE, None, "mine")]


def test_its_boot_by_bmc_is_cancelled(here: Site) -> None:
    ended = Event()

    def work(running: Running) -> None:
        try:
            running.pause(60)
        finally:
            ended.set()

    operations = here.service.operations
    begun = operations.begin("boot cd", MINE, ROOT, work)
    others = operations.begin("boot cd", "node2", ROOT, lambda running: running.pause(60))
    assert here.service.compromises.declare(MINE, ROOT).boots == 1
    assert ended.wait(60)
    assert operations.get(others.id, ROOT).state is OperationState.RUNNING
    operations.stop()
    assert operations.get(begun.id, ROOT).state is OperationState.FAILED


def test_it_is_seen_everywhere(here: Site) -> None:
    assert b"provision_hosts_exposed 0.0" in here.service.metrics.text()
    declare(here)
    (status,) = here.service.reports.status(ROOT, MINE).hosts
    (alert,) = status.alerts
    assert alert.event == "credential-exposed" and "provision credential set" in alert.text
    assert [row.exposed for row in here.service.credentials.listing(MINE, ROOT)] == [True]
    assert b"provision_hosts_exposed 1.0" in here.service.metrics.text()
    here.secret(MINE, OTHER)
    (status,) = here.service.reports.status(ROOT, MINE).hosts
    assert status.alerts == ()


def test_a_credential_that_the_host_no_longer_names_keeps_nothing_from_it(here: Site) -> None:
    declare(here)
    here.apply(INVENTORY.replace("    credentials: [token]\n", "", 1))
    here.window()
    assert any(row.allowed for row in here.service.reports.explain(MINE, ROOT))
    here.apply(INVENTORY)
    assert "credential-exposed" in rules(here)


def test_who_does_not_see_it_does_not_declare_it(here: Site) -> None:
    foreign = Principal("token:x", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "z"),))
    with pytest.raises(NotFound):
        here.service.compromises.declare(MINE, foreign)
    with pytest.raises(NotFound):
        here.service.compromises.declare("node9", ROOT)
    assert not here.service.core.store.snapshot.compromised


@pytest.mark.parametrize("done", [False, True], ids=("before", "after"))
def test_a_killed_declaration_is_whole_or_not_there(tmp_path: Path, done: bool) -> None:
    """Killed with SIGKILL right before and right after the transaction: nothing is given away that was ended."""
    with site(tmp_path) as here:
        here.window()
        state = here.state
    child = os.fork()
    if child == 0:
        with opened(state) as service:
            _die_in(service, done)
            service.compromises.declare(MINE, ROOT)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with opened(state) as service:
        window = service.core.store.windows.of(MINE)
        assert window is not None and window.closed is done
        assert ((MAC1, "pxe", MINE) in gains(service)) is not done
        assert bool(service.core.state(MINE).exposed) is done
        begun = [e for e in service.core.audit.entries() if e.get("subject") == "host-compromised"]
        assert {entry["event"] for entry in begun} >= {"begun", "recovered"}


def _die_in(service: Service, done: bool) -> None:
    """Let this process be killed when the transaction is due, or when it is `done`."""
    store = service.core.store.compromises
    real = store.declare

    def dying(*args: Any) -> None:
        if done:
            real(*args)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(store, "declare", dying)  # noqa: B010  (a method is replaced)


def test_no_secret_is_told(here: Site) -> None:
    here.service.credentials.put(MINE, "token", Secret(b"canary-of-a-test"), None, None, ROOT)
    said = here.service.compromises.declare(MINE, ROOT)
    told = [repr(said), repr(here.service.core.audit.entries()), repr(here.service.core.state(MINE))]
    assert not [text for text in told if "canary" in text]
