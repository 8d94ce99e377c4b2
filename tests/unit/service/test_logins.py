"""Who asks from elsewhere: a good token always, everybody else never, and not too often."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from provision.api.tokens import NewToken
from provision.errors import ProvisionError, TooMany, Unauthenticated, Unavailable
from provision.policy import Ground
from provision.principal import PrincipalRole
from provision.service.footing import Footing
from provision.service.guesses import AT_ONCE as TRIES
from provision.service.guesses import Guesses
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, site

PEER = "192.0.2.7"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def made(here: Site, name: str = "ci", role: PrincipalRole = PrincipalRole.READER, days: int = 1) -> bytes:
    created = here.service.tokens.create(NewToken(name=name, role=role, days=days), ROOT)
    return created.token.encode()


def refused(here: Site, shown: bytes | None, peer: str = PEER) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        here.service.logins.by_token(shown, peer)
    return caught.value


def test_a_good_token_is_somebody_until_it_expires(here: Site) -> None:
    shown = made(here)
    assert here.service.logins.by_token(shown, PEER).name == "token:ci"
    (row,) = here.service.tokens.listing()
    assert row.good and row.used == here.clock().isoformat()
    here.clock.advance(days=1)
    assert isinstance(refused(here, shown), Unauthenticated)
    (row,) = here.service.tokens.listing()
    assert not row.good


def test_all_that_is_not_good_gets_the_same_answer(here: Site) -> None:
    gone, expired = made(here, "gone"), made(here, "expired")
    here.service.tokens.revoke("gone", ROOT)
    here.clock.advance(days=2)
    other = b"provision_" + b"a" * 43
    answers = {str(refused(here, shown)) for shown in (None, b"", b"x", other, gone, expired, other + b"\0")}
    assert len(answers) == 1


def test_who_fails_too_often_waits_and_keeps_nobody_else_out(here: Site) -> None:
    shown, moment = made(here), 1000.0
    here.service.logins._guesses = Guesses(lambda: moment)
    errors = [refused(here, None) for _ in range(TRIES + 2)]
    assert [type(error) for error in errors] == [Unauthenticated] * TRIES + [TooMany] * 2
    assert isinstance(errors[-1], TooMany) and 1 <= errors[-1].seconds <= 61
    assert here.service.logins.by_token(shown, PEER).name == "token:ci"
    assert isinstance(refused(here, None, "192.0.2.8"), Unauthenticated)
    moment += 60
    assert isinstance(refused(here, None), Unauthenticated)


def test_a_whole_ipv6_network_is_one_peer(here: Site) -> None:
    for number in range(TRIES):
        refused(here, None, f"2001:db8::{number:x}")
    assert isinstance(refused(here, None, "2001:db8::ffff"), TooMany)
    assert isinstance(refused(here, None, "2001:db8:0:1::1"), Unauthenticated)
    assert {entry["address"] for entry in here.audit("login-failed")} == {"2001:db8::/64", "2001:db8:0:1::/64"}


def test_what_failed_is_in_the_log_and_counted(here: Site) -> None:
    shown = b"provision_" + b"s" * 43
    for _ in range(5):
        refused(here, shown)
    here.clock.advance(minutes=2)
    here.service.core.tick()
    entry, count = here.audit("login-failed")
    assert (entry["address"], entry["channel"]) == (count["address"], count["channel"]) == (PEER, "api")
    text = (here.state / "audit.log").read_bytes()
    assert b'"count":4' in text and shown not in text


def test_many_peers_cannot_fill_the_log(here: Site) -> None:
    for number in range(600):
        refused(here, None, f"10.{number >> 8}.{number & 255}.1")
    entries = here.audit("login-failed")
    assert len([entry for entry in entries if "address" in entry]) == 256 and len(entries) <= 258


@pytest.mark.parametrize("ground", [Ground(distrust="is older"), Ground(behind=timedelta(days=1))])
def test_nobody_is_known_while_store_or_clock_are_not_believed(
    here: Site, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = made(here)
    monkeypatch.setattr(Footing, "ground", ground)
    error = refused(here, shown)
    assert isinstance(error, Unavailable) and "older" not in str(error)
