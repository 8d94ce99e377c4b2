"""Sessions of browsers: as good as their tokens, not for ever, and gone with the process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from provision.errors import TooMany, Unauthenticated, Unavailable
from provision.policy import Ground
from provision.principal import PrincipalRole
from provision.service import sessions
from provision.service.footing import Footing
from provision.service.guesses import AT_ONCE as TRIES
from provision.service.sessions import STREAMS, Sessions, parse
from provision.ticket import Ticket
from tests.helpers.browser import token
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, site

PEER = "192.0.2.7"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def begun(here: Site, name: str = "ci", **wanted: int) -> bytes:
    shown = token(here, name, PrincipalRole.READER, **wanted)
    return here.service.sessions.begin(shown.encode(), PEER).reveal()


def test_a_session_is_whom_its_token_is(here: Site) -> None:
    cookie = begun(here)
    assert parse(cookie) == cookie and cookie != begun(here, "other")
    found = here.service.sessions.find(cookie, PEER)
    assert (found.name, found.role) == ("token:ci", PrincipalRole.READER)
    assert here.service.sessions.lives(cookie)
    (entry, _) = here.audit("login")
    assert (entry["operator"], entry["address"], entry["channel"]) == ("token:ci", PEER, "api")


def test_a_wrong_token_begins_nothing_and_is_recorded(here: Site) -> None:
    with pytest.raises(Unauthenticated):
        here.service.sessions.begin(b"provision_" + b"A" * 43, PEER)
    assert here.audit("login") == []
    here.clock.advance(minutes=2)
    assert here.audit("login-failed")


def test_what_cannot_be_recorded_begins_nothing(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = token(here).encode()

    def full(*_: object, **__: object) -> int:
        raise Unavailable("audit.log", "the audit log cannot be written", "make room")

    monkeypatch.setattr(here.service.core.audit, "record", full)
    with pytest.raises(Unavailable):
        here.service.sessions.begin(shown, PEER)
    assert here.service.sessions._sessions == {}


def test_a_session_ends_with_its_token(here: Site) -> None:
    cookie = begun(here)
    here.service.tokens.revoke("ci", ROOT)
    assert not here.service.sessions.lives(cookie)
    with pytest.raises(Unauthenticated, match="has ended"):
        here.service.sessions.find(cookie, PEER)


def test_a_token_of_the_same_name_is_another(here: Site) -> None:
    cookie = begun(here)
    here.service.tokens.revoke("ci", ROOT)
    here.clock.advance(minutes=1)
    token(here, "ci", PrincipalRole.ADMIN)
    with pytest.raises(Unauthenticated):
        here.service.sessions.find(cookie, PEER)


def test_a_session_ends_when_nobody_is_there(here: Site) -> None:
    cookie = begun(here)
    for _ in range(3):
        here.clock.advance(minutes=59)
        here.service.sessions.find(cookie, PEER)
    here.clock.advance(minutes=59)
    assert here.service.sessions.lives(cookie), "looking at it does not keep it"
    here.clock.advance(minutes=1)
    assert not here.service.sessions.lives(cookie)
    with pytest.raises(Unauthenticated):
        here.service.sessions.find(cookie, PEER)


def test_a_session_ends_after_half_a_day(here: Site) -> None:
    cookie = begun(here)
    for _ in range(15):
        here.clock.advance(minutes=48)
        assert here.service.sessions.lives(cookie) is (_ < 14)
        if _ < 14:
            here.service.sessions.find(cookie, PEER)


def test_a_session_ends_when_its_token_expires(here: Site) -> None:
    shown = token(here, "short", PrincipalRole.READER, days=1)
    here.clock.advance(hours=23, minutes=30)
    cookie = here.service.sessions.begin(shown.encode(), PEER).reveal()
    here.clock.advance(minutes=29)
    assert here.service.sessions.lives(cookie)
    here.clock.advance(minutes=1)
    assert not here.service.sessions.lives(cookie)


def test_logging_out_ends_it(here: Site) -> None:
    cookie, other = begun(here), begun(here, "other")
    here.service.sessions.end(cookie, ROOT)
    here.service.sessions.end(cookie, ROOT)
    assert not here.service.sessions.lives(cookie) and here.service.sessions.lives(other)
    assert len(here.audit("logout")) == 1
    here.service.sessions.close()
    assert not here.service.sessions.lives(other)


def test_cookies_are_guessed_as_slowly_as_tokens(here: Site) -> None:
    for _ in range(TRIES):
        with pytest.raises(Unauthenticated):
            here.service.sessions.find(b"A" * 43, PEER)
    with pytest.raises(TooMany):
        here.service.sessions.find(b"A" * 43, PEER)
    with pytest.raises(Unauthenticated):
        here.service.sessions.find(None, PEER)  # which is nobody's guess


def test_another_process_knows_none_of_them(here: Site) -> None:
    cookie = begun(here)
    again = Sessions(here.service.core, here.service.logins)
    assert not again.lives(cookie) and again.form_key(cookie) != here.service.sessions.form_key(cookie)


def test_no_session_is_good_while_the_store_is_not_believed(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = begun(here)
    monkeypatch.setattr(Footing, "ground", property(lambda _: Ground(distrust="is older")))
    assert not here.service.sessions.lives(cookie)
    with pytest.raises(Unavailable):
        here.service.sessions.find(cookie, PEER)


def test_of_too_many_the_one_that_was_idle_longest_ends(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    first, second = begun(here, "a"), begun(here, "b")
    here.service.sessions.find(first, PEER)
    third = begun(here, "c")
    assert [here.service.sessions.lives(cookie) for cookie in (first, second, third)] == [True, False, True]


def test_nobody_ends_the_sessions_of_others_by_logging_in_again(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 4)
    monkeypatch.setattr(sessions, "OF_ONE", 2)
    other, shown = begun(here, "other"), token(here, "ci", PrincipalRole.READER).encode()
    own = [here.service.sessions.begin(shown, PEER).reveal() for _ in range(5)]
    assert here.service.sessions.lives(other)
    assert [here.service.sessions.lives(cookie) for cookie in own] == [False, False, False, True, True]


def test_streams_of_a_session_are_bounded(here: Site) -> None:
    cookie, other = begun(here), begun(here, "other")
    found = [here.service.sessions.stream(cookie) for _ in range(STREAMS)]
    for stream in found:
        stream.__enter__()
    with pytest.raises(TooMany), here.service.sessions.stream(cookie):
        pass
    with here.service.sessions.stream(other):
        pass
    found[0].__exit__(None, None, None)
    with here.service.sessions.stream(cookie):
        pass


@pytest.mark.parametrize("text", [b"", b"A" * 42, b"A" * 44, b"A" * 42 + b"\n", b"A" * 42 + b"=", b'"' + b"A" * 42])
def test_what_is_no_cookie(text: bytes) -> None:
    assert parse(text) is None


def test_what_is_kept_is_no_cookie(here: Site) -> None:
    cookie = begun(here)
    assert cookie not in repr(here.service.sessions.__dict__).encode()
    assert here.service.sessions.form_key(cookie) != here.service.sessions._digest(cookie).hex()


def test_a_session_by_a_ticket_ends_with_it(here: Site) -> None:
    ticket = Ticket("alice@EXAMPLE.TEST", PrincipalRole.OPERATOR, (), here.clock() + timedelta(minutes=50))
    cookie = here.service.sessions.begin_by(ticket, PEER).reveal()
    assert here.service.sessions.find(cookie, PEER) == ticket.principal
    (entry,) = here.audit("login")
    assert (entry["operator"], entry["address"]) == ("alice@EXAMPLE.TEST", PEER)
    here.clock.advance(minutes=49)
    assert here.service.sessions.lives(cookie)
    here.clock.advance(minutes=1)
    assert not here.service.sessions.lives(cookie)
    with pytest.raises(Unauthenticated):
        here.service.sessions.find(cookie, PEER)
