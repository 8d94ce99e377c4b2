"""What ends is told of in time: once for each step nearer, to whom it concerns, over restarts."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.errors import Unavailable
from provision.principal import Authentication, Principal, PrincipalRole
from provision.secret import Secret
from provision.service.expiries import Expiries, Kind
from provision.service.listeners import Listening
from provision.site import CredentialKind
from provision.store.credentials import CredentialInput
from provision.tls import files
from tests.helpers.certificates import NAMES
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, NOW, Site, site
from tests.helpers.stored_site import opened, raw

RACK = Principal("token:rack", PrincipalRole.READER, Authentication.TOKEN, (("rack", "a"),))
NOWHERE = Principal("token:nowhere", PrincipalRole.READER, Authentication.TOKEN, (("rack", "z"),))


def certificate(here: Site, host: str = "node1", days: int = 20, name: str = "tls") -> None:
    """A certificate of a host that ends in so many days; what it holds is of no interest here."""
    ends = here.clock() + timedelta(days=days)
    value = CredentialInput(name, CredentialKind.CERTIFICATE, "/etc/tls.pem", "0644", Secret(b"x"), ends)
    here.service.core.store.credentials.set(host, value, here.clock())


def told(here: Site) -> list[tuple[str, int]]:
    return [(str(e["subject"]), int(e["days"])) for e in here.audit("credential-expiring")]


def test_it_is_said_once_for_each_step(here: Site) -> None:
    certificate(here, days=40)
    seen = []
    for _ in range(42):
        here.service.expiries.notify()
        here.service.expiries.notify()
        seen.append(len(told(here)))
        here.clock.advance(days=1)
    assert told(here) == [("certificate 'tls' of node1", days) for days in (30, 7, 1)]
    assert [seen.index(number) for number in (1, 2, 3)] == [10, 33, 39]


def test_a_clock_that_was_ahead_takes_no_warning_away(here: Site) -> None:
    certificate(here, days=40)
    for days in (39, -39, 34, 5):
        here.clock.advance(days=days)
        here.service.expiries.notify()
    assert [days for _, days in told(here)] == [1, 7, 1]


def test_another_one_in_its_place_is_told_of_anew(here: Site) -> None:
    certificate(here, days=5)
    here.service.expiries.notify()
    assert told(here) == [("certificate 'tls' of node1", 7)], "the steps that are past are not told of"
    certificate(here, days=6)
    here.service.expiries.notify()
    assert [days for _, days in told(here)] == [7, 7]
    here.service.core.store.credentials.remove("node1", "tls")
    here.service.expiries.notify()
    assert here.service.core.store.expiry_notices.all() == {}


def test_a_restart_says_nothing_again(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        certificate(here, days=5)
        here.service.expiries.notify()
    with opened(here.state, here.clock) as service:
        Expiries(service.core).notify()
        entries = [e for e in service.core.audit.entries(None, 1000) if e["event"] == "credential-expiring"]
        assert len(entries) == 1 and "provision credential set node1 tls" in str(entries[0]["reason"])


def test_what_there_is_that_ends(here: Site) -> None:
    files.create(here.state, NAMES, NOW)
    root = (here.state / "tls" / "ca.pem").read_text().replace("\n", "\n      ")
    here.apply(INVENTORY.replace("  base: base\n", f"  base: base\n  ca_certificates:\n    - |\n      {root}\n"))
    certificate(here)
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER, days=10), ROOT)
    here.service.listeners = lambda: {"[api]": Listening("no", served=False, expires=NOW)}
    found = {(one.kind, one.name, one.host) for one in here.service.expiries.all() if one.kind is not Kind.SITE_CA}
    assert found == {
        (Kind.API, "[api]", None),
        (Kind.CA, "operators", None),
        (Kind.CA, "firmware", None),
        (Kind.TOKEN, "ci", None),
        (Kind.HOST, "tls", "node1"),
    }
    assert set(here.service.expiries.first()) == {str(kind) for kind in Kind}


def test_a_keytab_says_when_it_was_sealed(here: Site) -> None:
    assert here.service.expiries.oldest_keytab() is None
    for name, days in (("one", 0), ("two", 3)):
        here.clock.advance(days=days)
        value = CredentialInput(name, CredentialKind.KEYTAB, f"/etc/{name}", "0600", Secret(b"x"))
        here.service.core.store.credentials.set("node1", value, here.clock())
    assert here.service.expiries.oldest_keytab() == NOW
    here.service.core.store.credentials.remove("node1", "one")
    assert here.service.expiries.oldest_keytab() == here.clock()


def test_everybody_is_warned_of_their_own(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, selector in (("rack", {"rack": "a"}), ("ci", {})):
        here.service.tokens.create(NewToken(name=name, role=PrincipalRole.READER, days=3, selector=selector), ROOT)
    certificate(here)
    certificate(here, "node3")
    certificate(here, "node2", days=31)

    def subjects(principal: Principal) -> list[str]:
        return [text.split(":")[0] for text in here.service.reports.status(principal).warnings]

    mine = ["token 'ci'", "token 'rack'", "certificate 'tls' of node1", "certificate 'tls' of node3"]
    assert subjects(ROOT) == mine
    assert subjects(RACK) == ["token 'rack'", "certificate 'tls' of node1"]
    assert subjects(NOWHERE) == []
    monkeypatch.setattr("provision.netcheck.check", lambda *_: [])
    checked = [found.subject for found in here.service.inventories.check(None, ROOT)]
    assert set(mine) <= set(checked)


def test_many_are_counted(here: Site) -> None:
    for number in range(30):
        certificate(here, name=f"tls{number}")
    warnings = here.service.reports.status(ROOT).warnings
    assert len(warnings) == 21 and "10 more expire within 30 days" in warnings[-1]


@pytest.mark.parametrize(("ends", "words"), [(NOW, "has expired on"), (NOW + timedelta(days=1), "expires on")])
def test_a_warning_says_whether_it_is_over(here: Site, ends: datetime, words: str) -> None:
    certificate(here, days=(ends - NOW).days)
    (warning,) = here.service.reports.status(ROOT).warnings
    assert words in warning and "; seal a new one: 'provision credential set node1 tls" in warning
    assert here.service.media.plan("node1", Medium.ISO, ROOT)


def test_a_store_that_cannot_be_read_keeps_nobody_from_the_status(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise Unavailable("database", "cannot be read", "look at the disk")

    monkeypatch.setattr(here.service.core.store.credentials, "ages", broken)
    assert here.service.reports.status(ROOT).warnings == ()
    assert here.service.expiries.oldest_keytab() is None and here.service.metrics.text()


def test_a_row_that_makes_no_sense_keeps_nobody_from_the_status(here: Site) -> None:
    certificate(here)
    with raw(here.state) as connection:
        connection.execute("UPDATE credentials SET not_after = 1")
    assert here.service.reports.status(ROOT).warnings == ()
    assert here.service.core.store.database.distrust, "something else has written it"
