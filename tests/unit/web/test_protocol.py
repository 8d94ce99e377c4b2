"""The bounds of the HTTP protocol, by raw sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from provision.net.sockets import bind_tcp, bind_unix
from provision.web.limits import Limits, Operators
from provision.web.servers import Listener, Servers
from tests.helpers.wired import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = Limits(header_seconds=1, idle=1, stall=2)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was told: client, path, length of the body."""
    if scope["path"] == "/bug":
        raise RuntimeError("canary-secret")
    if scope["path"] == "/long":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000000")]})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    answer = json.dumps({"client": scope["client"], "path": scope["path"], "body": len(body)}).encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Served:
    """Servers in a thread with a loop of its own."""

    def __init__(self, limits: Limits, make: Callable[[], socket.socket]) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run(limits, make)))
        self._thread.start()
        assert self._ready.wait(10)

    async def _run(self, limits: Limits, make: Callable[[], socket.socket]) -> None:
        sock = make()
        self.address: Any = sock.getsockname()
        self.servers, self._loop = Servers(), asyncio.get_running_loop()
        self.listener: Listener = await self.servers.add(app, sock, limits)
        self._ready.set()
        await self.servers.serve()
        await self.servers.close()

    def dial(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(10)
        sock.connect(self.address)
        return sock

    def say(self, data: bytes) -> bytes:
        """Send, and read until the server closes or has answered once."""
        with self.dial() as sock:
            sock.sendall(data)
            return read(sock)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self.servers.stop)
        self._thread.join(20)
        assert not self._thread.is_alive()


def read(sock: socket.socket) -> bytes:
    """One response, or what there was of it when the connection ended."""
    data = b""
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found and b"Content-Length: " in head:
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            if len(body) >= length:
                return data
        try:
            part = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def gone(sock: socket.socket, seconds: float) -> bool:
    """Whether the server ends the connection in that time."""
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
    return True


@contextmanager
def served(limits: Limits = Limits(), make: Callable[[], socket.socket] | None = None) -> Iterator[Served]:  # noqa: B008
    one = Served(limits, make or (lambda: bind_tcp("lo", "127.0.0.1", 0)))
    try:
        yield one
    finally:
        one.stop()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_content_length_is_in_title_case_on_every_answer() -> None:
    with served() as one:
        answer = one.say(GET)
        assert status(answer) == 200
        assert b"\r\nContent-Length: " in answer
        assert b"content-length" not in answer
        assert b"server:" not in answer.lower()
        with one.dial() as sock:
            for _ in range(3):
                sock.sendall(GET)
                assert b"\r\nContent-Length: " in read(sock)
            sock.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"hi")
            assert b'"body": 2' in read(sock)


def test_headers_are_cut_off_at_their_limit() -> None:
    with served() as one:
        fits = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 16_000 + b"\r\n\r\n"
        assert status(one.say(fits)) == 200
        assert status(one.say(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 17_000 + b"\r\n\r\n")) == 431
        assert status(one.say(b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n\r\n")) == 431
        assert status(one.say(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4_000)) == 431
        assert status(one.say(b"\r\n" * 20_000)) in (400, 431)


def test_few_headers_are_long_at_a_time() -> None:
    """Those with a Kerberos ticket: 500 connections that never end theirs would be 40 MiB."""
    begun = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + b"x" * 20_000
    whole, long = begun + b"\r\n\r\n", begun.replace(b"GET /", b"GET /long") + b"\r\n\r\n"
    with served(Limits(header=80 * 1024, large=2)) as one, ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(one.dial()) for _ in range(4))
        for number, sock in enumerate((first, second), 1):
            sock.sendall(begun)
            eventually(lambda number=number: len(one.listener.gate._large) == number)  # type: ignore[misc]
        assert status(one.say(whole)) == 200
        assert gone(first, 5) and not gone(second, 0.2), "what has been on its way for longest gave way"
        for sock in (third, fourth):
            sock.sendall(long)
            assert sock.recv(1000)
        assert gone(second, 5)
        assert status(one.say(whole)) == 503, "none that is being answered gives way"
        assert status(one.say(GET)) == 200


@pytest.mark.integration
def test_200_mib_of_headers_cost_no_memory() -> None:
    code = (
        "import uvloop\n"
        "from provision.net.sockets import bind_tcp\n"
        "from provision.web.servers import Servers\n"
        "from tests.unit.web.test_protocol import app\n"
        "async def run():\n"
        "    async with Servers() as s:\n"
        "        sock = bind_tcp('lo', '127.0.0.1', 0)\n"
        "        await s.add(app, sock)\n"
        "        print(sock.getsockname()[1], flush=True)\n"
        "        await s.serve()\n"
        "uvloop.run(run())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = "127.0.0.1", int(server.stdout.readline())

        def resident(field: str) -> int:
            lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(field))

        before = resident("VmRSS")
        for start in (
            b"GET / HTTP/1.1\r\nX: ",
            b"GET / HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        ):
            block = b"A: bbbbbbbbbbbb\r\n" * 65536 if start.endswith(b"1.1\r\n") else b"a" * (1 << 20)
            with socket.create_connection(address) as sock:
                sock.sendall(start)
                with pytest.raises(OSError):
                    for _ in range(200):
                        sock.sendall(block)
        assert resident("VmHWM") - before < 20_000
        with socket.create_connection(address) as sock:
            sock.sendall(GET)
            assert status(read(sock)) == 200
        server.terminate()
        assert server.wait(10) == 0


def test_bodies_are_bounded() -> None:
    with served() as one:
        post = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
        assert b'"body": 65536' in one.say(post % 65536 + b"x" * 65536)
        assert status(one.say(post % 65537)) == 413
        assert status(one.say(post % 10**30)) in (400, 413)
        chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert b'"body": 3' in one.say(chunked + b"3\r\nabc\r\n0\r\n\r\n")
        assert b'"body"' not in one.say(chunked + b"8000\r\n" + b"x" * 32768 + b"\r\n" + b"8000\r\n" * 8000)
    with served(Limits(body=None)) as one:
        assert b'"body": 3000000' in one.say(post % 3_000_000 + b"x" * 3_000_000)


def test_nonsense_is_400_and_never_logged_with_its_bytes(caplog: pytest.LogCaptureFixture) -> None:
    with served() as one:
        for data in (b"canary-secret\r\n\r\n", b"\x16\x03\x01canary-secret", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 100):
            assert status(one.say(data)) == 400
        assert status(one.say(b"GET /bug HTTP/1.1\r\n\r\n" + b" ")) in (0, 500)
        assert status(one.say(GET)) == 200
    assert "canary-secret" not in caplog.text
    assert "Traceback" not in caplog.text
    assert "internal error (RuntimeError" in caplog.text


def test_websockets_are_not_spoken() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    with served() as one:
        assert status(one.say(upgrade)) == 200


def test_slow_headers_end_by_the_deadline() -> None:
    with served(QUICK) as one, one.dial() as silent, one.dial() as drip, one.dial() as idle:
        start = time.monotonic()
        drip.sendall(b"GET / HTTP/1.1\r\n")
        idle.sendall(GET)
        assert status(read(idle)) == 200
        while time.monotonic() - start < 6:
            try:
                drip.sendall(b"A: b\r\n")
            except OSError:
                break
            time.sleep(0.1)
        assert 0.9 < time.monotonic() - start < 4
        assert gone(silent, 3)
        assert gone(idle, 3)
        assert len(one.listener.gate) == 0


def test_a_reader_that_stops_is_dropped_and_one_that_is_slow_is_not() -> None:
    with served(QUICK) as one, one.dial() as stopped, one.dial() as slow:
        for sock in (stopped, slow):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.sendall(b"GET /long HTTP/1.1\r\n\r\n")
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert slow.recv(20_000)
            time.sleep(0.05)
        assert len(one.listener.gate) == 1


def test_a_body_that_stops_is_dropped() -> None:
    with served(QUICK) as one, one.dial() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
        assert gone(sock, 6)


def test_pipelined_requests_are_few() -> None:
    with served() as one:
        assert one.say(GET * 3).count(b"HTTP/1.1 200") >= 1
        with one.dial() as sock:
            sock.sendall(GET * 500)
            assert gone(sock, 5)


def test_a_crowded_peer_loses_its_oldest_idle_connection() -> None:
    with served(Limits(per_peer=3)) as one:
        socks = [one.dial() for _ in range(3)]
        time.sleep(0.1)
        with one.dial() as fourth:
            fourth.sendall(GET)
            assert status(read(fourth)) == 200
            assert gone(socks[0], 2)
            assert not gone(socks[1], 0.2)
        for sock in socks:
            sock.close()


def test_busy_connections_do_not_give_way() -> None:
    with served(Limits(per_peer=2)) as one:
        busy = [one.dial() for _ in range(2)]
        for sock in busy:
            sock.sendall(b"GET /long HTTP/1.1\r\n\r\n")
            assert sock.recv(1000)
        with one.dial() as third:
            assert gone(third, 2)
        for sock in busy:
            assert sock.recv(1000)
            sock.close()


def test_a_thousand_stalled_connections_hinder_nobody() -> None:
    # None of them ends by itself, and one who is answered all the same has taken the place of one of them.
    with served(Limits(connections=300, per_peer=300, header_seconds=3600.0)) as one:
        stalled = []
        for _ in range(1000):
            sock = one.dial()
            sock.sendall(b"GET / HTTP/1.1\r\nX: ")
            stalled.append(sock)
        for _ in range(20):
            assert status(one.say(GET)) == 200
        assert len(one.listener.gate) <= 300
        for sock in stalled:
            sock.close()


def test_the_unix_socket_names_its_client(tmp_path: Path) -> None:
    path = tmp_path / "operator.sock"
    limits = Limits(operators=Operators(frozenset({os.getuid()})))
    with served(limits, lambda: bind_unix(path)) as one:
        assert path.stat().st_mode & 0o777 == 0o600
        answer = one.say(GET)
        assert json.loads(answer.split(b"\r\n\r\n")[1])["client"] == [f"uid={os.getuid()}", os.getpid()]
    with served(Limits(operators=Operators(frozenset({12345}))), lambda: bind_unix(path)) as one:
        answer = one.say(GET)
        assert status(answer) == 403
        assert b"your user may not use this socket" in answer


@pytest.mark.integration
def test_a_member_of_the_group_may_use_the_unix_socket(tmp_path: Path) -> None:
    # Another user must be able to reach the socket, however deep pytest made the directory.
    for directory in (tmp_path, *tmp_path.parents):
        if directory == Path(tempfile.gettempdir()):
            break
        directory.chmod(0o755)
    path = tmp_path / "operator.sock"
    limits = Limits(operators=Operators(frozenset({0}), 7777))
    with served(limits, lambda: bind_unix(path, 7777)):
        path.chmod(0o666)  # this is about the protocol, not about the file's mode
        for groups, answer in (("7777", "200"), ("8888", "403")):
            argv = ["setpriv", "--reuid=65534", "--regid=65534", f"--groups={groups}", "curl", "-s", "-o", "/dev/null"]
            argv += ["-w", "%{http_code}", "--unix-socket", str(path), "http://localhost/"]
            assert subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout == answer


def test_signals_end_all_servers_and_the_second_does_not_wait(tmp_path: Path) -> None:
    code = (
        "import sys, uvloop\n"
        "from provision.net.sockets import bind_tcp\n"
        "from provision.web.servers import Servers\n"
        "from tests.unit.web.test_protocol import app\n"
        "async def run():\n"
        "    async with Servers() as s:\n"
        "        socks = [bind_tcp('lo', '127.0.0.1', 0) for _ in range(3)]\n"
        "        print(*(k.getsockname()[1] for k in socks))\n"
        "        for k in socks: await s.add(app, k)\n"
        "        gone = await s.add(app, bind_tcp('lo', '127.0.0.1', 0))\n"
        "        await s.remove(gone)\n"
        "        print('ready', flush=True)\n"
        "        await s.serve()\n"
        "uvloop.run(run())\n"
    )
    for signals, longest in ((1, 12.0), (2, 3.0)):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            ports = [int(p) for p in server.stdout.readline().split()]
            assert server.stdout.readline() == "ready\n"
            with socket.create_connection(("127.0.0.1", ports[2])) as stuck:
                stuck.sendall(b"GET /long HTTP/1.1\r\n\r\n")
                stuck.recv(10)
                for port in ports[:2]:
                    with socket.create_connection(("127.0.0.1", port)) as sock:
                        sock.sendall(GET)
                        assert status(read(sock)) == 200
                start = time.monotonic()
                for _ in range(signals):
                    server.terminate()
                    time.sleep(0.5)
                assert server.wait(15) == 0
                assert time.monotonic() - start < longest
