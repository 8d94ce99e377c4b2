"""The command line with a Kerberos ticket instead of a token."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from provision import gssapi
from provision.cli.ticket import ByTicket
from provision.errors import Denied, Exit
from tests.helpers.cli_runner import Ran, failed, good, run
from tests.helpers.kdc import Realm, environment
from tests.helpers.kerberos_site import KerberosSite
from tests.helpers.site_fixture import CANARY


@pytest.fixture
def laptop(tmp_path: Path, here: Realm, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on another machine, where nobody has a ticket."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**here.environment("stranger"), "XDG_CONFIG_HOME": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def login(site: KerberosSite, *arguments: str | Path, url: str = "") -> Ran:
    return run("--server", url or site.url, "login", "--kerberos", "--ca", site.site.ca, *arguments)


def test_a_login_by_ticket_keeps_no_token(site: KerberosSite, here: Realm, laptop: Path) -> None:
    with environment(here.kinit("alice")):
        ran = good(login(site))
        assert ran.out.startswith(f"{site.url}: logged in as alice@EXAMPLE.TEST, role admin, until 20")
        assert '"token": null' in (laptop / "config/provision/servers.json").read_text()
        assert "node1" in good(run("--server", site.url, "host", "list")).out
        good(run("--server", site.url, "iso", "node1", "-o", "node1.iso"))
        assert CANARY in (laptop / "node1.iso").read_bytes()
        (laptop / "site.yaml").write_bytes(b"hosts: {}\n")
        assert run("--server", site.url, "apply", "--dry-run", "site.yaml").code in (Exit.OK, Exit.INVALID)
    assert good(run("--server", site.url, "logout")).out == (
        f"{site.url}: forgot its CA; your Kerberos ticket is good until it expires (see kdestroy)\n"
    )


def test_without_a_ticket_one_is_told_what_to_do(site: KerberosSite, laptop: Path) -> None:
    assert failed(login(site), Exit.DENIED) == (
        f"error: {site.url}: you have no Kerberos ticket; run 'kinit', and see 'klist'\n"
    )
    assert not (laptop / "config/provision/servers.json").exists()


def test_a_server_that_kerberos_does_not_know(site: KerberosSite, here: Realm, laptop: Path) -> None:
    with environment(here.kinit("alice")):
        told = failed(login(site, url=site.site.url), Exit.DENIED)
    assert "Kerberos knows no such server" in told and "no IP address" in told


def test_a_realm_that_does_not_answer(site: KerberosSite, here: Realm, laptop: Path) -> None:
    nowhere = laptop / "krb5.conf"
    nowhere.write_text((here.directory / "krb5.conf").read_text().replace(str(here.port), "9"))
    with environment({**here.kinit("carol"), "KRB5_CONFIG": str(nowhere)}):
        assert "no KDC of its realm can be reached" in failed(login(site), Exit.DENIED)


def test_who_has_no_role_is_told_so(site: KerberosSite, here: Realm, laptop: Path) -> None:
    here.keytab(here.directory / "host.keytab", "host/localhost")
    with environment(here.kinit("host/localhost", "-k", "-t", str(here.directory / "host.keytab"))):
        told = failed(login(site), Exit.DENIED)
    assert "host/localhost@EXAMPLE.TEST: has no role on this server" in told


def test_token_and_ticket_are_two_ways(site: KerberosSite, laptop: Path) -> None:
    assert login(site, "--token-file", "token").code == Exit.USAGE


@pytest.mark.parametrize("answer", [None, "Negotiate", "Negotiate AAAA", "Negotiate !", "of another"])
def test_who_does_not_prove_itself_is_not_believed(
    site: KerberosSite, here: Realm, laptop: Path, answer: str | None
) -> None:
    """Although its certificate is good: whoever has taken that away, but not the keytab."""

    def impostor(request: httpx.Request) -> httpx.Response:
        said = answer
        if answer == "of another":
            with gssapi.Initiator("localhost"):
                said = request.headers["authorization"]
        return httpx.Response(200, json={"role": "admin"}, headers={"www-authenticate": said} if said else {})

    with (
        environment(here.kinit("alice")),
        httpx.Client(transport=httpx.MockTransport(impostor), auth=ByTicket(site.url)) as http,
        pytest.raises(Denied, match="it has not proved by Kerberos who it is"),
    ):
        http.get(f"{site.url}/v1/principal")


def test_json(site: KerberosSite, here: Realm, laptop: Path) -> None:
    with environment(here.kinit("bob")):
        told = json.loads(good(login(site, "--json")).out)
    assert (told["name"], told["authentication"], told["selector"]) == ("bob@EXAMPLE.TEST", "kerberos", {"rack": "b"})
