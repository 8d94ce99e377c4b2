"""The transport over real sockets and OpenSSL at the other end: whole bytes, bounded turns and memory, honest ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from provision.tls.context import load
from provision.web import encrypted
from provision.web.encrypted import Encrypted, shake_hands
from tests.helpers.certificates import root, server, write_pair
from tests.helpers.tls_ends import Ends, Protocol, connected, unshaken

MIB = 1024 * 1024
TURN, PIECE = 256 * 1024, 64 * 1024
RECORD = 16 * 1024


Run = Callable[[Callable[[Ends], Awaitable[None]]], None]


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return load([write_pair(tmp_path, server())]).context


@pytest.fixture
def run(context: ssl.SSLContext) -> Callable[..., None]:
    def run(body: Callable[[Ends], Awaitable[None]], small: bool = False, kind: type[Protocol] = Protocol) -> None:
        async def whole() -> None:
            async with connected(context, kind(), small) as ends:
                await body(ends)

        uvloop.run(whole())

    return run


def test_bytes_go_both_ways(run: Run) -> None:
    async def body(ends: Ends) -> None:
        sent = os.urandom(3 * MIB + 5)
        writing = asyncio.create_task(asyncio.to_thread(ends.client.sendall, sent))
        await ends.protocol.wait(lambda: len(ends.protocol.received) == len(sent))
        assert ends.protocol.received == sent
        await writing
        ends.transport.write(b"")
        ends.transport.writelines([b"hel", bytearray(b"lo")])
        assert await asyncio.to_thread(ends.read, 5) == b"hello"
        assert ends.protocol.calls == ["made"]

    run(body)


def test_what_is_known_of_the_connection(run: Run) -> None:
    async def body(ends: Ends) -> None:
        known = ends.transport.get_extra_info
        assert known("sslcontext") is ends.context and known("certificate") is None and known("other", 7) == 7
        assert known("socket").getpeername() == ends.client.getsockname()
        assert known("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not ends.transport.can_write_eof()

    run(body)


def test_a_client_certificate_is_known_to_the_end(tmp_path: Path) -> None:
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    own = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=proxy"]
    subprocess.run(
        ["openssl", "req", "-x509", *own, "-out", certificate, "-keyout", key], check=True, capture_output=True
    )
    context = load([write_pair(tmp_path, server())], certificate).context

    async def main() -> None:
        trusting = ssl.create_default_context(cadata=root().pem().decode())
        trusting.load_cert_chain(certificate, key)
        async with connected(context, Protocol(), trusting=trusting) as ends:
            ends.client.close()
            await ends.protocol.wait_for("lost")
            assert ends.transport.get_extra_info("certificate") == ssl.PEM_cert_to_DER_cert(certificate.read_text())

    uvloop.run(main())


def test_a_slow_reader_holds_the_writer_up(run: Callable[..., None]) -> None:
    """All bytes come, in their order, and never are there more in memory than one write above the limit."""

    async def body(ends: Ends) -> None:
        transport, protocol, digest, most = ends.transport, ends.protocol, hashlib.sha256(), 0
        transport.set_write_buffer_limits(high=8192)
        assert transport.get_write_buffer_limits() == (2048, 8192)
        size, left, found = 6_000_000, 6_000_000, b""
        while len(found) < size:
            while left and protocol.writable.is_set():
                data = os.urandom(min(left, 1 + left % 40_000))
                digest.update(data)
                transport.write(data)
                left -= len(data)
                most = max(most, transport.get_write_buffer_size())
            # Nobody reads before the writer is held up: whoever is the faster one here, that is so.
            found += await asyncio.to_thread(ends.read, size - left - len(found))
        assert hashlib.sha256(found).digest() == digest.digest()
        assert 8192 < most <= 8192 + 40_000
        assert protocol.calls.count("pause") == protocol.calls.count("resume") > 10

    run(body, small=True)


def test_a_buffer_may_be_used_again_when_it_has_gone(run: Callable[..., None]) -> None:
    async def body(ends: Ends) -> None:
        ends.transport.set_write_buffer_limits(high=0)
        reading = asyncio.create_task(asyncio.to_thread(ends.read, 50 * 100_000))
        buffer = memoryview(bytearray(100_000))
        for number in range(50):
            await asyncio.wait_for(ends.protocol.writable.wait(), 20)
            assert not ends.transport.get_write_buffer_size()
            buffer[:] = bytes([number]) * len(buffer)
            ends.transport.write(buffer)
        assert await reading == b"".join(bytes([number]) * 100_000 for number in range(50))
        assert "pause" in ends.protocol.calls

    run(body, small=True)


def test_others_have_their_turn(run: Run) -> None:
    """A reader as fast as we are never makes the socket full, and nobody else may wait for it."""

    async def body(ends: Ends) -> None:
        reading = asyncio.create_task(asyncio.to_thread(ends.read, 8 * MIB))
        size = 8 * MIB
        ends.transport.write(bytes(size))
        while size:
            left = ends.transport.get_write_buffer_size()
            # What the socket had no room for may come in the same round of the loop as the next turn.
            assert size - left <= 2 * (TURN + PIECE)
            size = left
            await asyncio.sleep(0)
        assert await reading == bytes(8 * MIB)

    run(body)


def test_closing_gives_what_was_written_and_says_so(run: Callable[..., None]) -> None:
    async def body(ends: Ends) -> None:
        ends.transport.write(b"x" * MIB)
        ends.transport.close()
        assert ends.transport.is_closing() and not ends.transport.is_reading()
        ends.transport.write(b"too late")
        ends.transport.close()
        # Without its last alert the client would raise SSLEOFError here.
        assert await asyncio.to_thread(ends.read, 2 * MIB) == b"x" * MIB
        assert "lost" not in ends.protocol.calls, "the peer may still be speaking"
        ends.transport.write(b"later still")
        with suppress(OSError):
            await asyncio.to_thread(ends.client.unwrap)
        ends.client.close()
        await ends.protocol.wait_for("lost")
        assert ends.protocol.lost is None and not ends.protocol.received

    run(body, small=True)


def test_a_peer_that_goes_on_sending_hears_the_answer(run: Run) -> None:
    """Closed with bytes unread the connection would be reset, and the answer lost."""

    async def body(ends: Ends) -> None:
        ends.transport.write(b"413")
        ends.transport.close()
        await asyncio.to_thread(ends.client.sendall, bytes(4 * MIB))
        assert await asyncio.to_thread(ends.read, 100) == b"413"
        assert not ends.protocol.received

    run(body)


def test_a_peer_hears_the_answer_though_bytes_wait_unread(run: Run) -> None:
    """To OpenSSL these are an error, once we have said the last."""

    async def body(ends: Ends) -> None:
        ends.transport.pause_reading()
        await asyncio.to_thread(ends.client.sendall, bytes(64 * 1024))
        ends.transport.write(b"413")
        ends.transport.close()
        await asyncio.sleep(0)
        assert "lost" not in ends.protocol.calls, "it was reset"
        await asyncio.to_thread(ends.client.sendall, bytes(4 * MIB))
        assert await asyncio.to_thread(ends.read, 100) == b"413"
        assert not ends.protocol.received

    run(body)


def test_hearing_out_has_its_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted, "_FAREWELL_SECONDS", 0.1)

    async def body(ends: Ends) -> None:
        ends.transport.close()
        await ends.protocol.wait_for("lost")
        assert ends.protocol.lost is None

    run(body)


def test_aborting_is_at_once_and_no_clean_end(run: Callable[..., None]) -> None:
    async def body(ends: Ends) -> None:
        ends.transport.write(bytes(MIB))
        assert ends.transport.get_write_buffer_size()
        ends.transport.abort()
        assert ends.transport.is_closing() and not ends.transport.get_write_buffer_size()
        assert "lost" not in ends.protocol.calls, "never within a call of the protocol's own"
        ends.transport.write(b"more")
        ends.transport.resume_reading()
        assert not ends.transport.is_reading()
        with pytest.raises(OSError):
            await asyncio.to_thread(ends.read, 2 * MIB)

    run(body, small=True)


@pytest.mark.parametrize("is_said", [True, False])
def test_the_peers_end_is_ours(run: Run, is_said: bool) -> None:
    async def body(ends: Ends) -> None:
        if is_said:
            ends.client.settimeout(0)
            with suppress(ssl.SSLWantReadError):
                ends.client.unwrap()
        else:
            ends.client.close()
        await ends.protocol.wait_for("eof")
        assert ends.transport.is_closing()
        ends.client.close()
        await ends.protocol.wait_for("lost")
        assert ends.protocol.lost is None

    run(body)


def test_a_reset_is_the_end_of_reader_and_writer(run: Callable[..., None]) -> None:
    async def body(ends: Ends) -> None:
        ends.transport.write(bytes(MIB))
        ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends.client.close()
        await ends.protocol.wait_for("lost")
        assert isinstance(ends.protocol.lost, OSError)

    run(body, small=True)


def test_a_reset_behind_bytes_is_the_end_too(run: Run) -> None:
    async def body(ends: Ends) -> None:  # the loop tells once of both
        ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        ends.client.sendall(b"bytes")
        ends.client.close()
        await ends.protocol.wait_for("lost")
        assert ends.protocol.received == b"bytes"

    run(body)


def test_what_is_no_record_ends_the_connection(run: Run) -> None:
    async def body(ends: Ends) -> None:
        with socket.socket(fileno=os.dup(ends.client.fileno())) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await ends.protocol.wait_for("lost")
        assert isinstance(ends.protocol.lost, ssl.SSLError) and not ends.protocol.received

    run(body)


def test_nothing_is_read_while_that_is_paused(run: Run) -> None:
    async def body(ends: Ends) -> None:
        ends.transport.pause_reading()
        ends.transport.pause_reading()
        assert not ends.transport.is_reading()
        await asyncio.to_thread(ends.client.sendall, b"asked")
        readable = asyncio.Event()
        with socket.socket(fileno=os.dup(ends.ours.fileno())) as same:  # its bytes are here, and stay
            asyncio.get_running_loop().add_reader(same, readable.set)
            await asyncio.wait_for(readable.wait(), 20)
            asyncio.get_running_loop().remove_reader(same)
        assert not ends.protocol.received
        ends.transport.resume_reading()
        await ends.protocol.wait(lambda: ends.protocol.received == b"asked")

    run(body)


def test_a_protocol_may_pause_within_its_bytes(run: Callable[..., None]) -> None:
    class Paused(Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def body(ends: Ends) -> None:
        await asyncio.to_thread(ends.client.sendall, bytes(4 * RECORD))
        for number in range(1, 5):
            await ends.protocol.wait(lambda number=number: len(ends.protocol.received) == number * RECORD)
            assert not ends.transport.is_reading()
            ends.transport.resume_reading()

    run(body, kind=Paused)


def test_a_protocol_that_fails_ends_its_connection(run: Callable[..., None]) -> None:
    class Failing(Protocol):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("a mistake")

    async def body(ends: Ends) -> None:
        told = list[Any]()
        asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what["exception"]))
        await asyncio.to_thread(ends.client.sendall, b"x")
        await ends.protocol.wait_for("lost")
        assert [type(error) for error in told] == [RuntimeError]

    run(body, kind=Failing)


@pytest.mark.parametrize(
    ("version", "command", "goes_on"),
    [("-tls1_3", b"K\n", True), ("-tls1_3", b"k\n", True), ("-tls1_2", b"R\n", False)],
    ids=["keys of both", "keys of one", "renegotiation"],
)
def test_new_keys_are_taken_and_no_renegotiation(
    context: ssl.SSLContext, version: str, command: bytes, goes_on: bool
) -> None:
    class Echo(Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(data.upper())

    async def main() -> None:
        loop, protocol = asyncio.get_running_loop(), Echo()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            argv = ["openssl", "s_client", version, "-connect", f"127.0.0.1:{listening.getsockname()[1]}"]
            pipe = asyncio.subprocess.PIPE
            client = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
            assert client.stdin and client.stdout and client.stderr
            accepted, _ = await loop.sock_accept(listening)
        ours = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        await asyncio.wait_for(shake_hands(ours), 20)
        transport = Encrypted(ours, protocol)
        transport.begin()
        client.stdin.write(b"before\n")
        async with asyncio.timeout(20):
            while await client.stdout.readline() != b"BEFORE\n":
                pass
            client.stdin.write(command)
            if goes_on:
                while b"KEYUPDATE" not in await client.stderr.readline():
                    pass
                client.stdin.write(b"after\n")
                while await client.stdout.readline() != b"AFTER\n":
                    pass
                transport.close()
        await protocol.wait_for("lost")
        assert bytes(protocol.received) == b"before\n" + b"after\n" * goes_on
        await client.communicate()

    uvloop.run(main())


def test_a_handshake_that_is_given_up_leaves_the_socket_alone(context: ssl.SSLContext) -> None:
    async def main() -> None:
        loop, (ours, plain) = asyncio.get_running_loop(), unshaken(context)
        with ours, plain:
            task = asyncio.create_task(shake_hands(ours))
            await asyncio.sleep(0)
            plain.sendall(b"\x16\x03\x01")
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not loop.remove_reader(ours.fileno()), "nothing is waited for any more"
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ssl.SSLError):
                await asyncio.wait_for(shake_hands(ours), 20)

    uvloop.run(main())
