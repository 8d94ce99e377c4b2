"""Attacks on logins by Kerberos: tokens of others, of other realms and services, forged, replayed, and by browsers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from provision import clock, gssapi
from provision.service.guesses import AT_ONCE as TRIES
from provision.service.tickets import REPLAYS
from provision.tls.context import load
from tests.helpers.kdc import Realm, realm, token
from tests.helpers.kerberos_site import SERVER, KerberosSite, kerberos_site, shown
from tests.helpers.serving import serve
from tests.helpers.site_fixture import CANARY

ISO = "/v1/hosts/node1/iso"
SKEW = 5
REFUSED = (401, 429)
"""After some failures of one address within a minute it is 429."""


def test_a_token_is_good_once(site: KerberosSite, here: Realm) -> None:
    seen = token(here.kinit("alice"))
    assert site.send(seen)[0] == 200
    for _ in range(2):
        status, body = site.send(seen, ISO)
        assert status in REFUSED and CANARY not in body
    replays = site.site.state / REPLAYS
    assert replays.stat().st_mode & 0o077 == 0


def test_a_token_is_good_once_whatever_is_restarted(tmp_path: Path) -> None:
    with realm(tmp_path / "realm") as here:
        here.add("alice")
        with kerberos_site(tmp_path, here) as (site, _):
            seen = token(here.kinit("alice"))
            assert site.send(seen)[0] == 200
        with serve(site.site.state, prefix=("env", f"KRB5_CONFIG={here.environment()['KRB5_CONFIG']}")) as served:
            served.wait_for("serving the operators' API at")
            assert site.send(seen, ISO)[0] == 401
            assert site.send(token(here.kinit("alice")))[0] == 200


def test_a_connection_is_nobody(site: KerberosSite, here: Realm) -> None:
    """Only the request is somebody that shows a token: the next one on its connection is a stranger's."""
    common = ["--silent", "--max-time", "60", "--cacert", str(site.site.ca), "--output", "/dev/null"]
    common += ["--write-out", "%{http_code} %{num_connects}\n", f"{site.url}/v1/principal"]
    argv = ["curl", *common, "--header", shown(token(here.kinit("alice"))), "--next", *common]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=90)
    first, second = ran.stdout.splitlines()
    assert first == "200 1" and second in ("401 0", "429 0")


@pytest.mark.parametrize(
    "forged",
    [
        b"",
        b"x" * 100,
        b"NTLMSSP\0\x01\0\0\0" + b"\0" * 32,
        bytes.fromhex(
            "6028 0606 2b0601050502 a01e 301c a01a 3018 060a 2b06010401823702020a 060a 2b06010401823702021e".replace(
                " ", ""
            )
        ),
        bytes.fromhex("60820010") + b"\x06\x06+\x06\x01\x05\x05\x02" + b"\xa0\x84\xff\xff\xff\xff",
        bytes.fromhex("a1073005a003 0a0100".replace(" ", "")),
    ],
    ids=["nothing", "garbage", "NTLM", "SPNEGO with NTLM", "a length that is not", "a second leg"],
)
def test_what_is_forged_is_nobody(site: KerberosSite, forged: bytes) -> None:
    assert site.send(forged, ISO)[0] in REFUSED


@pytest.mark.parametrize(
    "text", ["Negotiate", "Negotiate ", "Negotiate =", "Negotiate \xff", "Negotiate AAAA AAAA", "NTLM AAAA"]
)
def test_what_is_no_token_is_nobody(site: KerberosSite, text: str) -> None:
    assert site.site.curl(ISO, "--header", f"Authorization: {text}", known=False)[0] in REFUSED


def test_a_changed_or_cut_token_is_nobody(site: KerberosSite, here: Realm) -> None:
    good = token(here.kinit("alice"))
    for back in (1, 50, 100, 300, 400, 500):  # in what is encrypted, of the client and of the KDC
        changed = bytearray(good)
        changed[-back] ^= 1
        assert site.send(bytes(changed), ISO)[0] in REFUSED
        assert site.send(good[:-back], ISO)[0] in REFUSED
    assert site.send(good)[0] == 200


def test_kerberos_without_spnego_is_nobody(site: KerberosSite, here: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gssapi, "_SPNEGO", gssapi._KRB5)
    raw = token(here.kinit("alice"))
    assert gssapi._KRB5 in raw[:20] and site.send(raw, ISO)[0] in REFUSED


def test_windows_has_another_name_for_kerberos(site: KerberosSite, here: Realm) -> None:
    named = token(here.kinit("alice")).replace(gssapi._KRB5, gssapi._KRB5_OF_WINDOWS, 1)
    assert site.send(named)[0] == 200


def test_a_ticket_for_another_service_is_nobody(
    site: KerberosSite, here: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with its key in the same file, and with what it says in clear of its service written anew."""
    here.keytab(site.keytab, "host/localhost")
    alice = here.kinit("alice")
    assert site.send(token(alice))[0] == 200
    monkeypatch.setattr(gssapi, "SERVICE", "host")
    for name in (b"host", b"HTTP"):
        changed = token(alice).replace(b"host", name)
        assert name in changed and site.send(changed, ISO)[0] in REFUSED


def test_a_header_that_is_too_long(site: KerberosSite) -> None:
    assert site.send(b"\x60" + b"x" * 49_000, ISO)[0] in REFUSED
    assert site.send(b"\x60" + b"x" * 70_000, ISO)[0] == 431


def test_two_credentials_are_none(site: KerberosSite, here: Realm) -> None:
    good = token(here.kinit("alice"))
    assert site.send(good, ISO, "--header", shown(good))[0] in REFUSED
    assert site.send(good, ISO, "--header", site.site.header)[0] in REFUSED


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: https://evil.example",),
        ("Origin: null",),
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),
        ("Origin: https://localhost", "Sec-Fetch-Site: same-origin"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_elsewhere_has_no_use_of_a_browsers_ticket(
    site: KerberosSite, here: Realm, headers: tuple[str, ...], method: str
) -> None:
    alice = here.kinit("alice")
    sent = [part for header in headers for part in ("--header", header)]
    if method == "POST":
        sent += ["--header", "Content-Type: application/json", "--data", '{"medium": "iso"}']
    status, _, body = site.curl(alice, "/v1/hosts/node1/links" if method == "POST" else ISO, *sent)
    assert status == 403 and "no page of this server" in json.loads(body)["fact"]


@pytest.mark.parametrize("sent", [(), ("--data", "{}")])
def test_nobody_has_typed_an_address_for_sure(site: KerberosSite, here: Realm, sent: tuple[str, ...]) -> None:
    """A browser that another site has sent on to here says the same, when that one's address was typed or in a mail."""
    path = "/v1/hosts/node1/links" if sent else ISO
    status, _, body = site.curl(here.kinit("alice"), path, "--header", "Sec-Fetch-Site: none", *sent)
    assert status == 403 and CANARY not in body


def test_a_token_that_is_bound_to_a_channel(site: KerberosSite, here: Realm) -> None:
    """To that of this server, by either of its certificates; and to no other."""
    alice, tls = here.kinit("alice"), site.site.state / "tls"
    pairs = [(tls / f"{name}.pem", tls / f"{name}.key") for name in ("server", "firmware")]
    own = load(pairs).context.channels
    assert len(own) == 2
    for one in own:
        assert site.send(token(alice, channel=one))[0] == 200
    seen = token(alice, channel=own[1])
    assert site.send(seen)[0] == 200 and site.send(seen)[0] in REFUSED, (
        "the second try of a channel is no replay, and leaves none"
    )
    assert site.send(token(alice, channel=own[0][:-1] + b"!"), ISO)[0] in REFUSED


def test_delegated_tickets_are_not_kept(site: KerberosSite, here: Realm) -> None:
    before = {path.name for path in Path("/tmp").glob("krb5cc_*")}
    assert site.curl(here.kinit("alice", "-f"), "/v1/principal", "--delegation", "always")[0] == 200
    assert {path.name for path in Path("/tmp").glob("krb5cc_*")} == before


def test_who_fails_too_often_waits_and_a_good_ticket_does_not(site: KerberosSite, here: Realm) -> None:
    answers = [site.send(b"x")[0] for _ in range(TRIES + 1)]
    assert answers[-1] == 429 and site.send(token(here.kinit("alice")))[0] == 200
    entries = (site.site.state / "audit.log").read_text()
    assert '"reason":"no valid Kerberos ticket"' in entries.replace(": ", ":")


def test_a_new_key_counts_at_once_and_an_old_ticket_no_more(tmp_path: Path) -> None:
    with realm(tmp_path / "realm") as here, kerberos_site(tmp_path, here) as (site, _):
        here.add("alice")
        alice = here.kinit("alice")
        assert site.curl(alice, "/v1/principal")[0] == 200
        site.keytab.unlink()
        assert site.curl(alice, "/v1/principal")[0] == 503
        here.keytab(site.keytab, SERVER)
        assert site.curl(alice, ISO)[0] in REFUSED, "its ticket is by the key that is gone"
        assert site.curl(here.kinit("alice"), "/v1/principal")[0] == 200
        site.keytab.chmod(0o644)
        status, _, body = site.curl(here.kinit("alice"), "/v1/principal")
        assert status == 503 and b"keytab" not in body
        (warning,) = json.loads(site.site.curl("/v1/health")[1])["warnings"]
        assert "others may read or write the keytab (mode 0644)" in warning
        site.keytab.chmod(0o600)
        assert site.curl(here.kinit("alice"), "/v1/principal")[0] == 200


def test_a_server_that_is_told_nothing_of_a_realm(tmp_path: Path) -> None:
    """All that it goes by is its keytab, so there is no file for others to change."""
    with (
        realm(tmp_path / "realm") as here,
        kerberos_site(tmp_path, here, configuration="/nonexistent/krb5.conf") as (site, _),
    ):
        here.add("alice")
        assert site.curl(here.kinit("alice"), "/v1/principal")[0] == 200


def test_a_realm_that_is_not_trusted(here: Realm, site: KerberosSite, tmp_path: Path) -> None:
    """It has an alice and an HTTP/localhost too; what is in the token about its realm is encrypted by another key."""
    for name in ("EVIL.TEST", here.name):
        with realm(tmp_path / name, name) as other:
            other.add("alice", SERVER)
            assert site.send(token(other.kinit("alice")), ISO)[0] in REFUSED


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Realm, KerberosSite]]:
    """A realm in which clocks may differ by a few seconds only."""
    with realm(tmp_path_factory.mktemp("strict"), skew=SKEW) as made:
        made.add("alice")
        with kerberos_site(tmp_path_factory.mktemp("site"), made) as (site, _):
            yield made, site


def pass_by(moment: datetime) -> None:
    """Let the time come: Kerberos goes by the machine's clock."""
    while (left := (moment - clock.now()).total_seconds()) > 0:
        time.sleep(left)


def test_a_ticket_ends(strict: tuple[Realm, KerberosSite]) -> None:
    here, site = strict
    alice = here.kinit("alice", "-l", "10s")
    told = json.loads(site.curl(alice, "/v1/principal")[2])
    assert told["name"] == "alice@EXAMPLE.TEST"
    held, expires = token(alice), datetime.fromisoformat(told["expires"])
    assert clock.now() < expires < clock.now() + timedelta(seconds=11 + SKEW)
    pass_by(expires + timedelta(seconds=1))
    status, body = site.send(held, ISO)
    assert status == 401 and CANARY not in body
    assert site.curl(alice, ISO)[0] == 401, "curl has nothing to show any more"


def test_a_token_of_another_time(strict: tuple[Realm, KerberosSite]) -> None:
    """Its ticket is good for long; who has seen the token cannot keep it."""
    here, site = strict
    held = token(here.kinit("alice"))
    pass_by(clock.now() + timedelta(seconds=SKEW + 2))
    status, body = site.send(held, ISO)
    assert status == 401 and b"set the clock" in body
