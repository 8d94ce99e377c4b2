"""The odd requests that boot listeners get (test_requests.py, test_http_faults.py), to the operators' API over TLS: by
who has a token, so that they come as far as they can."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY
from tests.integration.attacks.site import Answer, parse
from tests.integration.attacks.test_http_faults import RESET, Talk
from tests.integration.attacks.test_requests import CLIMBS

SEED, TALKS = 20261130, 120


@dataclass(frozen=True)
class Api:
    """A served API."""

    site: ApiSite
    served: Served
    context: ssl.SSLContext

    def dial(self) -> ssl.SSLSocket:
        """A connection after its handshake."""
        sock = socket.create_connection((self.site.address, self.site.port), 10)
        return self.context.wrap_socket(sock, server_hostname=self.site.address)

    def head(self, method: str, target: str | bytes, *more: str) -> bytes:
        """A request's header, with the token."""
        raw = target.encode() if isinstance(target, str) else target
        lines = "".join(f"{line}\r\n" for line in (f"Host: {self.site.address}", self.site.header, *more))
        return method.encode() + b" " + raw + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n"

    def exchange(self, request: bytes, seconds: float = 10.0) -> bytes:
        """Send, and read to the end, or as long as something comes."""
        received = b""
        with self.dial() as tls, contextlib.suppress(OSError):
            tls.settimeout(seconds)
            tls.sendall(request)
            while data := tls.recv(1 << 18):
                received += data
        return received

    def ask(self, method: str, target: str | bytes, *more: str) -> Answer:
        """One request, with a target that is sent as it stands."""
        return parse(self.exchange(self.head(method, target, "Connection: close", *more)))

    def leave(self, tls: ssl.SSLSocket, reset: bool) -> None:
        """Be gone, by a reset or by an end."""
        if reset:
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        tls.close()

    def descriptors(self) -> list[str]:
        """Open sockets and files of the server, without its database."""
        found = []
        for one in Path(f"/proc/{self.served.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(one.readlink()))
        return [target for target in found if "provision.db" not in target]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    made = api_site(tmp_path_factory.mktemp("odd"))
    with serve(made.state) as served:
        served.wait_for("serving the operators' API at")
        yield Api(made, served, ssl.create_default_context(cafile=str(made.ca)))


@pytest.fixture(autouse=True)
def quiet(api: Api) -> Iterator[None]:
    """No test makes the server speak of an error, and each leaves it answering, with no descriptor more."""
    assert api.ask("GET", "/v1/principal").status == 200
    before, said = len(api.descriptors()), len(api.served.log)
    yield
    news = api.served.log[said:]
    assert not re.search("internal error|Traceback|Exception|ERROR", news), news[-3000:]
    assert api.ask("GET", "/v1/principal").status == 200
    end = time.monotonic() + 30
    while len(left := api.descriptors()) > before + 2:
        assert time.monotonic() < end, f"connections and files are closed: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("prefix", [b"/", b"/v1/", b"/v1/hosts/", b"/static/", b"/b/"], ids=lambda one: one.decode())
def test_no_path_climbs(api: Api, prefix: bytes) -> None:
    state = api.site.state
    own = [(state / "key").read_bytes().strip(), b"SQLite format 3", b"root:x:0:0", b'"chain"', b"PRIVATE KEY", CANARY]
    for climb in CLIMBS:
        answer = api.ask("GET", prefix + climb)
        assert 400 <= answer.status < 500 or answer.headers.get("location") == "/login", (climb[:60], answer.raw[:200])
        assert not any(mark in answer.raw for mark in own) and "x-injected" not in answer.headers
        assert len(answer.raw) < 3000, climb[:60]


@pytest.mark.parametrize("reset", [False, True])
def test_half_a_post(api: Api, reset: bool) -> None:
    for length in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        for path in ("/v1/inventory", "/v1/hosts/node1/window", "/login"):
            for part in (b"", b'{"files"', b"2\r\n{"):
                tls = api.dial()
                tls.sendall(api.head("POST", path, length, "Content-Type: application/json") + part)
                api.leave(tls, reset)


def test_a_reset_within_a_request(api: Api) -> None:
    body = b'{"minutes": 5}'
    more = ("Expect: 100-continue", f"Content-Length: {len(body)}")
    whole = api.head("POST", "/v1/hosts/node1/window", *more) + body + api.head("GET", "/v1/hosts")
    for length in range(0, len(whole), 9):
        tls = api.dial()
        tls.sendall(whole[:length])
        api.leave(tls, True)


def test_a_connection_that_closes_under_several_answers(api: Api) -> None:
    for number in range(28):
        tls = api.dial()
        path = ["/v1/hosts/node1/iso", "/v1/hosts", "/v1/audit", "/hosts"][number % 4]
        with contextlib.suppress(OSError):
            tls.sendall(api.head("GET", path) + api.head("GET", "/v1/status") * (number % 7))
            if number % 5 == 0:
                tls.recv(1000)
        api.leave(tls, number % 3 < 2)


def test_the_requests_of_a_hurried_client_are_answered_in_their_order(api: Api) -> None:
    last = api.head("GET", "/v1/principal", "Connection: close")
    sent = api.exchange(api.head("GET", "/v1/principal") * 3 + api.head("GET", "/v1/nothing") + last)
    assert re.findall(rb"HTTP/1\.1 (\d+)", sent) == [b"200", b"200", b"200", b"404", b"200"]


def test_trailers_are_no_headers(api: Api) -> None:
    """A range, a token or a length that comes behind the body."""
    head = api.head("GET", "/v1/hosts/node1/disk", "Transfer-Encoding: chunked")
    for trailer in (b"Range: bytes=0-9", b"If-None-Match: *", b"Authorization: none"):
        sent = api.exchange(head + b"1\r\nx\r\n0\r\n" + trailer + b"\r\n\r\n", 0.5)
        assert not sent or re.match(rb"HTTP/1\.1 (200|4\d\d) ", sent), sent[:200]
        assert not re.search(rb"HTTP/1.1 (206|304|412)", sent)
    unknown = head.replace(api.site.header.encode() + b"\r\n", b"")
    late = api.exchange(unknown + b"0\r\n" + api.site.header.encode() + b"\r\n\r\n", 0.5)
    assert late.startswith(b"HTTP/1.1 401") and CANARY not in late
    assert len(re.findall(rb"HTTP/1\.1 200", api.exchange(head + b"0\r\nContent-Length: 5\r\n\r\n" + head, 0.5))) <= 1


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length:5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 4\r\nContent-Length: 40",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==",
        b" folded: x",
        b"Host: other.example",
        b"Authorization: Bearer provision_x",
        b"\0: \0",
    ],
    ids=repr,
)
def test_what_can_be_read_in_two_ways_gets_nothing(api: Api, line: bytes) -> None:
    head = api.head("GET", "/v1/hosts/node1/iso").replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")
    sent = api.exchange(head + b"0\r\n\r\n", 1)
    if b"Upgrade" in line:  # is of no effect
        assert b" 101 " not in sent[:20]
    else:
        assert CANARY not in sent and b" 200 " not in sent[:20], sent[:200]


def test_a_fuzzer_finds_nothing(api: Api) -> None:
    chance = random.Random(SEED)
    paths = [
        "/v1/hosts",
        "/v1/hosts/node1/iso",
        "/v1/inventory",
        "/v1/uploads",
        "/hosts",
        "/login",
        "/b/x.iso",
        "/v1/%00",
    ]
    for _ in range(TALKS):
        with contextlib.suppress(OSError):
            Talk(chance, [*paths, "/", "*", "//x//", "a:1"], [api.site.header.encode()]).hold(api.dial())
