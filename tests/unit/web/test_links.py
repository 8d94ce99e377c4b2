"""Links on both applications: what is served, to whom, and that nothing else is reached by them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from provision.boot import ChannelKind
from provision.errors import Denied
from provision.principal import Principal
from provision.service.guesses import AT_ONCE
from provision.web import boot_app
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from tests.helpers.links import BMC, OTHER, PLAIN, make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, MANAGEMENT, Reply, Site, edge, request, site

SIZE = 640 * 1024


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def nobody(_: Scope) -> Principal:
    raise Denied("request", "nobody is known here", "")


def over_tls(here: Site) -> Guard:
    return operator_app.create(here.service, nobody)


def on_management(here: Site, **fields: Any) -> Guard:
    return boot_app.create(here.service.netboot, edge(replace(PLAIN, **fields)), here.service)


def get(app: Guard, path: str, method: str = "GET", peer: str = BMC, **fields: Any) -> Reply:
    return request(app, method, path, peer=peer, scheme=fields.pop("scheme", "https"), **fields)


@pytest.mark.parametrize("application", [over_tls, on_management])
def test_it_is_downloaded_like_any_file(here: Site, application: Any) -> None:
    app, link = application(here), make(here)
    head = get(app, link.path, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(SIZE))
    assert head.headers["accept-ranges"] == "bytes" and head.headers["content-type"] == "application/octet-stream"
    whole = get(app, link.path)
    assert (whole.status, len(whole.body), whole.headers["cache-control"]) == (200, SIZE, "no-store")
    assert CANARY in whole.body and whole.headers["etag"] == head.headers["etag"]
    part = get(app, link.path, headers={"range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, whole.body[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{SIZE}"
    etag = whole.headers["etag"]
    rest = get(app, link.path, headers={"range": f"bytes={SIZE - 10}-", "if-range": etag})
    assert (rest.status, rest.body) == (206, whole.body[-10:])
    assert get(app, link.path, headers={"range": "bytes=5-", "if-range": '"other"'}).status == 200
    for headers, status in (
        ({"if-none-match": etag}, 304),
        ({"if-match": '"other"'}, 412),
        ({"range": f"bytes={SIZE}-"}, 416),
    ):
        reply = get(app, link.path, headers=headers)
        assert reply.status == status and (status == 304 or reply.problem["status"] == status)


def test_it_takes_no_other_authentication_and_opens_nothing_else(here: Site) -> None:
    app, link = over_tls(here), make(here)
    assert get(app, link.path).status == 200
    for path in ("/v1/hosts/node1/iso", f"{link.path}/../../v1/hosts/node1/iso", "/v1/links", "/b", "/B/x.iso"):
        assert get(app, path).status in (403, 404) and CANARY not in get(app, path).body
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert get(app, link.path, method).problem["status"] == 403, "nobody is known there"


def test_no_link_is_honoured_but_over_tls(here: Site) -> None:
    app, link = over_tls(here), make(here)
    for peer in (BMC, "uid=0"):
        reply = get(app, link.path, scheme="http", peer=peer)
        assert reply.problem["status"] == 403 and CANARY not in reply.body
    forwarded = {"x-forwarded-proto": "https", "forwarded": "proto=https;for=10.0.0.1", "x-forwarded-for": "10.0.0.1"}
    assert get(app, link.path, scheme="http", headers=forwarded).status == 403
    assert here.service.links.listing(ROOT)[0].used == 0


def test_headers_say_nothing_of_who_asks(here: Site) -> None:
    app, link = over_tls(here), make(here, address=OTHER)
    forged = {"x-forwarded-for": OTHER, "forwarded": f"for={OTHER}", "x-real-ip": OTHER, "host": OTHER}
    assert get(app, link.path, headers=forged).status == 404
    assert get(app, link.path, peer=OTHER).status == 200


def test_a_boot_listener_honours_them_only_where_it_was_told_to(here: Site) -> None:
    link = make(here, uses=9)
    untold = boot_app.create(here.service.netboot, edge(MANAGEMENT))
    assert get(untold, link.path).status == 404
    assert get(on_management(here, links=False), link.path).problem["rule"] == "link-in-clear"
    general = get(on_management(here, kind=ChannelKind.GENERAL), link.path)
    assert general.problem["rule"] == "link-in-clear" and CANARY not in general.body
    assert get(on_management(here), link.path, peer="10.0.0.1").problem["rule"] == "link-in-clear", "the server itself"
    assert get(on_management(here), link.path, peer="10.9.0.9").problem["rule"] == "link-in-clear", "behind a router"
    assert get(on_management(here), link.path).status == 200
    assert get(on_management(here), "/pxe/lpxelinux.0", peer="10.0.0.11").status == 200, "and boots like before"


@pytest.mark.parametrize("application", [over_tls, on_management])
def test_there_is_one_answer_for_all_that_is_none(here: Site, application: Any) -> None:
    app, link, bound = application(here), make(here), make(here, address=OTHER)
    get(app, link.path, peer=OTHER)
    revoked = make(here)
    here.service.links.revoke(revoked.id, ROOT)
    guess = f"/b/{'0' * 26}.iso"
    paths = [guess, link.path, bound.path, revoked.path, "/b/", "/b/x", "/b//x.iso", f"{guess}?x=1", guess.upper()[1:]]
    replies = [get(app, path) for path in paths if path.startswith("/b/")]
    assert {reply.status for reply in replies} == {404} and len({reply.body for reply in replies}) == 1
    assert len({tuple(sorted(reply.headers.items())) for reply in replies}) == 1
    for _ in range(AT_ONCE):
        last = get(app, guess)
    assert last.status == 429 and 0 < int(last.headers["retry-after"]) <= 60


def test_a_withdrawn_link_is_gone(here: Site) -> None:
    app, link = over_tls(here), make(here)
    whole = get(app, link.path)
    here.secret("node1", b"another-token-of-node1")
    part = get(app, link.path, headers={"range": "bytes=1000-"})
    assert part.problem["status"] == 410 and CANARY not in part.body and CANARY in whole.body


@pytest.mark.parametrize("revoked", [True, False])
def test_a_download_under_way_is_cut_off(here: Site, revoked: bool) -> None:
    app, link, done = over_tls(here), make(here), list[int]()

    def change() -> None:
        if not done:
            done.append(1)
            if revoked:
                here.service.links.revoke(link.id, ROOT)
            else:
                here.secret("node1", b"another-token-of-node1")

    reply = get(app, link.path, on_body=change)
    assert reply.error is not None and len(reply.body) < 256 * 1024 and CANARY not in reply.body


def test_its_secret_is_in_no_log_and_no_error(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app, link = over_tls(here), make(here)
    replies = [get(app, link.path), get(app, link.path, peer=OTHER), get(app, f"{link.path}x")]
    here.secret("node1", b"another-token-of-node1")
    replies.append(get(app, link.path))
    secret = link.path[3:29]
    said = [*(str(reply.headers) for reply in replies), *(reply.body for reply in replies[1:]), caplog.text]
    assert [text for text in said if secret in str(text)] == []
    here.service.core.audit.flush()
    assert secret.encode() not in (here.state / "audit.log").read_bytes()
