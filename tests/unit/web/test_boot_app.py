"""The boot application as firmware sees it: every route, its errors, conditions and ranges, many clients at once."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Requester
from provision.edge import Edge
from provision.media.reader import Reader
from provision.service.origin import Origin
from provision.web import boot_app
from provision.web.guard import Guard
from provision.web.limits import Limits
from provision.web.servers import Listener
from tests.helpers.fakes import FakeNeighbours, FakePins
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    INVENTORY,
    IP,
    MAC1,
    MAC2,
    MAC3,
    MANAGEMENT,
    READS_AGAIN,
    STRANGER,
    Site,
    ask,
    boot_iso,
    edge,
    everything,
    origin,
    request,
    site,
    used,
)

CONFIG = f"/pxe/pxelinux.cfg/01-{MAC1.replace(':', '-')}"
CURRENT = "/boot/seed/current/seed.cpio"
ISO = "/http-boot/boot.iso"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window()
        yield opened


@pytest.fixture
def app(here: Site) -> Guard:
    return boot_app.create(here.service.netboot, edge())


def test_a_boot_from_configuration_to_up(here: Site, app: Guard) -> None:
    config = request(app, "GET", CONFIG)
    assert (config.status, config.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    kernel, initrd, seed = (
        next(word for word in config.body.decode().replace(",", " ").split() if word.endswith(end))
        for end in ("/kernel", "/initrd/0", "/seed.cpio")
    )
    for url, entry in ((kernel, here.base.kernel), (initrd, here.base.initrds[0])):
        got = request(app, "GET", url.removeprefix("http://10.0.0.1"))
        assert hashlib.sha256(got.body).hexdigest() == entry.sha256
        assert got.headers["content-length"] == str(entry.size)
    got = request(app, "GET", seed.removeprefix("http://10.0.0.1"))
    assert CANARY in got.body
    assert got.headers["cache-control"] == "no-store"
    key = here.service.core.store.keys.phone_home(1, "node1").reveal().hex()
    say = json.dumps({"host": "node1", "key": key}).encode()
    assert request(app, "POST", "/up", body=say).status == 204
    assert request(app, "POST", "/up", body=say).problem["status"] == 409
    assert request(app, "GET", CURRENT).problem["rule"] == "window-closed"


@pytest.mark.parametrize(
    "path", [CONFIG, "/pxe/lpxelinux.0", "/boot/{base}/kernel", "/boot/{base}/initrd/0", CURRENT, ISO]
)
def test_head_tells_the_length_and_is_free(here: Site, app: Guard, path: str) -> None:
    path = path.format(base=here.base.id)
    head = request(app, "HEAD", path)
    assert (head.status, used(here)) == (200, 0)
    assert CANARY not in head.body
    get = request(app, "GET", path)
    assert get.status == 200
    assert head.headers == get.headers
    assert int(head.headers["content-length"]) == len(get.body)


@pytest.mark.parametrize("path", ["//pxe/lpxelinux.0", "/pxe//lpxelinux.0", "///boot//{base}///kernel"])
def test_doubled_slashes_are_single_ones(here: Site, app: Guard, path: str) -> None:
    assert request(app, "GET", path.format(base=here.base.id)).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/pxe/zqxj-marker", 404),
        ("/pxe/pxelinux.cfg/default", 404),
        ("/pxe/pxelinux.cfg/zqxj-marker", 404),
        ("/pxe/pxelinux.cfg/01-zqxj-marker", 404),
        ("/pxe/../key", 404),
        ("/pxe/..", 404),
        ("/pxe/../../../etc/zqxj-marker", 404),
        ("/boot/../provision.db", 404),
        ("/boot/zqxj-marker/kernel", 422),
        ("/boot/" + "0" * 64 + "/kernel", 404),
        ("/boot/{base}/kernel/zqxj-marker", 404),
        ("/boot/{base}/initrd/1", 404),
        ("/boot/{base}/initrd/-1", 422),
        ("/boot/{base}/initrd/zqxj-marker", 422),
        ("/boot/{base}/initrd/" + "9" * 5000, 422),
        ("/boot/seed/zqxj-marker/seed.cpio", 422),
        ("/boot/seed/" + "0" * 64 + "/seed.cpio", 410),
        ("/boot/seed/CURRENT/seed.cpio", 422),
        ("/boot/seed/" + "0" * 64 + "\n/seed.cpio", 422),
        ("/v1/hosts", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
        ("/metrics", 404),
        ("/pxe/lpxelinux.0\x00", 404),
        ("/pxe/\x1b[31mzqxj-marker", 404),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_there_is_a_problem_of_one_line(
    here: Site, app: Guard, path: str, status: int, method: str
) -> None:
    path = path.format(base=here.base.id)
    reply = request(app, method, path)
    assert reply.status == status
    problem = reply.problem
    assert "zqxj" not in reply.body.decode()
    assert "\x1b" not in problem["detail"]
    assert "999999" not in problem["detail"]
    assert used(here) == 0


@pytest.mark.parametrize("path", [CONFIG, CURRENT, ISO, "/pxe/lpxelinux.0", "/up", "/boot/{base}/kernel"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "ZQXJ"])
def test_other_methods_are_not_allowed(here: Site, app: Guard, path: str, method: str) -> None:
    reply = request(app, method, path.format(base=here.base.id))
    assert (reply.status, reply.problem["title"]) == (405, "method-not-allowed")
    assert used(here) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"zqxj",
        b"[]",
        b"{}",
        b'{"host": "zqxj"}',
        b'{"host": 5, "key": "00"}',
        b'{"host": "node1", "key": 5}',
        b'{"host": "node1", "key": "zqxj"}',
        b'{"host": "node1", "key": "00"}',
        b'{"host": "zqxj", "key": "' + b"00" * 32 + b'"}',
        b"[" * 60_000,
        b"\xff\xfe",
        b'{"host": "node1", "key": "' + b"\xc2\xa0" * 64 + b'"}',
    ],
)
def test_a_wrong_phone_home_is_told_nothing(here: Site, app: Guard, body: bytes) -> None:
    reply = request(app, "POST", "/up", body=body)
    assert reply.status in (403, 422)
    assert reply.problem["subject"] == "up"
    assert "zqxj" not in reply.body.decode()


def test_no_header_makes_a_url_or_an_identity(here: Site, app: Guard) -> None:
    evil = {
        "host": "evil.test:1",
        "x-forwarded-for": IP[MAC2],
        "x-forwarded-host": "evil.test",
        "x-forwarded-proto": "gopher",
        "x-real-ip": IP[MAC2],
        "forwarded": f"for={IP[MAC2]};host=evil.test",
        "via": "evil.test",
    }
    plain, spoofed = request(app, "GET", CONFIG), request(app, "GET", CONFIG, headers=evil)
    assert plain.body == spoofed.body
    assert b"http://10.0.0.1/boot/" in plain.body
    stranger = request(app, "GET", CURRENT, headers=evil, peer=IP[STRANGER])
    assert stranger.problem["rule"] == "unknown-host"
    other_port = boot_app.create(
        here.service.netboot, Edge(MANAGEMENT, 1, 8080, FakeNeighbours({IP[MAC1]: MAC1}), pins=FakePins())
    )
    assert b"http://10.0.0.1:8080/boot/" in request(other_port, "GET", CONFIG, headers=evil).body


@pytest.mark.parametrize("peer", ["10.0.0.1", "127.0.0.1", "127.9.9.9", "10.0.0.50", "192.0.2.1"])
def test_a_peer_that_is_local_off_the_prefix_or_not_there_is_denied(app: Guard, peer: str) -> None:
    reply = request(app, "GET", CURRENT, peer=peer)
    assert reply.status == 403
    assert CANARY not in reply.body


def test_a_machine_on_a_general_network_is_refused_in_words(here: Site) -> None:
    table = {"10.1.0.11": MAC1}
    app = boot_app.create(here.service.netboot, edge(GENERAL, table))
    config = request(app, "GET", CONFIG, peer="10.1.0.11")
    assert b"secrets-on-general" in config.body
    assert b"LOCALBOOT" in config.body.upper()
    assert request(app, "GET", CURRENT, peer="10.1.0.11").problem["rule"] == "secrets-on-general"
    refusal = request(app, "GET", ISO, peer="10.1.0.11")
    assert (refusal.status, len(refusal.body)) == (200, here.base.refusal.size)
    assert b"general" in refusal.body
    assert used(here) == 0


def test_a_uuid_is_noted_and_not_there(here: Site, app: Guard) -> None:
    # PXELINUX writes the table's bytes as they stand there; the first three numbers are little-endian.
    path = "/pxe/pxelinux.cfg/12345678-1234-1234-1234-123456789ABC"
    assert request(app, "GET", path, peer=IP[STRANGER]).status == 404
    assert here.service.reports.status(ROOT).unknown[0].uuid == "78563412-3412-3412-1234-123456789abc"


def test_the_iso_has_ranges_conditions_and_a_type(here: Site, app: Guard) -> None:
    here.apply(READS_AGAIN)
    whole = request(app, "GET", ISO)
    assert (whole.status, whole.headers["content-type"]) == (200, "application/vnd.efi-iso")
    with Reader(boot_iso(here.service.netboot, origin(), 0, everything)) as reader:
        assert hashlib.sha256(whole.body).hexdigest() == reader.digest()
    etag, size = whole.headers["etag"], len(whole.body)
    part = request(app, "GET", ISO, headers={"range": "bytes=262000-262999"})
    assert (part.status, part.body) == (206, whole.body[262000:263000])
    assert part.headers["content-range"] == f"bytes 262000-262999/{size}"
    assert request(app, "GET", ISO, headers={"range": f"bytes={size}-"}).status == 416
    assert request(app, "GET", ISO, headers={"if-match": '"other"'}).status == 412
    assert request(app, "GET", ISO, headers={"if-match": etag}).status == 200
    assert request(app, "GET", ISO, headers={"if-none-match": etag}).status == 304
    assert request(app, "GET", ISO, headers={"if-range": '"other"', "range": "bytes=0-9"}).body == whole.body
    assert used(here) == 1


def test_a_range_after_a_change_is_gone(here: Site, app: Guard) -> None:
    assert request(app, "GET", ISO, headers={"range": "bytes=0-4095"}).status == 206
    here.secret("node1", b"another")
    assert request(app, "GET", ISO, headers={"range": "bytes=4096-8191"}).problem["status"] == 410


def test_a_seed_of_a_withdrawn_revision_is_gone(here: Site, app: Guard) -> None:
    path = "/boot/seed/" + request(app, "GET", CONFIG).body.decode().split("/boot/seed/")[1].split()[0]
    here.secret("node1", b"another")
    gone = request(app, "GET", path)
    assert gone.problem["status"] == 410
    assert used(here) == 0
    assert CANARY not in gone.body


def test_a_stream_in_flight_ends_with_its_own_revision(here: Site, app: Guard) -> None:
    here.window(boots=3)
    changes: list[str] = []

    def change() -> None:
        if not changes:
            changes.append("made")
            here.secret("node1", b"another-secret-entirely")

    before = request(app, "GET", ISO)
    in_flight = asyncio.run(ask(app, "GET", ISO, on_body=change))
    assert changes
    assert hashlib.sha256(in_flight.body).digest() == hashlib.sha256(before.body).digest()
    after = request(app, "GET", ISO)
    assert after.headers["etag"] != before.headers["etag"]
    assert b"another-secret-entirely" in after.body
    assert CANARY not in after.body


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_damaged_base_is_one_line(here: Site, app: Guard, damage: str) -> None:
    for file in (here.base.iso.path, here.base.kernel.path):
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(b"short")
    for path, file in ((ISO, here.base.iso.path), (f"/boot/{here.base.id}/kernel", here.base.kernel.path)):
        reply = request(app, "GET", path)
        assert reply.problem["status"] == 503
        assert reply.problem["remedy"].startswith("import")
        assert file.name in reply.problem["subject"]


def test_an_internal_error_says_its_type_only(here: Site, app: Guard, monkeypatch: Any, caplog: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(CANARY.decode())

    monkeypatch.setattr(here.service.netboot, "seed", broken)
    reply = request(app, "GET", CURRENT)
    assert reply.problem["detail"].startswith("server: internal error (RuntimeError)")
    assert CANARY.decode() not in caplog.text + reply.body.decode()
    assert "RuntimeError" in caplog.text


@dataclass(frozen=True)
class LoopbackEdge(Edge):
    """Machines are told apart by the loopback address that they come from: 127.0.N.1 has the Nth MAC."""

    async def origin(self, peer: str | None) -> Origin:
        number = IPv4Address(peer or "127.0.0.1").packed[2]
        requester = Requester(address=IPv4Address("10.0.0.11"), mac=f"52:54:00:00:01:{number:02x}")
        return Origin(MANAGEMENT, requester)


@contextmanager
def listening(app: Guard) -> Iterator[int]:
    """The application on a real socket of its own event loop; the port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Listener:
        listener = Listener(app, sock, Limits())
        await listener.start()
        return listener

    listener = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield sock.getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _bond(number: int) -> str:
    macs = ", ".join(f'"52:54:00:00:01:{8 * number + n:02x}"' for n in range(8))
    place = f"bridge: br{number}" if number else "network: mgmt, addressing: static, ipv4: 10.0.0.11"
    return f"      bond{number}: {{macs: [{macs}], bond: active-backup, {place}}}\n"


def test_of_fifty_http_clients_on_a_window_of_one_boot_one_wins(tmp_path: Path) -> None:
    nic = '      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}\n'
    with site(tmp_path, INVENTORY.replace(nic, "".join(map(_bond, range(7))))) as here:
        here.window()
        app = boot_app.create(
            here.service.netboot, LoopbackEdge(MANAGEMENT, 1, 80, FakeNeighbours({}), pins=FakePins())
        )
        with listening(app) as port:
            barrier = threading.Barrier(50)

            def boot(number: int) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", port, 30, (f"127.0.{number}.1", 0))
                connection.connect()
                barrier.wait()
                connection.request("GET", CURRENT)
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                return answer.status, body

            with ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(boot, range(50)))
        assert sorted(status for status, _ in answers) == [200] + [403] * 49
        assert [CANARY in body for status, body in answers if status == 200] == [True]
        assert not any(CANARY in body for status, body in answers if status == 403)
        assert used(here) == 1


def test_head_over_a_real_socket_sends_no_body(here: Site) -> None:
    macs = INVENTORY.replace("52:54:00:00:00:01", "52:54:00:00:01:00")
    here.apply(macs)
    here.window()
    with listening(
        boot_app.create(here.service.netboot, LoopbackEdge(MANAGEMENT, 1, 80, FakeNeighbours({}), pins=FakePins()))
    ) as port:
        for path in (CURRENT, ISO):
            with socket.create_connection(("127.0.0.1", port), 10) as raw:
                raw.sendall(f"HEAD {path} HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n".encode())
                data = b"".join(iter(lambda: raw.recv(65536), b""))
            assert data.startswith(b"HTTP/1.1 200")
            assert data.endswith(b"\r\n\r\n")
            assert b"\r\nContent-Length: " in data
            assert b"server:" not in data.lower()
    assert used(here) == 0


def test_a_machine_that_may_never_boot_is_told_so(app: Guard) -> None:
    config = request(app, "GET", f"/pxe/pxelinux.cfg/01-{MAC3.replace(':', '-')}", peer=IP[MAC3])
    assert b"netboot-never" in config.body
