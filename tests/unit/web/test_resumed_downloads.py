"""The operator's downloads that go on after a break."""

from __future__ import annotations

from collections.abc import Mapping

from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import Reply, Site, request


def call(app: Guard, method: str, path: str, headers: Mapping[str, str] | None = None, peer: str = "uid=0") -> Reply:
    return request(app, method, path, headers=headers, peer=peer)


def test_the_rest_of_a_download_is_of_the_medium_that_it_began_with(here: Site) -> None:
    app = operator_app.create(here.service, by_peer_credentials)
    url, rest = "/v1/hosts/node1/iso", {"range": "bytes=262100-"}
    assert call(app, "HEAD", url).status == 200
    assert call(app, "GET", url, headers=rest).problem["status"] == 410
    whole = call(app, "GET", url, headers={"range": "bytes=0-99"})
    assert call(app, "GET", url, headers=rest).status == 206
    here.secret("node1", b"another")
    gone = call(app, "GET", url, headers=rest).problem
    assert (gone["status"], gone["exit"]) == (410, 6)
    assert call(app, "GET", url, headers={**rest, "if-match": "*"}).status == 410
    assert call(app, "GET", url, headers={**rest, "if-match": whole.headers["etag"]}).status == 412
    present = call(app, "HEAD", url).headers["etag"]
    assert call(app, "GET", url, headers={**rest, "if-match": present}).status == 206
    assert call(app, "GET", url, headers={**rest, "if-range": present}).status == 206
    assert call(app, "GET", url, headers=rest).status == 410
    assert call(app, "GET", url, headers={**rest, "if-range": whole.headers["etag"]}).status == 200
    assert call(app, "GET", url, headers=rest).status == 206


def test_what_another_operator_began_is_another_download(here: Site) -> None:
    app, url = operator_app.create(here.service, by_peer_credentials), "/v1/hosts/node1/disk"
    assert call(app, "GET", url, {"range": "bytes=0-0"}).status == 206
    assert call(app, "GET", url, {"range": "bytes=1-"}, peer="uid=1").status == 410
    assert call(app, "GET", "/v1/hosts/node1/iso", {"range": "bytes=1-"}).status == 410
    assert call(app, "GET", url, {"range": "bytes=1-"}).status == 206
