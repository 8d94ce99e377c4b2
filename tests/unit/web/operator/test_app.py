"""The operator's application: every route, its errors, and media with ranges and conditions."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Unavailable
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    MAC2,
    Reply,
    Site,
    ask,
    origin,
    request,
    site,
    sources,
)


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def call(app: Guard, method: str, path: str, body: Any = None, **fields: Any) -> Reply:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | fields.pop("headers", {})
    return request(app, method, path, body=data, peer="uid=0", headers=headers, **fields)


def data(app: Guard, method: str, path: str, body: Any = None) -> Any:
    reply = call(app, method, path, body)
    assert reply.status == 200, reply
    return json.loads(reply.body)


def files(text: str) -> list[dict[str, Any]]:
    return [{"name": s.name, "text": b64encode(s.text).decode()} for s in sources(text)]


CHANGED = INVENTORY.replace("rack: a", "rack: b")


def test_apply_shows_then_makes_the_difference(here: Site, app: Guard) -> None:
    shown = data(app, "POST", "/v1/inventory", {"files": files(CHANGED), "dry_run": True})
    assert (sorted(shown["changed"]), shown["applied"]) == (["node1", "node2"], False)
    assert here.service.core.hosts["node1"].labels == {"rack": "a"}
    done = data(app, "POST", "/v1/inventory", {"files": files(CHANGED)})
    assert (done["applied"], done["lines"]) == (True, shown["lines"])
    assert here.service.core.hosts["node1"].labels == {"rack": "b"}
    assert data(app, "POST", "/v1/inventory", {"files": files(CHANGED)})["lines"] == []
    (entry,) = [e for e in here.audit("apply") if e.get("changed")]
    assert (entry["changed"], entry["operator"]) == (2, "uid=0")


def test_pruning_much_needs_a_yes(here: Site, app: Guard) -> None:
    less = INVENTORY[: INVENTORY.index("  node3:")]
    kept = data(app, "POST", "/v1/inventory", {"files": files(less)})
    assert kept["removed"] == []
    body = {"files": files(less), "prune": True}
    assert data(app, "POST", "/v1/inventory", {**body, "dry_run": True})["confirm"]
    assert call(app, "POST", "/v1/inventory", body).problem["status"] == 409
    assert "node3" in here.service.core.hosts
    assert data(app, "POST", "/v1/inventory", {**body, "confirmed": True})["removed"] == ["node3"]
    assert "node3" not in here.service.core.hosts


def test_every_problem_of_an_inventory_comes_at_once(here: Site, app: Guard) -> None:
    broken = (
        INVENTORY.replace("10.0.0.11", "10.9.0.11").replace("storage", "x").replace("netboot: never", "netbot: never")
    )
    problem = call(app, "POST", "/v1/inventory", {"files": files(broken)}).problem
    assert problem["status"] == 422
    assert len(problem["problems"]) == 2
    assert {p["file"] for p in problem["problems"]} == {"site.yaml"}
    assert all(p["line"] > 0 for p in problem["problems"])


def test_what_is_told_of_hosts(here: Site, app: Guard) -> None:
    assert [h["name"] for h in data(app, "GET", "/v1/hosts")] == ["node1", "node2", "node3"]
    assert [h["name"] for h in data(app, "GET", "/v1/hosts?label=rack&value=a")] == ["node1", "node2"]
    assert data(app, "GET", "/v1/hosts?label=rack&value=z") == []
    host = data(app, "GET", "/v1/hosts/node1")
    assert (host["name"], host["missing"]) == ("node1", [])
    assert len(host["revision"]) == 64
    assert data(app, "GET", "/v1/inventory")["site"]["domain"] == "example.test"
    assert data(app, "GET", "/v1/health") == {"hosts": 3, "listeners": {}, "problems": [], "warnings": []}


def test_credentials_go_in_and_never_out(here: Site, app: Guard) -> None:
    path = "/v1/hosts/node1/credentials/token"
    assert data(app, "PUT", path, b"a-new-secret") == {
        "host": "node1",
        "name": "token",
        "version": 2,
        "exposed": False,
    }
    assert data(app, "PUT", path + "?path=/etc/other&mode=0640", b"a-new-secret")["version"] == 3
    rows = data(app, "GET", "/v1/credentials?host=node1")
    assert [(r["name"], r["path"], r["mode"], r["version"]) for r in rows] == [("token", "/etc/other", "0640", 3)]
    assert len(data(app, "GET", "/v1/credentials")) == 2
    both = [{"host": h, "name": "token", "data": b64encode(b"bulk").decode()} for h in ("node1", "node2")]
    assert [row["version"] for row in data(app, "POST", "/v1/credentials", both)] == [4, 2]
    assert call(app, "DELETE", path).status == 204
    assert call(app, "DELETE", path).problem["status"] == 404
    assert "its credential 'token'" in data(app, "GET", "/v1/hosts/node1")["missing"]
    events = [e["event"] for e in here.audit() if e["event"].startswith("credential")]
    assert events.count("credential-removed") >= 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/hosts/node9/credentials/token", CANARY, 404),
        ("PUT", "/v1/hosts/node1/credentials/other", CANARY, 422),
        ("PUT", "/v1/hosts/node1/credentials/token?mode=9999", CANARY, 422),
        ("PUT", "/v1/hosts/node1/credentials/token?path=/tmp/x", CANARY, 422),
        ("PUT", "/v1/hosts/node1/credentials/token?path=/etc/../x", CANARY, 422),
        ("PUT", "/v1/hosts/node1/credentials/token", CANARY + b"\n\0" + CANARY, 422),
        ("POST", "/v1/credentials", [{"host": "node1", "name": "token", "data": CANARY.decode()}], 422),
        ("POST", "/v1/credentials", [{"host": "node9", "name": "x", "data": b64encode(CANARY).decode()}], 422),
        ("POST", "/v1/credentials", [{"host": "node1", "name": "token", CANARY.decode(): CANARY.decode()}], 422),
        ("POST", "/v1/credentials", {"host": CANARY.decode()}, 422),
        ("POST", "/v1/credentials", CANARY, 422),
        ("POST", "/v1/inventory", {"files": [{"name": "x", "text": "", "attachments": {CANARY.decode(): "!"}}]}, 422),
        ("POST", "/v1/inventory", {"files": [], CANARY.decode(): 1}, 422),
    ],
)
def test_a_refused_secret_is_not_echoed(
    app: Guard, caplog: Any, method: str, path: str, body: Any, status: int
) -> None:
    reply = call(app, method, path, body)
    assert reply.problem["status"] == status
    assert CANARY not in reply.body
    assert b64encode(CANARY) not in reply.body
    assert CANARY.decode() not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/hosts/node9", 404),
        ("GET", "/v1/hosts/" + "x" * 64, 422),
        ("GET", "/v1/hosts/..", 422),
        ("GET", "/v1/hosts/node9/iso", 404),
        ("GET", "/v1/hosts/node1/pxe", 404),
        ("GET", "/v1/hosts/node1/iso/sha512", 404),
        ("GET", "/v1/hosts/node9/iso/sha256", 404),
        ("GET", "/v1/credentials?host=node9", 404),
        ("GET", "/v1/explain/node9", 404),
        ("GET", "/v1/status?host=node9", 404),
        ("POST", "/v1/hosts/node9/window", 404),
        ("POST", "/v1/hosts/node3/window", 422),
        ("DELETE", "/v1/hosts/node9/window", 404),
        ("POST", "/v1/images/nothing/verify", 404),
        ("DELETE", "/v1/images/nothing", 404),
        ("DELETE", "/v1/images/base", 409),
        ("GET", "/v1/audit?limit=0", 422),
        ("GET", "/v1/audit?limit=zqxj", 422),
        ("GET", "/v1/audit?before=0", 422),
        ("GET", "/v1/check?server=zqxj", 422),
        ("PUT", "/v1/hosts/node1", 405),
        ("TRACE", "/v1/hosts", 405),
        ("GET", "/boot/seed/current/seed.cpio", 404),
        ("GET", "/../key", 404),
    ],
)
def test_what_cannot_be_is_a_problem_of_one_line(app: Guard, method: str, path: str, status: int) -> None:
    body: Any = {} if path.endswith("window") and method == "POST" else None
    assert call(app, method, path, body).problem["status"] == status


@pytest.mark.parametrize(("minutes", "boots"), [(0, 1), (10081, 1), (5, 0), (5, 101), (-1, -1)])
def test_a_window_has_bounds(here: Site, app: Guard, minutes: int, boots: int) -> None:
    reply = call(app, "POST", "/v1/hosts/node1/window", {"minutes": minutes, "boots": boots})
    assert reply.problem["status"] == 422
    assert here.service.core.store.windows.of("node1") is None


def test_windows(here: Site, app: Guard) -> None:
    default = data(app, "POST", "/v1/hosts/node1/window", {})
    assert (default["boots"], default["open"]) == (1, True)
    assert data(app, "POST", "/v1/hosts/node1/window", {"minutes": 5, "boots": 3})["boots"] == 3
    assert data(app, "GET", "/v1/status?host=node1")["hosts"][0]["window"]["open"]
    assert call(app, "DELETE", "/v1/hosts/node1/window").status == 204
    assert not data(app, "GET", "/v1/status")["hosts"][0]["window"]["open"]
    assert [e["event"] for e in here.audit()][-1] == "window-closed"


def test_media_are_pinned_and_the_same_for_the_same_input(here: Site, app: Guard) -> None:
    for medium, suffix in (("iso", "iso"), ("disk", "img")):
        url = f"/v1/hosts/node1/{medium}"
        whole, again = call(app, "GET", url), call(app, "GET", url)
        assert CANARY in whole.body
        assert (whole.body, whole.headers["etag"]) == (again.body, again.headers["etag"])
        told = data(app, "GET", f"{url}/sha256")
        assert told["sha256"] == hashlib.sha256(whole.body).hexdigest()
        assert (told["size"], told["etag"]) == (len(whole.body), whole.headers["etag"])
        head = call(app, "HEAD", url)
        assert (head.headers, head.body) == (whole.headers, b"")
        assert whole.headers["content-disposition"] == f'attachment; filename="node1.{suffix}"'
        part = call(app, "GET", url, headers={"range": "bytes=262100-262199"})
        assert (part.status, part.body) == (206, whole.body[262100:262200])
        here.secret("node1", f"secret-of-{medium}".encode())
        pinned = {"if-match": whole.headers["etag"]}
        assert call(app, "GET", url, headers=pinned).status == 412
        assert call(app, "GET", url, headers={**pinned, "range": "bytes=0-9"}).status == 412
        changed = call(app, "GET", url)
        assert changed.headers["etag"] != whole.headers["etag"]
        assert CANARY not in changed.body
        here.secret("node1", CANARY)


def test_a_download_in_flight_ends_with_its_own_revision(here: Site, app: Guard) -> None:
    before = call(app, "GET", "/v1/hosts/node1/disk").body
    changes: list[int] = []

    def change() -> None:
        if not changes:
            changes.append(1)
            here.secret("node1", b"another")

    reply = asyncio.run(ask(app, "GET", "/v1/hosts/node1/disk", peer="uid=0", on_body=change))
    assert changes
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(before).digest()


@pytest.mark.parametrize(
    ("path", "status"),
    [("n" * 63 + "/iso", 404), ("n" * 64 + "/iso", 422), ("node1/floppy", 404)],
)
def test_a_download_of_what_there_is_not(app: Guard, path: str, status: int) -> None:
    for method in ("GET", "HEAD"):
        reply = call(app, method, f"/v1/hosts/{path}")
        assert reply.status == status
    assert call(app, "GET", f"/v1/hosts/{path}").problem["status"] == status
    assert call(app, "PATCH", f"/v1/hosts/{path}").problem["status"] == 405


def test_a_download_is_described(app: Guard) -> None:
    described = data(app, "GET", "/v1/openapi.json")["paths"]["/v1/hosts/{name}/{medium}"]["get"]
    assert [parameter["name"] for parameter in described["parameters"]] == ["name", "medium"]


def test_a_host_without_storage_gets_no_disk(here: Site, app: Guard) -> None:
    here.apply(INVENTORY.replace("  node1:\n", "  node1:\n    storage: none\n"))
    assert call(app, "GET", "/v1/hosts/node1/disk").problem["rule"] == "no-storage"
    assert call(app, "GET", "/v1/hosts/node1/iso").status == 200


def test_entries_of_the_audit_log_before_one(here: Site, app: Guard) -> None:
    every = [entry["seq"] for entry in data(app, "GET", "/v1/audit")]
    assert [entry["seq"] for entry in data(app, "GET", f"/v1/audit?limit=2&before={every[4]}")] == every[2:4]
    assert data(app, "GET", "/v1/audit?before=1") == []


def test_a_download_is_in_the_audit_log_once_with_its_ranges_counted(here: Site, app: Guard) -> None:
    call(app, "GET", "/v1/hosts/node1/iso")
    call(app, "GET", "/v1/hosts/node1/iso", headers={"range": "bytes=1-2"})
    before = len(here.audit())
    for start in range(10, 60):
        call(app, "GET", "/v1/hosts/node1/iso", headers={"range": f"bytes={start}-99"})
    assert len(data(app, "GET", "/v1/audit?limit=1000")) - before <= 6
    assert data(app, "GET", "/v1/audit/verify")["ok"]


def test_without_an_audit_log_there_is_no_medium(here: Site, app: Guard, monkeypatch: Any) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise Unavailable("audit.log", "the audit log cannot be written (No space left on device)", "make room")

    monkeypatch.setattr(here.service.core.audit, "record", full)
    for path in ("/v1/hosts/node1/iso", "/v1/hosts/node1/disk", "/v1/hosts/node1/iso/sha256"):
        reply = call(app, "GET", path)
        assert reply.problem["status"] == 503
        assert CANARY not in reply.body
    assert call(app, "POST", "/v1/hosts/node1/window", {}).problem["status"] == 503
    assert call(app, "PUT", "/v1/hosts/node1/credentials/token", b"x").problem["status"] == 503
    assert call(app, "DELETE", "/v1/hosts/node1/credentials/token").problem["status"] == 503
    assert call(app, "POST", "/v1/inventory", {"files": files(CHANGED)}).problem["status"] == 503


def test_explanations_say_yes_or_the_rule(app: Guard) -> None:
    rows = {
        (r["medium"], r["channel"], *([r["by"]] if "by" in r else [])): r for r in data(app, "GET", "/v1/explain/node1")
    }
    assert {key: row["allowed"] or row["rule"] for key, row in rows.items()} == {
        ("iso", "operator"): True,
        ("disk", "operator"): True,
        ("pxe", "management:mgmt"): "window-closed",
        ("http-boot", "management:mgmt"): "window-closed",
        ("iso", "management:mgmt", "link"): True,
        ("disk", "management:mgmt", "link"): True,
        ("pxe", "general:office"): "secrets-on-general",
        ("http-boot", "general:office"): "secrets-on-general",
        ("iso", "general:office", "link"): "link-in-clear",
        ("disk", "general:office", "link"): "link-in-clear",
    }
    assert all(row["reason"] and row["remedy"] for row in rows.values() if not row["allowed"])


def test_configurations_hold_no_secret(here: Site, app: Guard) -> None:
    dhcp = call(app, "GET", "/v1/dhcp")
    assert dhcp.headers["content-type"].startswith("text/plain")
    assert MAC1.encode() in dhcp.body
    for query, size in (("", here.base.kernel.size), ("?images=false", 0)):
        tree = call(app, "GET", f"/v1/tree{query}")
        assert tree.headers["content-type"] == "application/x-tar"
        assert CANARY not in tree.body + dhcp.body and str(here.state).encode() not in tree.body
        with tarfile.open(fileobj=io.BytesIO(tree.body)) as archive:
            assert archive.getmember(f"images/{here.base.id}/kernel").size == size
            config = archive.extractfile(f"pxelinux.cfg/01-{MAC2.replace(':', '-')}")
            assert config and b"http://10.0.0.1/boot/seed/current/seed.cpio" in config.read()


def test_a_base_that_lost_its_name_is_adopted(tmp_path: Path) -> None:
    from provision.service.service import Service
    from tests.helpers.site_fixture import settings

    with site(tmp_path) as here:
        here.apply(INVENTORY.replace("  base: base\n", ""))
        here.service.core.store.bases.forget("base")
        assert data(operator_app.create(here.service, by_peer_credentials), "GET", "/v1/images") == []
    again = Service.open(settings(here.state), here.clock)
    try:
        assert dict(again.core.bases()) == {"base": here.base.id}
        assert again.core.audit.entries(None, 1)[0]["event"] == "image-imported"
    finally:
        again.close()


def test_progress_reaches_the_status(here: Site, app: Guard) -> None:
    here.window()
    here.service.netboot.pxelinux_config(origin(), MAC1)
    (row,) = data(app, "GET", "/v1/status?host=node1")["hosts"]
    assert (row["stage"], row["medium"], row["mac"]) == ("configuration", "pxe", MAC1)
