"""Bodies on the operator's socket: too long, never ending, of too many values, many at once; memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Exit
from provision.web.bodies import BOUNDS, MIB, USUAL, Bodies, bound_of
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from provision.web.pages import app as pages_app
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY, Site, closed_site, site

MANY = 600 * MIB
ROUTES = (
    ("POST", "/v1/inventory"),
    ("POST", "/v1/credentials"),
    ("PUT", "/v1/hosts/node1/credentials/token"),
    ("POST", "/v1/images/base"),
    ("POST", "/v1/hosts/node1/window"),
    ("POST", "//v1//inventory"),
    ("POST", "/v1/images/base/verify"),
    ("DELETE", "/v1/hosts/node1/window"),
    ("GET", "/v1/status"),
)
GROWTH = 3 * 64 * MIB
"""What the largest body may cost: itself, and the copies that are made of it."""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_site(tmp_path_factory.mktemp("bodies"), toml="")


@pytest.fixture(scope="module")
def served(state: Path) -> Iterator[Served]:
    with serve(state) as running:
        yield running


def peak(served: Served) -> int:
    """The most bytes of memory that the service has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{served.process.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def connected(state: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(60)
    one.connect(str(state / "operator.sock"))
    return one


def send(state: Path, method: str, path: str, size: int, *, chunked: bool, filling: bytes = b"a") -> tuple[int, bytes]:
    """Send a body until it is all sent or the service has had enough; bytes sent, and the answer."""
    piece = filling * (MIB // len(filling))
    with connected(state) as one:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        kind = "Content-Type: application/json"
        one.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\n{length}\r\n\r\n".encode())
        sent = 0
        try:
            while sent < size:
                one.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
            if chunked:
                one.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it has closed, as it may
        return sent, answer_of(one)


def answer_of(one: socket.socket) -> bytes:
    """All that comes until a whole answer is there, or the other side has closed."""
    got = b""
    while True:
        try:
            part = one.recv(65536)
        except OSError:
            return got
        got += part
        head, _, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not part or (length and len(body) >= int(length[1])):
            return got


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_a_body_that_is_too_long_is_not_read(
    served: Served, state: Path, method: str, path: str, chunked: bool
) -> None:
    before = peak(served)
    sent, answer = send(state, method, path, MANY, chunked=chunked)
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:300]
    assert b"application/problem+json" in answer and json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 413
    bound = bound_of(method, path.replace("//", "/")) or 0
    assert sent <= (bound if chunked else 0) + 8 * MIB, "the rest of it is left unread"
    assert peak(served) - before < GROWTH


def test_a_bomb_of_values_is_not_unpacked(served: Served, state: Path) -> None:
    before = peak(served)
    for filling in (b"[],", b"{},", b"[[", b'{"a":', b"0,", b"\\u0000", b"9"):
        for path in ("/v1/inventory", "/v1/credentials"):
            _, answer = send(state, "POST", path, 60 * MIB, chunked=True, filling=filling)
            assert re.match(rb"HTTP/1.1 4(00|13|22) ", answer), (filling, answer[:300])
    assert peak(served) - before < 2 * GROWTH


def test_many_at_once_share_one_room(served: Served, state: Path) -> None:
    """Connections that hold half a body each: together they get no more than the room, and others go on."""
    before, piece = peak(served), b"a" * MIB
    held = [connected(state) for _ in range(6)]
    refused = 0
    for one in held:
        one.sendall(b"POST /v1/inventory HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(60):
                one.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        except OSError:
            refused += 1
            assert answer_of(one).startswith(b"HTTP/1.1 503 ")
    assert refused >= 4
    assert peak(served) - before < GROWTH
    for one in held:
        one.close()
    _, answer = send(state, "POST", "/v1/hosts/node9/window", 0, chunked=True)
    assert answer.startswith(b"HTTP/1.1 4"), answer


def test_an_upload_goes_to_the_disk(served: Served, state: Path) -> None:
    before = peak(served)
    _, answer = send(state, "POST", "/v1/uploads", 300 * MIB, chunked=True)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert peak(served) - before < 64 * MIB
    stored = state / "tmp" / json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
    assert stored.stat().st_size == 300 * MIB
    stored.unlink()


def counting(here: Site, scope: Mapping[str, Any], part: bytes, most: int) -> tuple[int, int]:
    """Feed the application parts without an end; how many bytes it took, and its status."""
    app = operator_app.create(here.service, by_peer_credentials)
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        assert taken < most, "it reads for ever"
        taken += len(part)
        return {"type": "http.request", "body": part, "more_body": True}

    async def answer(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    usual = {"type": "http", "query_string": b"", "client": ("uid=0", 1), "root_path": "", "http_version": "1.1"}
    asyncio.run(app({**usual, "scheme": "http", "server": None, **scope}, receive, answer))
    return taken, status


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=" ".join)
def test_no_part_is_asked_for_beyond_the_bound(tmp_path: Path, method: str, path: str) -> None:
    bound = bound_of(method, path.replace("//", "/")) or 0
    scope = {"method": method, "path": path, "headers": [(b"transfer-encoding", b"chunked")]}
    with site(tmp_path) as here:
        taken, status = counting(here, scope, b"x" * 65536, bound + MIB)
    assert status == 413 and bound < taken <= bound + 65536


def test_an_upload_leaves_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = os.statvfs_result((4096, 4096, 10**6, 100, 100, 1, 1, 1, 0, 255))
    monkeypatch.setattr("shutil.os.statvfs", lambda path: usage)
    scope = {"method": "POST", "path": "/v1/uploads", "headers": [(b"transfer-encoding", b"chunked")]}
    with site(tmp_path) as here:
        taken, status = counting(here, scope, b"x" * 65536, 32 * MIB)
        assert status == 503 and taken <= 32 * MIB
        assert list((here.state / "tmp").iterdir()) == []


def test_what_is_in_use_is_given_back() -> None:
    async def run() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["body"] == b"x" * 100
            assert bodies.held == 100
            raise RuntimeError

        async def send(message: Any) -> None:
            raise AssertionError(message)

        bodies = Bodies(app, lambda scope: None)
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"100")]}
        for last in ({"type": "http.request", "body": b"x" * 50}, {"type": "http.disconnect"}):
            parts = [last, {"type": "http.request", "body": b"x" * 50, "more_body": True}]

            async def receive(parts: list[dict[str, Any]] = parts) -> dict[str, Any]:
                return parts.pop()

            if last["type"] == "http.request":
                with pytest.raises(RuntimeError):
                    await bodies(scope, receive, send)
            else:
                await bodies(scope, receive, send)
            assert bodies.held == 0

    asyncio.run(run())


def test_the_bounds_are_for_routes_that_are_there(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        applications = (operator_app, pages_app)
        routes = [r for app in applications for r in app.create(here.service, by_peer_credentials).app.routes]
        paths = {(m, re.sub(r"\{\w+\}", "a", r.path)) for r in routes for m in getattr(r, "methods", ())}
    for bound in BOUNDS:
        assert any(method == bound.method and bound.path.fullmatch(path) for method, path in paths)
    assert bound_of("GET", "/v1/inventory") == USUAL


def test_the_command_line_says_what_was_too_large(served: Served, state: Path, tmp_path: Path) -> None:
    from tests.helpers.cli_runner import cli

    for number in range(4):
        (tmp_path / f"{number}.yaml").write_bytes(b"# " + CANARY + b"a" * (20 * MIB))
    ran = cli(state, "apply", tmp_path)
    assert (ran.code, ran.err) == (
        Exit.INVALID,
        "error: request: its body has more than 64 MiB; send less, or in parts\n",
    )
