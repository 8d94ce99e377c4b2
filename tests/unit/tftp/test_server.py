"""The TFTP server on real sockets: faults and floods by hand-made packets, and the clients that people have."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision.errors import Denied, NotFound, Unavailable
from provision.media.content import Memory
from provision.net.sockets import bind_udp
from provision.tftp.server import TftpRequest, TftpServer
from provision.tftp.session import Answer

BIG = hashlib.shake_256(b"big").digest(3_000_017)
FILES = {"small": b"hello\r\n", "empty": b"", "block": b"x" * 512, "big": BIG, "seed/ab12/seed.cpio": BIG[:70_000]}


async def files(request: TftpRequest) -> Answer:
    if request.path == "secret":
        raise Denied("node7", "No secret for you", "", "test")
    if request.path == "broken":
        raise Unavailable("base", "cannot be read")
    if request.path == "bug":
        raise RuntimeError("canary-secret")
    if request.path not in FILES:
        raise NotFound(request.path, "no such file")
    return Answer(Memory(FILES[request.path]))


@asynccontextmanager
async def serving(
    handler: Callable[[TftpRequest], Awaitable[Answer]] = files, per_peer: int = 8, ports: int = 16
) -> AsyncIterator[tuple[TftpServer, int]]:
    sock = bind_udp("lo", "127.0.0.1", 0)
    first = 30000 + os.getpid() % 300 * 100
    server = TftpServer(sock, handler, (first, first + ports - 1), per_peer)
    server.start()
    try:
        yield server, sock.getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)


class Wire:
    """A client that says exactly what a test wants."""

    def __init__(self, port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.server, self.tid = ("127.0.0.1", port), ("127.0.0.1", 0)

    def ask(self, name: bytes, *options: bytes, mode: bytes = b"octet", op: int = 1) -> None:
        self.sock.sendto(bytes([0, op]) + b"\0".join([name, mode, *options]) + b"\0", self.server)

    def ack(self, number: int) -> None:
        self.sock.sendto(b"\0\4" + number.to_bytes(2), self.tid)

    async def get(self, seconds: float = 2.0) -> bytes:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    data, self.tid = self.sock.recvfrom(65535)
                except BlockingIOError:
                    await asyncio.sleep(0.002)
                else:
                    return data

    async def silent(self, seconds: float = 0.15) -> bool:
        try:
            await self.get(seconds)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def run() -> Iterator[Callable[[Awaitable[None]], None]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        def go(test: Awaitable[None]) -> None:
            async def bounded() -> None:
                async with asyncio.timeout(30):
                    await test

            runner.run(bounded())

        yield go


Run = Callable[[Awaitable[None]], None]


def test_options_as_ovmf_asks_them_and_then_aborts(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            wire = Wire(port)
            wire.ask(b"big", b"tsize", b"0", b"blksize", b"1468", b"windowsize", b"4")
            assert await wire.get() == b"\0\6tsize\x003000017\0blksize\x001468\0windowsize\x004\0"
            wire.sock.sendto(b"\0\5\0\x08User aborted the transfer\0", wire.tid)
            while server.active:
                await asyncio.sleep(0.01)

    run(test())


def test_a_window_and_its_ports(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            wire = Wire(port)
            wire.ask(b"//big", b"blksize", b"1468", b"windowsize", b"4")
            await wire.get()
            assert wire.tid[1] in server._ports
            wire.ack(0)
            for number in range(1, 5):
                assert await wire.get() == b"\0\3" + number.to_bytes(2) + BIG[(number - 1) * 1468 : number * 1468]
            assert await wire.silent()

    run(test())


def test_a_repeated_request_is_answered_from_the_same_transfer(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            wire = Wire(port)
            wire.ask(b"small", b"tsize", b"0")
            first = await wire.get()
            tid = wire.tid
            wire.ask(b"small", b"tsize", b"0")
            assert await wire.get() == first
            assert wire.tid == tid
            assert server.active == 1

    run(test())


def test_a_new_request_for_the_same_file_replaces_one_that_is_quiet(run: Run) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            one, two = Wire(port), Wire(port)
            one.ask(b"big")
            await one.get()
            await one.get()  # sent again, since a second has gone by
            two.ask(b"big")
            assert await two.get() == b"\0\3\0\1" + BIG[:512]
            one.ack(1)
            assert await one.silent()
            assert server.active == 1
            two.ack(1)
            assert (await two.get())[:4] == b"\0\3\0\2"

    run(test())


def test_a_request_in_the_name_of_another_does_not_disturb_a_transfer(run: Run) -> None:
    """From the same address for the same file, by another port; and a late copy from the very same port."""

    async def test() -> None:
        async with serving() as (server, port):
            wire, forger = Wire(port), Wire(port)
            wire.ask(b"big")
            await wire.get()
            for number in range(1, 200):
                if number % 10 == 2:
                    forger.ask(b"big")
                    assert (await forger.get())[:4] == b"\0\3\0\1"
                    wire.ask(b"big")
                wire.ack(number)
                assert await wire.get() == b"\0\3" + (number + 1).to_bytes(2) + BIG[number * 512 :][:512]
            assert server.active == 2

    run(test())


def test_lost_packets_are_sent_again(run: Run) -> None:
    async def test() -> None:
        async with serving() as (_, port):
            wire = Wire(port)
            wire.ask(b"small")
            first = await wire.get()
            assert await wire.get(1.5) == first

    run(test())


@pytest.mark.parametrize(
    ("name", "mode", "op", "answer"),
    [
        (b"nothing", b"octet", 1, b"\0\5\0\1file not found\0"),
        (b"secret", b"octet", 1, b"\0\5\0\2No secret for you\0"),
        (b"broken", b"octet", 1, b"\0\5\0\0the server has a problem; see its log\0"),
        (b"bug", b"octet", 1, b"\0\5\0\0internal error\0"),
        (b"../etc/shadow", b"octet", 1, b"\0\5\0\2bad file name\0"),
        (b"small", b"octet", 2, b"\0\5\0\2this server is read-only\0"),
        (b"small", b"netascii", 1, b"\0\5\0\4only mode octet (binary) is served\0"),
        (b"small", b"mail", 1, b"\0\5\0\4only mode octet (binary) is served\0"),
    ],
)
def test_refusals(run: Run, name: bytes, mode: bytes, op: int, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as (server, port):
            wire = Wire(port)
            wire.ask(name, mode=mode, op=op)
            assert await wire.get() == answer
            assert server.active == 0

    run(test())
    assert "canary-secret" not in caplog.text


def test_answers_to_the_main_port_are_not_answered(run: Run) -> None:
    async def test() -> None:
        async with serving() as (_, port):
            wire = Wire(port)
            for data in (b"\0\5\0\0x\0", b"\0\4\0\1", b"\0\3\0\1abc", b"", b"\0", b"\0\6"):
                wire.sock.sendto(data, wire.server)
            assert await wire.silent()

    run(test())


def test_a_stranger_cannot_touch_a_transfer(run: Run) -> None:
    async def test() -> None:
        async with serving() as (_, port):
            wire, stranger = Wire(port), Wire(port)
            wire.ask(b"big")
            await wire.get()
            stranger.tid = wire.tid
            stranger.ack(1)
            stranger.sock.sendto(b"\0\5\0\0die\0", wire.tid)
            assert await stranger.silent()
            wire.ack(1)
            assert (await wire.get())[:4] == b"\0\3\0\2"

    run(test())


def test_a_greedy_peer_loses_its_oldest(run: Run) -> None:
    async def test() -> None:
        async with serving(per_peer=2) as (server, port):
            wires = [Wire(port) for _ in range(3)]
            for wire, name in zip(wires, (b"big", b"block", b"small"), strict=True):
                wire.ask(name)
                await wire.get()
            assert sorted(path for _, path in server._slots) == ["block", "small"]

    run(test())


def test_a_full_server_drops_requests_until_a_dead_one_gives_way(run: Run) -> None:
    async def test() -> None:
        async with serving(ports=2) as (server, port):
            alive, dead, late = Wire(port), Wire(port), Wire(port)
            alive.ask(b"big")
            await alive.get()
            alive.ack(1)
            dead.ask(b"block")
            await dead.get()
            late.ask(b"small")
            assert await late.silent()
            await asyncio.sleep(1.0)
            late.ask(b"small")
            assert (await late.get())[4:] == FILES["small"]
            assert sorted(path for _, path in server._slots) == ["big", "small"]

    run(test())


class Slow:
    """A content whose bytes are never in the page cache."""

    def __init__(self, data: bytes, fail_at: int = 1 << 60) -> None:
        self.data, self.fail_at, self.closed = data, fail_at, 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read_now(self, offset: int, length: int) -> bytes | None:
        return None

    def read(self, offset: int, length: int) -> bytes:
        if offset >= self.fail_at:
            raise Unavailable("base file disk.img", "ends at byte 7")
        return self.data[offset : offset + length]

    def close(self) -> None:
        self.closed += 1


def test_cold_content_progress_and_the_end(run: Run) -> None:
    async def test() -> None:
        slow, seen = Slow(BIG[:200_000]), list[int]()

        async def handler(request: TftpRequest) -> Answer:
            return Answer(slow, seen.append)

        async with serving(handler) as (server, port):
            wire, got, number = Wire(port), b"", 0
            wire.ask(b"x", b"blksize", b"1024")
            await wire.get()
            while len(got) % 1024 == 0:
                wire.ack(number)
                data = await wire.get()
                got, number = got + data[4:], number + 1
            wire.ack(number)
            while server.active:
                await asyncio.sleep(0.01)
        assert got == slow.data
        assert seen == sorted(seen)
        assert len(seen) > 2
        assert (seen[-1], slow.closed) == (200_000, 1)

    run(test())


def test_a_file_that_breaks_midway_ends_the_transfer(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        slow = Slow(BIG[:200_000], fail_at=60_000)

        async def handler(request: TftpRequest) -> Answer:
            return Answer(slow)

        async with serving(handler) as (server, port):
            wire, number = Wire(port), 0
            wire.ask(b"x", b"blksize", b"1024")
            data = await wire.get()
            while data[1] != 5:
                wire.ack(number)
                data, number = await wire.get(), number + 1
            assert data == b"\0\5\0\0the server has a problem; see its log\0"
            assert (server.active, slow.closed) == (0, 1)

    run(test())
    assert "base file disk.img: ends at byte 7" in caplog.text


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=600), st.binary(max_size=30).map(lambda b: b"\0\1" + b)), max_size=5))
def test_no_packet_crashes_the_server(packets: list[bytes]) -> None:
    async def test() -> None:
        async with serving() as (server, _):
            for data in packets:
                try:
                    server._request(data, ("127.0.0.1", 9))
                except Exception as error:
                    assert type(error).__name__ == "TftpError"
            await asyncio.sleep(0)

    asyncio.run(test())
