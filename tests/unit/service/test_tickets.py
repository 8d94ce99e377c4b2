"""Who has shown a ticket: by the settings' word, with a keytab that is right, and not too often in vain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from provision import gssapi
from provision.errors import Denied, ProvisionError, TooMany, Unauthenticated, Unavailable
from provision.gssapi import Accepted, Failure
from provision.policy import Ground
from provision.service.footing import Footing
from provision.service.guesses import AT_ONCE as TRIES
from provision.service.tickets import MOST, REPLAYS, Tickets
from provision.store.fields import checked
from provision.ticket import MOST as PRINCIPAL_MOST
from provision.ticket import is_principal
from tests.helpers.site_fixture import Site, site
from tests.helpers.tickets import ANSWER, add_key, kerberos, tickets, write_keytab

PEER = "192.0.2.7"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def refused(found: Tickets, token: bytes = b"t", peer: str = PEER) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        found.accept(token, peer, ())
    return caught.value


def test_a_principal_is_somebody_by_the_settings(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda token: f"{token.decode()}@EXAMPLE.TEST")
    shown = found.accept(b"bob", PEER, ())
    assert shown.answer == ANSWER and ANSWER.decode() not in repr(shown)
    principal = shown.ticket.principal
    assert (principal.name, str(principal.role)) == ("bob@EXAMPLE.TEST", "operator")
    assert principal.selector == (("rack", "b"),)
    assert principal.expires is not None and (principal.expires - here.clock()).seconds == 3600
    assert here.audit("login-failed") == []


def test_it_is_nobody_when_the_ticket_has_expired(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST")
    ticket = found.accept(b"", PEER, ()).ticket
    assert found.still(ticket, PEER) == ticket.principal
    here.clock.advance(hours=1)
    with pytest.raises(Unauthenticated):
        found.still(ticket, PEER)
    assert here.audit("login-failed")


def test_all_failures_look_alike_but_for_a_wrong_clock(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda token: Failure(token.decode()))
    told = {str(refused(found, text)) for text in (b"Ticket expired", b"Request is a replay", b"Wrong principal", b"")}
    assert told == {"request: has no valid Kerberos ticket; run 'kinit', or show a token"}
    assert "set the clock" in str(refused(found, gssapi.SKEW.encode()))


@pytest.mark.parametrize("said", ["No space left on device", "Is a directory (filename: /state/kerberos.replays)"])
def test_a_token_that_cannot_be_remembered_is_nobodys_failure(
    here: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    found = tickets(here, monkeypatch, lambda _: Failure(said))
    for _ in range(TRIES + 1):
        error = refused(found)
        assert isinstance(error, Unavailable) and "filename" not in str(error)
    assert here.audit("login-failed") == [] and said in caplog.text


def test_the_audit_log_has_the_whole_name_of_whoever_has_a_role() -> None:
    longest = "a/b@" + "E" * (PRINCIPAL_MOST - len("a/b@"))
    assert is_principal(longest) and checked({"event": "login", "operator": longest})["operator"] == longest


def test_who_has_no_role_is_told_and_recorded(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda token: token.decode())
    for name in ("host/node1@EXAMPLE.TEST", "eve@EVIL.TEST", "NODE1$@EXAMPLE.TEST", "odd\\@\nname@EXAMPLE.TEST"):
        error = refused(found, name.encode())
        assert isinstance(error, Denied) and (error.fact, error.rule) == ("has no role on this server", "role")
    assert here.audit("login-failed")[0]["reason"] == "host/node1@EXAMPLE.TEST has no role"


def test_who_fails_too_often_waits_and_a_good_ticket_does_not(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda t: Failure("no") if t == b"x" else "alice@EXAMPLE.TEST")
    errors = [refused(found, b"x") for _ in range(TRIES + 1)]
    assert [type(error) for error in errors] == [Unauthenticated] * TRIES + [TooMany]
    assert found.accept(b"good", PEER, ()).ticket.name == "alice@EXAMPLE.TEST"
    entry = here.audit("login-failed")[0]
    assert (entry["address"], entry["channel"], entry["reason"]) == (PEER, "api", "no valid Kerberos ticket")


def test_a_large_token_is_not_looked_at(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST")
    assert isinstance(refused(found, b"x" * (MOST + 1)), Unauthenticated)


def test_too_many_at_a_time_are_not_looked_at(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST")
    places = []
    with pytest.raises(Unavailable, match="too many"):
        for _ in range(1000):
            place = found.place()
            place.__enter__()
            places.append(place)
    assert isinstance(refused(found), Unavailable) and here.audit("login-failed") == []
    places[0].__exit__(None, None, None)
    assert found.accept(b"", PEER, ()).ticket.name == "alice@EXAMPLE.TEST"


def test_each_channel_is_tried_and_only_the_first_leaves_a_trace(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found, tried = tickets(here, monkeypatch, lambda _: ""), list[tuple[Path | None, bytes | None]]()

    def accept(token: bytes, keytab: Path, replays: Path | None, channel: bytes | None) -> Accepted:
        tried.append((replays, channel))
        if token != channel:
            raise Failure("another", is_bound_elsewhere=token != b"broken")
        return Accepted("alice@EXAMPLE.TEST", 1, b"")

    monkeypatch.setattr(gssapi, "accept", accept)
    trace = here.state.absolute() / REPLAYS
    found.accept(b"two", PEER, (b"one", b"two", b"three"))
    assert tried == [(trace, b"one"), (None, b"two")]
    for token, count in ((b"four", 3), (b"broken", 1)):
        tried.clear()
        with pytest.raises(Unauthenticated):
            found.accept(token, PEER, (b"one", b"two", b"three"))
        assert len(tried) == count and [trace for trace, _ in tried[1:] if trace] == []


@pytest.mark.parametrize(
    ("mode", "principal", "told"),
    [
        (0o644, "HTTP/localhost@A", "others may read or write the keytab"),
        (0o660, "HTTP/localhost@A", "others may read or write the keytab"),
        (0o600, "host/localhost@A", "has no key of HTTP/NAME"),
        (0o600, "", "is not a keytab"),
        (None, "", "cannot be read"),
    ],
)
def test_a_keytab_that_is_not_right_lets_nobody_in(
    here: Site, monkeypatch: pytest.MonkeyPatch, mode: int | None, principal: str, told: str
) -> None:
    found, path = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST"), here.state / "http.keytab"
    assert found.warnings() == []
    path.unlink()
    if mode is not None:
        if principal:
            write_keytab(path, principal)
        else:
            path.write_bytes(b"no keytab")
        path.chmod(mode)
    (warning,) = found.warnings()
    assert told in str(warning) and str(path.absolute()) in str(warning)
    error = refused(found)
    assert isinstance(error, Unavailable) and "keytab" not in str(error)
    path.unlink(missing_ok=True)
    write_keytab(path).chmod(0o640)
    assert found.warnings() == [] and found.accept(b"", PEER, ()).ticket.name == "alice@EXAMPLE.TEST"


def test_old_keys_are_told_of_by_the_newest_of_the_service(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found, path = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST"), here.state / "http.keytab"
    assert found.warnings() == [] and found.written() is None, "a keytab need not say when it was written"
    old = here.clock() - timedelta(days=364)
    write_keytab(path, written=int(old.timestamp()))
    add_key(path, "HTTP/localhost@EXAMPLE.TEST", int((old - timedelta(days=900)).timestamp()))
    add_key(path, "host/localhost@EXAMPLE.TEST", int(here.clock().timestamp()))
    assert found.warnings() == [] and found.written() == old
    here.clock.advance(days=1)
    (warning,) = found.warnings()
    assert str(warning).startswith(f"{path.absolute()}: the newest key of HTTP/NAME is 365 days old; export new keys")
    assert found.accept(b"", PEER, ()), "only the realm knows when they end"
    add_key(path, "HTTP/localhost@EXAMPLE.TEST", int(here.clock().timestamp()))
    assert found.warnings() == [] and found.written() == here.clock()


def test_the_file_of_somebody_else(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST")
    path = here.state / "http.keytab"
    os.chown(path, 4711, -1)
    assert "the keytab belongs to user id 4711" in str(found.warnings()[0])
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in str(found.warnings()[0])


@pytest.mark.parametrize("ground", [Ground(distrust="is older")])
def test_nobody_is_known_while_the_store_is_not_believed(
    here: Site, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tickets(here, monkeypatch, lambda _: "alice@EXAMPLE.TEST")
    ticket = found.accept(b"", PEER, ()).ticket
    monkeypatch.setattr(Footing, "ground", ground)
    assert isinstance(refused(found), Unavailable)
    with pytest.raises(Unavailable):
        found.still(ticket, PEER)


def test_a_server_without_the_library_refuses_the_setting(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("libgssapi_krb5.so.2", "the Kerberos library is not installed")

    monkeypatch.setattr(gssapi, "require", missing)
    found = Tickets(here.service.core, here.service.logins, kerberos())
    with pytest.raises(Unavailable, match=r"\[api.kerberos\]: libgssapi_krb5.so.2 is not installed; install it"):
        found.require_library()


def test_a_stranger_cannot_fill_the_services_log(
    here: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = tickets(here, monkeypatch, lambda _: Failure("Request is a replay"))
    for _ in range(20):
        refused(found)
    assert caplog.text.count("a Kerberos ticket was refused: Request is a replay") == 1
