"""Logging in at the web page by a ticket: a session like any other, and only from a page of this server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import pytest

from tests.helpers.kdc import Realm
from tests.helpers.kerberos_site import KerberosSite


def post(site: KerberosSite, user: Mapping[str, str], *arguments: str) -> tuple[int, str, bytes]:
    """Send the form from a page of the server itself."""
    ours = ("--header", f"Origin: {site.url}", "--header", "Sec-Fetch-Site: same-origin", "--data", "")
    return site.curl(user, "/login/ticket", *ours, *arguments)


def test_a_session_by_a_ticket(site: KerberosSite, here: Realm) -> None:
    assert b"Log in with a Kerberos ticket" in site.site.curl("/login")[1]
    status, header, _ = post(site, here.kinit("carol"), "--anyauth")
    assert status == 303 and "location: /hosts" in header and "www-authenticate: negotiate " in header
    assert header.count("set-cookie: __host-provision=") == 1 and "samesite=strict" in header


def test_the_session_is_good_without_a_ticket(site: KerberosSite, here: Realm) -> None:
    jar = here.directory / "jar"
    assert post(site, here.kinit("carol"), "--cookie-jar", str(jar))[0] == 303
    argv = ["curl", "--silent", "--cacert", str(site.site.ca), "--cookie", str(jar), f"{site.url}/hosts"]
    page = subprocess.run(argv, capture_output=True, timeout=90, env=os.environ | here.environment("stranger")).stdout
    assert b"node1" in page and b"carol@EXAMPLE.TEST" in page
    assert b'"operator":"carol@EXAMPLE.TEST"' in (site.site.state / "audit.log").read_bytes().replace(b'": "', b'":"')


def test_a_browser_without_a_ticket_is_told_so(site: KerberosSite, here: Realm) -> None:
    ours = ("--header", f"Origin: {site.site.url}", "--data", "")
    status, body = site.site.curl("/login/ticket", "--include", *ours, known=False)
    assert status == 401 and b"www-authenticate: negotiate\r\n" in body.lower() and b"shown no Kerberos ticket" in body
    assert b"set-cookie" not in body.lower()


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"),
        ("Origin: null", "Sec-Fetch-Site: cross-site"),
        ("Origin: https://evil.example",),
        (),
    ],
)
def test_no_other_site_logs_a_browser_in(site: KerberosSite, here: Realm, headers: tuple[str, ...]) -> None:
    sent = [part for header in headers for part in ("--header", header)]
    status, header, _ = site.curl(here.kinit("alice"), "/login/ticket", "--data", "", *sent)
    assert status == 403 and "set-cookie" not in header


def test_pages_know_no_ticket_but_in_the_form(site: KerberosSite, here: Realm) -> None:
    for path in ("/hosts", "/hosts/node1/media/iso"):
        status, header, body = site.curl(here.kinit("alice"), path)
        assert status == 303 and "location: /login" in header and b"node1" not in body


def test_who_has_no_role_has_no_session(site: KerberosSite, here: Realm) -> None:
    here.keytab(here.directory / "host.keytab", "host/localhost")
    machine = here.kinit("host/localhost", "-k", "-t", str(here.directory / "host.keytab"))
    status, header, body = post(site, machine)
    assert status == 403 and "set-cookie" not in header and b"has no role on this server" in body
