"""What may be asked for: paths that climb, absent methods and routes, other hosts' seeds, windows that are closed."""

from __future__ import annotations

import json
import re
import secrets
import struct
from collections.abc import Iterator
from typing import cast

import pytest
from fastapi.routing import APIRoute

from provision.service.service import Service
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.integration.attacks.site import (
    GUEST,
    MAC,
    MGMT,
    Answer,
    AttackSite,
    attack_site,
    exchange,
    http,
    pxe,
    rrq,
    tftp,
)

CLIMBS = [
    b"../../key",
    b"..%2f..%2fkey",
    b"%2e%2e/%2e%2e/key",
    b"%2e%2e%2f%2e%2e%2fkey",
    b"..%252f..%252fkey",
    b"%252e%252e%252fkey",
    b"..\\..\\key",
    b"..%5c..%5ckey",
    b"....//....//key",
    b"..;/..;/key",
    b"%c0%ae%c0%ae/key",
    b"%ef%bc%8e%ef%bc%8e/key",
    b"../key%00",
    b"../key%00.txt",
    b"../key%0d%0aX-Injected:%201",
    b"/etc/passwd",
    b"%2fetc%2fpasswd",
    b"../../../../../../../../etc/passwd",
    b"../../provision.db",
    b"../../audit.log",
    b"file:///etc/passwd",
    b"%",
    b"%zz%u002e",
    b"\xff\xfe",
    b"\x00",
    b"lpxelinux.0/../../key",
    b"lpxelinux.0%00",
    b"~root/.ssh/id_rsa",
    b"a" * 4000,
    b"../" * 1300,
    b"b" * 20_000,
]
PREFIXES = [b"/", b"/pxe/", b"/pxe/pxelinux.cfg/", b"/boot/", b"/boot/seed/", b"/http-boot/", b"//"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("paths")) as site:
        yield site


def own_files(site: AttackSite) -> list[bytes]:
    """Bytes by which a file that must never be served is known again."""
    return [(site.site.state / "key").read_bytes().strip(), b"SQLite format 3", b"root:x:0:0", b'"chain"']


def holds(site: AttackSite, answer: Answer) -> bool:
    return site.leaks(answer.raw) or any(mark in answer.raw for mark in own_files(site))


@pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix.decode())
def test_no_http_path_climbs(site: AttackSite, prefix: bytes) -> None:
    loader = http(site.hosts["node1"], MGMT, "//pxe///lpxelinux.0")
    assert loader.status == 200 and len(loader.body) > 10_000, "doubled slashes mean one"
    base = f"/boot/{site.base}/initrd/".encode()
    for climb in CLIMBS:
        for where, address in ((site.hosts["node1"], MGMT), (site.attacker, GUEST)):
            for target in {prefix + climb, base + climb}:
                answer = http(where, address, target)
                assert 400 <= answer.status < 500, (target[:60], answer.raw[:200])
                assert not holds(site, answer) and "x-injected" not in answer.headers
                assert len(answer.raw) < 1000, "nor is the input echoed"


def test_no_tftp_path_climbs(site: AttackSite) -> None:
    node, config = site.hosts["node1"], pxe("node1")
    plain = tftp(node, MGMT, config)
    assert plain.status == 200 and tftp(node, MGMT, f"//./pxelinux.cfg\\{config.split('/')[1]}").body == plain.body
    for climb in CLIMBS:
        for prefix in (b"", b"/", b"pxelinux.cfg/", b"boot/", b"grub/", b"\\", b"boot/seed/"):
            name = prefix + climb
            if len(name) + 9 > 1400:
                continue
            answer = tftp(node, MGMT, rrq(name), timeout=1)
            assert answer.status in (1, 2, 4), (name[:60], answer)
            assert not holds(site, answer) and len(answer.raw) < 250
    assert tftp(node, MGMT, config).body == plain.body


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\1" + b"a" * 600,
        b"\0\1lpxelinux.0",
        b"\0\1lpxelinux.0\0",
        b"\0\1lpxelinux.0\0octet",
        b"\0\1\0octet\0",
        b"\0\1lpxelinux.0\0mail\0",
        b"\0\1lpxelinux.0\0octet\0blksize\0",
        b"\0\2upload\0octet\0",
        b"\0\2pxelinux.cfg/default\0octet\0tsize\x0010\0",
        struct.pack("!HH", 3, 1) + b"data",
        struct.pack("!HH", 4, 0),
        struct.pack("!HH", 5, 0) + b"error\0",
        b"\0\6blksize\x00512\0",
        b"\xff" * 64,
    ],
    ids=repr,
)
def test_a_strange_datagram_gets_an_error_or_nothing(site: AttackSite, packet: bytes) -> None:
    answer = tftp(site.attacker, GUEST, packet, timeout=0.3)
    assert answer.status in (0, 2, 4) and len(answer.raw) < 100
    assert tftp(site.attacker, GUEST, pxe("node1")).rule == "foreign-mac", "the server is as it was"


@pytest.mark.parametrize("options", [("blksize", "0"), ("blksize", "-1"), ("windowsize", "9" * 30), ("tsize", "x")])
def test_strange_options_are_left_out(site: AttackSite, options: tuple[str, str]) -> None:
    assert (
        tftp(site.hosts["node1"], MGMT, rrq(pxe("node1"), *options)).body
        == tftp(site.hosts["node1"], MGMT, pxe("node1")).body
    )


METHODS = ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "SEARCH"]


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_do_nothing(site: AttackSite, method: str) -> None:
    mark = secrets.token_hex(8)
    seed = site.seed_path(http(site.hosts["node1"], MGMT, f"/pxe/{pxe('node1')}"))
    assert http(site.hosts["node1"], MGMT, seed).status == 200
    for path in (f"/pxe/{pxe('node1')}", seed, "/boot/seed/current/seed.cpio", "/http-boot/boot.iso", "/pxe/new", "/"):
        answer = http(site.hosts["node1"], MGMT, path, method=method, headers={"X-Mark": mark}, body=b"x=1")
        assert answer.status in (400, 404, 405), (path, answer.status)
        assert mark not in answer.text and not holds(site, answer)


def test_no_operators_route_is_on_a_boot_listener(site: AttackSite) -> None:
    app = operator_app.create(cast(Service, None), by_peer_credentials).app
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) > 20
    found = [(method, re.sub(r"\{\w+\}", "node1", route.path)) for route in routes for method in route.methods or ()]
    pages = ("/docs", "/redoc", "/openapi.json", "/v1/openapi.json", "/metrics", "/health", "/status", "/v1/", "/v1")
    found += [("GET", page) for page in (*pages, "/admin", "/.git/config", "/server-status", "/")]
    callers = ((site.hosts["node1"], MGMT), (site.attacker, GUEST), (site.lab.server, MGMT))
    for method, path in found:
        for where, address in callers:
            answer = http(where, address, path, method=method)
            assert answer.status == 404, (method, path, answer.status)
            assert not holds(site, answer)
    assert site.site.json("status")["hosts"], "on the operator's socket the same routes answer"


def test_another_hosts_mac_is_only_a_claim(site: AttackSite) -> None:
    site.seed_of("node1")
    thief, victim = site.hosts["node2"], http(site.hosts["node1"], MGMT, f"/pxe/{pxe('node1')}")
    path = site.seed_path(victim)
    spellings = (pxe("node1"), pxe("node1").upper().replace("PXELINUX.CFG", "pxelinux.cfg"))
    for name in spellings:
        for answer in (http(thief, MGMT, f"/pxe/{name}"), tftp(thief, MGMT, name)):
            assert answer.status == 200 and answer.rule == "foreign-mac"
            assert f"{MAC['node2']} is not a MAC of node1" in answer.text and "/boot/" not in answer.text
    taken, over_tftp = http(thief, MGMT, path), tftp(thief, MGMT, path.lstrip("/"))
    assert taken.status == 410 and not site.leaks(taken.raw)
    assert over_tftp.status in (0, 1, 2) and not site.leaks(over_tftp.raw)
    for query in ("?host=node1", f"?mac={MAC['node1']}", "?name=node1#node1"):
        own = http(thief, MGMT, f"/boot/seed/current/seed.cpio{query}")
        assert site.canary["node2"] in own.body and site.canary["node1"] not in own.body
        image = http(thief, MGMT, f"/http-boot/boot.iso{query}", timeout=20)
        assert site.canary["node2"] in image.body and site.canary["node1"] not in image.body
    assert site.canary["node1"] in http(site.hosts["node1"], MGMT, path).body


def test_a_revision_cannot_be_guessed(site: AttackSite) -> None:
    node = site.hosts["node1"]
    path = site.seed_path(http(node, MGMT, f"/pxe/{pxe('node1')}"))
    assert http(node, MGMT, path).status == 200
    revision = path.split("/")[3]
    flipped = ("0" if revision[-1] != "0" else "1").join((revision[:-1], ""))
    guesses = [secrets.token_hex(32), "0" * 64, flipped, revision.upper(), revision[:-1], f"{revision}0", "", "CURRENT"]
    for guess in [*guesses, f"{revision}%00", f"{revision}%20", f"{revision}\u00a0".encode().decode("latin-1"), "."]:
        target = f"/boot/seed/{guess}/seed.cpio".encode("latin-1")
        answer = http(node, MGMT, target)
        assert answer.status in (400, 404, 410, 422) and not site.leaks(answer.raw), (guess, answer.status)
        assert not site.leaks(tftp(node, MGMT, rrq(target[1:]), timeout=1).raw)


def test_a_withdrawn_revision_is_gone(site: AttackSite) -> None:
    """A new credential is a new revision: the old URL gives neither the old secret nor the new one."""
    old = site.seed_path(http(site.hosts["node2"], MGMT, f"/pxe/{pxe('node2')}"))
    assert site.canary["node2"] in http(site.hosts["node2"], MGMT, old).body
    site.canary["node2"] = f"canary-{secrets.token_hex(16)}".encode()
    site.site.call("credential", "set", "node2", "enrolment", "--file", "-", stdin=site.canary["node2"])
    assert http(site.hosts["node2"], MGMT, old).status == 410
    assert not site.leaks(tftp(site.hosts["node2"], MGMT, old[1:]).raw)
    new = site.seed_path(http(site.hosts["node2"], MGMT, f"/pxe/{pxe('node2')}"))
    assert new != old and site.canary["node2"] in http(site.hosts["node2"], MGMT, new).body


def up(site: AttackSite, where: str, body: object, address: str = MGMT) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http(where, address, "/up", method="POST", headers={"Content-Type": "application/json"}, body=data)


def refused_everywhere(site: AttackSite, seed: str) -> None:
    """node3's window is closed: every way says so, and none has the secret."""
    node = site.hosts["node3"]
    for answer in (http(node, MGMT, f"/pxe/{pxe('node3')}"), tftp(node, MGMT, pxe("node3"))):
        assert answer.rule == "window-closed" and "provision window node3" in answer.text.replace("\nSAY ", " ")
    for path in (seed, "/boot/seed/current/seed.cpio"):
        for method in ("GET", "HEAD"):
            denied = http(node, MGMT, path, method=method)
            assert denied.status == 403 and not site.leaks(denied.raw)
        over_tftp = tftp(node, MGMT, path[1:])
        assert over_tftp.status == 2 and "window" in over_tftp.text
    image = http(node, MGMT, "/http-boot/boot.iso", timeout=20)
    assert b"window-closed" in image.body and not site.leaks(image.body)
    part = http(node, MGMT, "/http-boot/boot.iso", headers={"Range": "bytes=4096-"}, timeout=20)
    assert not site.leaks(part.body)


def test_a_window_opens_once_and_its_keys_work_once(site: AttackSite) -> None:
    refused_everywhere(site, f"/boot/seed/{secrets.token_hex(32)}/seed.cpio")
    site.site.call("window", "node3", "--minutes", "5", "--boots", "1")
    seed = site.seed_of("node3")
    path = site.seed_path(http(site.hosts["node3"], MGMT, f"/pxe/{pxe('node3')}"))
    assert http(site.hosts["node3"], MGMT, path, method="HEAD").status == 200, "the same boot goes on"
    key = site.phone_home(seed)["key"]
    other = site.phone_home(site.seed_of("node1"))["key"]
    strange: list[object] = [
        {"host": "node3", "key": bad} for bad in (secrets.token_hex(32), other, "", key[:-2], None, 7)
    ]
    strange += [{"host": "nobody", "key": key}, {"host": "node1", "key": key}, {"host": ["node3"], "key": key}]
    strange += [
        {"host": "node3"},
        [],
        "node3",
        b"",
        b"{",
        b"\xff" * 40,
        b"[" * 30_000,
        {"key": key, "host": "node3" * 9999},
    ]
    for body in strange:
        answer = up(site, site.hosts["node3"], body)
        assert answer.status in (403, 413, 422), (str(body)[:80], answer.text[:200])
        assert key not in answer.text and other not in answer.text
    huge = up(site, site.hosts["node3"], b" " * 200_000)
    assert huge.status in (0, 413)
    assert http(site.hosts["node3"], MGMT, path, method="HEAD").status == 200, "no false message has ended the boot"
    assert up(site, site.hosts["node3"], {"host": "node3", "key": key}).status == 204
    assert up(site, site.hosts["node3"], {"host": "node3", "key": key}).status == 409
    refused_everywhere(site, path)


def test_a_new_window_does_not_bring_back_an_old_url(site: AttackSite) -> None:
    site.site.call("window", "node3", "--minutes", "5", "--boots", "1")
    seed = site.seed_of("node3")
    old = site.seed_path(http(site.hosts["node3"], MGMT, f"/pxe/{pxe('node3')}"))
    assert up(site, site.hosts["node3"], {"host": "node3", "key": site.phone_home(seed)["key"]}).status == 204
    site.site.call("window", "node3", "--minutes", "5", "--boots", "1")
    replayed = http(site.hosts["node3"], MGMT, old)
    assert replayed.status == 410 and not site.leaks(replayed.raw)
    again = site.phone_home(site.seed_of("node3"))["key"]
    assert again != site.phone_home(seed)["key"]
    assert up(site, site.hosts["node3"], {"host": "node3", "key": site.phone_home(seed)["key"]}).status == 409
    site.site.call("window", "node3", "--close")
    refused_everywhere(site, old)  # although it was this boot's a moment ago


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /boot/seed/current/seed.cpio HTTP/1.1\r\nContent-Length:5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nabcd",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /pxe/x HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n",
        b"GET /pxe/x HTTP/1.1\r\n bad folded: x\r\n\r\n",
        b"\0" * 200,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_no_plain_request_gets_nothing(site: AttackSite, raw: bytes) -> None:
    answer = exchange(site.attacker, GUEST, raw, timeout=1) or b""
    assert not site.leaks(answer) and b" 200 " not in answer[:20] and b" 101 " not in answer[:20]
    assert http(site.attacker, GUEST, f"/pxe/{pxe('node1')}").rule == "foreign-mac"
