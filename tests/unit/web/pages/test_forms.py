"""Forms: from our own pages and of the same session, or refused before anything happens."""

from __future__ import annotations

import pytest

from provision.errors import Invalid
from provision.principal import PrincipalRole
from provision.web.pages.forms import from_here, parse
from tests.helpers.browser import HOST, OURS, Browser, logged_in, pages_of, token
from tests.helpers.site_fixture import Site, request

ELSEWHERE = [
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {"sec-fetch-site": "same-site", "origin": "https://other.example.test"},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
    {"sec-fetch-site": "cross-site", "origin": f"https://{HOST}"},
    {"sec-fetch-site": "cross-site", "origin": "null"},
]
WITHOUT_METADATA = [{"origin": "null"}, {"origin": f"http://{HOST}"}, {"origin": "https://prov.example.test"}, {}]


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_what_another_site_sends_does_nothing(here: Site, headers: dict[str, str]) -> None:
    browser = logged_in(here)
    reply = browser.post("/hosts/node1/window", headers)
    assert reply.status == 403 and b"was not sent by a page of this server" in reply.body
    assert here.audit("window-opened") == []


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_nobody_is_logged_in_by_another_site(here: Site, headers: dict[str, str]) -> None:
    browser = Browser(pages_of(here))
    reply = browser.post("/login", headers, token=token(here))
    assert reply.status == 403 and "set-cookie" not in reply.headers


@pytest.mark.parametrize("headers", WITHOUT_METADATA)
def test_an_old_browser_says_where_it_is_from(headers: dict[str, str]) -> None:
    assert not from_here({"host": HOST, **headers})
    assert from_here({"host": HOST, "origin": f"https://{HOST}"})


def test_a_browser_that_names_no_origin_says_that_it_is_the_same() -> None:
    assert from_here({"host": HOST, "origin": "null", "sec-fetch-site": "same-origin"})
    assert from_here({"host": HOST, "sec-fetch-site": "same-origin"})


def test_a_form_belongs_to_its_session(here: Site) -> None:
    app = pages_of(here)
    one, other = logged_in(here, app=app), logged_in(here, PrincipalRole.OPERATOR, app)
    assert one.key != other.key
    for key in ("", "0" * 64, other.key, one.key.upper(), "\x00", "é"):
        reply = one.post("/hosts/node1/window", key=key)
        assert reply.status == 403 and b"does not belong to this session" in reply.body, key
    assert here.audit("window-opened") == []
    assert one.post("/hosts/node1/window").status == 303


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_nothing_but_a_form(here: Site, kind: str) -> None:
    reply = logged_in(here).post("/hosts/node1/window", {"content-type": kind})
    assert reply.status == 422 and here.audit("window-opened") == []


def test_a_form_is_read() -> None:
    assert parse(b"") == {}
    assert parse(b"a=1&b=&c=%C3%A9+x") == {"a": "1", "b": "", "c": "é x"}


@pytest.mark.parametrize("body", [b"a=1&a=2", b"a", b"\xff=1", b"a=%FF", b"&".join(b"f%d=1" % n for n in range(300))])
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        parse(body)
    assert "f1" not in str(caught.value)


def test_a_large_body_is_not_read(here: Site) -> None:
    browser = Browser(pages_of(here), headers={**OURS, "content-length": str(5 << 20)})
    assert browser.post("/login", token="x" * 5000).status == 413


def test_other_methods_do_nothing(here: Site) -> None:
    browser = logged_in(here)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        headers = {**OURS, "cookie": browser.cookie}
        assert request(browser.app, method, "/hosts/node1/window", headers=headers).status == 403
