"""Streaming a plan: ranges and conditions purely, then byte for byte over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from provision.errors import Unavailable
from provision.media.content import PlanContent
from provision.media.plan import Patch, Plan
from provision.net.sockets import bind_tcp
from provision.tls.context import load
from provision.web.limits import Limits
from provision.web.servers import Listener, Servers
from provision.web.stream import PlanResponse, Selection, first_byte, select, sent_of
from tests.helpers import certificates

SIZE = 9_000_001
BASE = hashlib.shake_256(b"medium").digest(SIZE)
PATCHES = (Patch(0, b"head"), Patch(3_000_000, b"seed" * 300_000), Patch(SIZE - 3, b"end"))
ETAG = '"abc"'


def wanted() -> bytes:
    data = bytearray(BASE)
    for patch in PATCHES:
        data[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(data)


WANTED = wanted()


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, Selection(200, 0, 100)),
        ({"range": "bytes=0-0"}, Selection(206, 0, 1)),
        ({"range": "bytes=10-19"}, Selection(206, 10, 20)),
        ({"range": "bytes=90-"}, Selection(206, 90, 100)),
        ({"range": "bytes=90-500"}, Selection(206, 90, 100)),
        ({"range": "bytes=-10"}, Selection(206, 90, 100)),
        ({"range": "bytes=-500"}, Selection(206, 0, 100)),
        ({"range": "bytes=100-"}, Selection(416)),
        ({"range": "bytes=-0"}, Selection(416)),
        ({"range": "bytes=20-10"}, Selection(200, 0, 100)),
        ({"range": "bytes=0-1,5-6"}, Selection(200, 0, 100)),
        ({"range": "bytes=-"}, Selection(200, 0, 100)),
        ({"range": "lines=0-1"}, Selection(200, 0, 100)),
        ({"range": "bytes=" + "9" * 400 + "-"}, Selection(200, 0, 100)),
        ({"range": "bytes=٣-٤"}, Selection(200, 0, 100)),
        ({"range": "bytes=0-1", "if-range": ETAG}, Selection(206, 0, 2)),
        ({"range": "bytes=0-1", "if-range": '"old"'}, Selection(200, 0, 100)),
        ({"range": "bytes=0-1", "if-range": "W/" + ETAG}, Selection(200, 0, 100)),
        ({"range": "bytes=0-1", "if-range": "Sun, 22 Nov 2026 08:34:15 GMT"}, Selection(200, 0, 100)),
        ({"if-match": ETAG}, Selection(200, 0, 100)),
        ({"if-match": '"x", "abc"'}, Selection(200, 0, 100)),
        ({"if-match": "*"}, Selection(200, 0, 100)),
        ({"if-match": '"old"', "range": "bytes=0-1"}, Selection(412)),
        ({"if-match": "W/" + ETAG}, Selection(412)),
        ({"if-none-match": ETAG}, Selection(304)),
        ({"if-none-match": '"x" ,W/"abc"'}, Selection(304)),
        ({"if-none-match": '"old"'}, Selection(200, 0, 100)),
        ({"if-match": '"old"', "if-none-match": ETAG}, Selection(412)),
    ],
)
def test_select(headers: dict[str, str], answer: Selection) -> None:
    raw = [(name.encode(), value.encode("utf-8")) for name, value in headers.items()]
    assert select("GET", Headers(raw=raw), ETAG, 100) == answer


def test_head_ignores_ranges() -> None:
    assert select("HEAD", Headers({"range": "bytes=5-6"}), ETAG, 100) == Selection(200, 0, 100)


def test_what_an_answer_has_of_the_medium(plan: Plan) -> None:
    def sent(**headers: str) -> range:
        return sent_of(Headers({name.replace("_", "-"): value for name, value in headers.items()}), plan)

    assert sent() == sent(if_match=plan.etag) == range(plan.size)
    assert sent(range="bytes=5-9") == range(5, 10)
    for nothing in (sent(if_none_match=plan.etag), sent(if_match='"other"'), sent(range=f"bytes={plan.size}-")):
        assert not nothing


def test_first_byte() -> None:
    values = [None, "", "bytes=0-", "bytes=7-9", "bytes=-5", "bytes=1-2,5-6", "nonsense"]
    assert [first_byte(value) for value in values] == [0, 0, 0, 7, 1, 0, 0]


@given(st.text(max_size=30), st.integers(0, 10**12))
def test_any_range_is_within_the_medium(value: str, size: int) -> None:
    chosen = select("GET", Headers({"range": f"bytes={value}".encode().decode("latin-1")}), ETAG, size)
    assert 0 <= chosen.start <= chosen.stop <= size
    if chosen.status == 206:
        assert chosen.start < chosen.stop


class Server:
    """Servers in a thread with its own loop; `note` collects progress, and `turned` is set when the loop goes on."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.progress, self.turned = plan, list[tuple[int, int]](), threading.Event()
        self.url = ""
        self.listener: Listener | None = None

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await PlanResponse(self.plan, "application/vnd.efi-iso", self._note)(scope, receive, send)
        except Unavailable as error:
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": str(error).encode()})

    def _note(self, start: int, stop: int) -> None:
        self.progress.append((start, stop))

    async def tick(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self.turned.set()


@contextmanager
def serving(
    plan: Plan,
    limits: Limits = Limits(),  # noqa: B008
    tls: ssl.SSLContext | None = None,
) -> Iterator[Server]:
    server, ready, stop = Server(plan), threading.Event(), list[Any]()

    async def run() -> None:
        sock = bind_tcp("lo", "127.0.0.1", 0)
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{sock.getsockname()[1]}/boot.iso"
        servers = Servers()
        server.listener = await servers.add(server.app, sock, limits, tls=(lambda: tls) if tls else None)
        stop.extend((asyncio.get_running_loop(), servers))
        ready.set()
        ticking = asyncio.create_task(server.tick())
        await servers.serve()
        ticking.cancel()
        await servers.close()

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        stop[0].call_soon_threadsafe(stop[1].stop)
        thread.join(20)


@dataclass(frozen=True)
class Door:
    """How a medium is asked for, and who may ask."""

    tls: ssl.SSLContext | None
    limits: Limits

    def serving(self, plan: Plan, **limits: Any) -> AbstractContextManager[Server]:
        return serving(plan, replace(self.limits, **limits), self.tls)

    def client(self) -> httpx.Client:
        """One that asks for several, if it likes, over one connection."""
        return httpx.Client(trust_env=False, verify=trusting(), timeout=30)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates.root().pem().decode())
    context.check_hostname = False
    return context


@pytest.fixture(params=["plain", "encrypted", "encrypted-operator"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    """Every way in which a base's own bytes go the short way."""
    if request.param == "plain":
        return Door(None, Limits())
    pair = certificates.write_pair(tmp_path, certificates.server())
    return Door(load([pair]).context, Limits(authenticated=request.param.endswith("operator")))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "base").write_bytes(BASE)
    return Plan(tmp_path / "base", "ab", SIZE, PATCHES, "r1")


def test_whole_and_head(plan: Plan) -> None:
    with serving(plan) as server, httpx.Client(trust_env=False) as client:
        for _ in range(2):
            answer = client.get(server.url)
            assert hashlib.sha256(answer.content).digest() == hashlib.sha256(WANTED).digest()
            assert answer.status_code == 200
        assert answer.headers["etag"] == plan.etag
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-type"] == "application/vnd.efi-iso"
        assert b"Content-Length" in [name for name, _ in answer.headers.raw]
        head = client.head(server.url, headers={"range": "bytes=0-1"})
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(SIZE), b"")
        assert server.progress[-1][1] == SIZE
        assert [stop for _, stop in server.progress].count(SIZE) == 2


def test_ranges_and_conditions(plan: Plan, door: Door) -> None:
    spans = [(0, 1), (0, 300_000), (2_999_990, 3_000_010), (4_199_999, 4_200_001), (1, SIZE), (SIZE - 4, SIZE)]
    spans += [(100, 3_000_000), (3_000_000, 4_200_000), (1_234_567, 8_765_432)]
    with door.serving(plan) as server, door.client() as client:
        for start, stop in spans:
            answer = client.get(server.url, headers={"range": f"bytes={start}-{stop - 1}"})
            assert answer.status_code == 206
            assert answer.content == WANTED[start:stop], (start, stop)
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        bad = client.get(server.url, headers={"range": f"bytes={SIZE}-"})
        assert (bad.status_code, bad.headers["content-range"]) == (416, f"bytes */{SIZE}")
        assert bad.headers["content-type"] == "application/problem+json" and bad.json()["status"] == 416
        assert client.get(server.url, headers={"if-none-match": plan.etag}).status_code == 304
        other = client.get(server.url, headers={"if-match": '"old"'})
        assert other.status_code == other.json()["status"] == 412
        assert client.head(server.url, headers={"if-match": '"old"'}).content == b""
        answer = client.get(server.url, headers={"range": "bytes=-3", "if-range": plan.etag})
        assert (answer.status_code, answer.content) == (206, b"end")


def test_a_missing_base_is_503(plan: Plan) -> None:
    plan.base.unlink()
    with serving(plan) as server:
        answer = httpx.get(server.url, trust_env=False)
    assert answer.status_code == 503
    assert "cannot be opened" in answer.text


def test_a_base_cut_short_midway_breaks_the_connection(
    plan: Plan, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    with door.serving(plan) as server, door.client() as client, client.stream("GET", server.url) as answer:
        parts = answer.iter_raw(65536)
        got = next(parts)
        os.truncate(plan.base, 6_000_000)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            for part in parts:
                got += part
    assert WANTED.startswith(got[:6_000_000])
    assert len(got) <= 6_000_000 or got[:6_000_000] == WANTED[:6_000_000]
    assert "streaming stopped at byte" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_client_that_leaves_costs_nothing_more(plan: Plan, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with door.serving(plan) as server:
        with door.client() as client, client.stream("GET", server.url) as answer:
            next(answer.iter_raw(1000))
        time.sleep(0.3)
        assert SIZE not in (stop for _, stop in server.progress)
        assert not caplog.records
        files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert str(plan.base) not in files
        with door.client() as client:
            assert client.get(server.url).content == WANTED


def test_a_reader_that_stops_is_dropped_on_the_short_way_too(plan: Plan, door: Door) -> None:
    with door.serving(plan, stall=1) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        sock.connect(("127.0.0.1", httpx.URL(server.url).port))
        if door.tls:
            sock = trusting().wrap_socket(sock)
        sock.sendall(b"GET /boot.iso HTTP/1.1\r\n\r\n")
        assert sock.recv(1000)
        assert server.listener is not None
        end = time.monotonic() + 8
        while len(server.listener.gate) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(server.listener.gate) == 0
        time.sleep(0.2)
        assert str(plan.base) not in [str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]


def test_a_slow_reader_gets_every_byte(plan: Plan, door: Door) -> None:
    with door.serving(plan) as server, door.client() as client, client.stream("GET", server.url) as answer:
        digest = hashlib.sha256()
        for part in answer.iter_raw(512 * 1024):
            digest.update(part)
            time.sleep(0.01)
    assert digest.digest() == hashlib.sha256(WANTED).digest()


def test_a_cold_read_stalls_nobody(plan: Plan, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[bool] = []

    def slow(self: PlanContent, offset: int, length: int) -> bytes:
        # The disk answers when the loop has done something else meanwhile.
        server.turned.clear()
        others.append(server.turned.wait(3))
        return WANTED[offset : offset + length]

    monkeypatch.setattr(PlanContent, "read", slow)
    monkeypatch.setattr(PlanContent, "_preadv", lambda *_: 0)
    with door.serving(plan) as server, door.client() as client:
        answer = client.get(server.url, headers={"range": "bytes=0-1999999"})
        assert answer.content == WANTED[:2_000_000]
    assert others and all(others)
