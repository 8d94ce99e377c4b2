"""Kerberos as operators use it: tickets of a real KDC, and curl."""

from __future__ import annotations

import json

import pytest

from tests.helpers.cli_runner import cli
from tests.helpers.kdc import Realm
from tests.helpers.kerberos_site import KerberosSite
from tests.helpers.site_fixture import CANARY

JSON = ("--header", "Content-Type: application/json", "--data")


def test_a_ticket_is_somebody(site: KerberosSite, here: Realm) -> None:
    status, header, body = site.curl(here.kinit("alice"), "/v1/principal")
    assert status == 200, (header, body)
    told = json.loads(body)
    assert (told["name"], told["role"], told["authentication"]) == ("alice@EXAMPLE.TEST", "admin", "kerberos")
    assert told["expires"] is not None
    assert "www-authenticate: negotiate " in header, "the server has to prove who it is, too"
    assert CANARY in site.curl(here.kinit("alice"), "/v1/hosts/node1/iso")[2]


@pytest.mark.parametrize(
    ("user", "role", "selector"),
    [("bob", "operator", {"rack": "b"}), ("carol", "reader", {}), ("dora/admin", "admin", {})],
)
def test_the_first_block_that_means_a_principal_counts(
    site: KerberosSite, here: Realm, user: str, role: str, selector: dict[str, str]
) -> None:
    told = json.loads(site.curl(here.kinit(user), "/v1/principal")[2])
    assert (told["name"], told["role"], told["selector"]) == (f"{user}@EXAMPLE.TEST", role, selector)


def test_a_role_bounds_what_a_ticket_is_good_for(site: KerberosSite, here: Realm) -> None:
    carol, bob = here.kinit("carol"), here.kinit("bob")
    assert site.curl(carol, "/v1/hosts/node1")[0] == 200
    refused = site.curl(carol, "/v1/hosts/node1/iso")
    assert refused[0] == 403 and CANARY not in refused[2]
    assert site.curl(bob, "/v1/hosts/node1/iso")[0] == 404, "it is in another rack"
    assert site.curl(bob, "/v1/hosts/node1/iso")[2] == site.curl(bob, "/v1/hosts/node9/iso")[2].replace(
        b"node9", b"node1"
    )


def test_who_has_no_role_learns_that_and_nothing_else(site: KerberosSite, here: Realm) -> None:
    here.keytab(here.directory / "host.keytab", "host/localhost")
    machine = here.kinit("host/localhost", "-k", "-t", str(here.directory / "host.keytab"))
    paths = ("/v1/hosts/node1", "/v1/hosts/node9", "/v1/tokens", "/v1/nothing")
    ((status, body),) = {(found[0], found[2]) for path in paths if (found := site.curl(machine, path))}
    assert status == 403 and json.loads(body)["fact"] == "has no role on this server"
    assert "host/localhost@EXAMPLE.TEST has no role" in (site.site.state / "audit.log").read_text()


def test_a_request_with_a_body_is_one_request(site: KerberosSite, here: Realm) -> None:
    """It is authenticated before and behind its body; its token would be a replay of itself."""
    alice = here.kinit("alice")
    status, _, body = site.curl(alice, "/v1/hosts/node1/links", *JSON, '{"medium": "iso"}')
    assert status == 200, body
    lines = (site.site.state / "audit.log").read_text().splitlines()
    (entry,) = [entry for line in lines if (entry := json.loads(line))["event"] == "link-made"]
    assert (entry["operator"], entry["link"]) == ("alice@EXAMPLE.TEST", json.loads(body)["id"])


def test_a_stranger_hears_of_both_ways(site: KerberosSite, here: Realm) -> None:
    status, body = site.site.curl("/v1/hosts", "--include", known=False)
    told = [line.lower() for line in body.splitlines() if line.lower().startswith(b"www-authenticate")]
    assert status == 401 and told == [b'www-authenticate: bearer realm="provision"', b"www-authenticate: negotiate"]
    assert site.site.curl("/v1/hosts")[0] == 200, "tokens are as good as before"


def test_curl_that_asks_first_is_answered(site: KerberosSite, here: Realm) -> None:
    assert site.curl(here.kinit("alice"), "/v1/hosts", "--anyauth")[0] == 200


def test_a_link_needs_no_ticket(site: KerberosSite, here: Realm) -> None:
    """And one that is shown beside it changes nothing."""
    made = cli(site.site.state, "link", "node1", "--json").json
    path = made["urls"][0].partition(str(site.site.port))[2]
    assert CANARY in site.curl(here.environment("stranger"), path, "--header", "Authorization: Negotiate AAAA")[2]
