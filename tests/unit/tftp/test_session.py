"""Secret content over TFTP: it is charged whatever comes, and nothing is sent before that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from provision.errors import Gone
from provision.media.content import Memory
from provision.tftp.server import TftpRequest
from provision.tftp.session import Answer
from tests.unit.tftp.test_server import BIG, Run, Wire, run, serving

__all__ = ["run"]
ERROR = b"\0\5\0\0stop\0"


class Watched:
    """A delivery that lets its steps be held up; the client does not answer the next `absent` questions."""

    def __init__(self) -> None:
        self.charged = self.ended = self.absent = 0
        self.may_charge, self.may_answer = asyncio.Event(), asyncio.Event()
        self.asked, self.charging = asyncio.Event(), asyncio.Event()
        self.may_charge.set()
        self.may_answer.set()

    def guard(self, sock: socket.socket) -> None:
        """What comes over loopback has no MAC."""

    def check(self) -> None:
        """It may always go."""

    async def acknowledged(self) -> None:
        self.charging.set()
        await self.may_charge.wait()
        self.charged += 1

    async def reconfirm(self) -> bool:
        self.asked.set()
        await self.may_answer.wait()
        self.absent -= 1
        return self.absent < 0

    def taken(self, sent: range) -> None:
        """Nobody counts it."""

    def end(self) -> None:
        self.ended += 1


def of(delivery: Watched, size: int = 5000) -> Callable[[TftpRequest], asyncio.Future[Answer]]:
    async def handler(request: TftpRequest) -> Answer:
        return Answer(Memory(BIG[:size]), delivery=delivery)

    return handler  # type: ignore[return-value]


def test_an_error_right_behind_the_acknowledgment_spares_nobody_the_charge(run: Run) -> None:
    async def test() -> None:
        delivery = Watched()
        async with serving(of(delivery)) as (server, port):
            wire = Wire(port)
            wire.ask(b"seed", b"windowsize", b"64")
            await wire.get()
            wire.ack(0)
            for _ in range(10):
                await wire.get()
            wire.ack(10)
            wire.sock.sendto(ERROR, wire.tid)
            while server.active or not delivery.charged:
                await asyncio.sleep(0.002)
            assert (delivery.charged, delivery.ended) == (1, 1)

    run(test())


def test_nothing_is_sent_before_the_charge_whatever_else_is_under_way(run: Run) -> None:
    """The client is being asked whether it is there, because somebody repeated its request, when it acknowledges."""

    async def test() -> None:
        delivery = Watched()
        delivery.may_charge.clear()
        delivery.may_answer.clear()
        async with serving(of(delivery)) as (_, port):
            wire = Wire(port)
            wire.ask(b"seed")
            await wire.get()
            wire.ask(b"seed")
            await delivery.asked.wait()
            wire.ack(1)
            await delivery.charging.wait()
            delivery.may_answer.set()
            assert await wire.silent(), "it is not charged yet"
            delivery.may_charge.set()
            assert (await wire.get())[:4] == b"\0\3\0\2"

    run(test())


def test_an_acknowledgment_of_the_options_is_not_forgotten(run: Run) -> None:
    async def test() -> None:
        delivery = Watched()
        delivery.may_answer.clear()
        async with serving(of(delivery)) as (server, port):
            wire = Wire(port)
            wire.ask(b"seed", b"timeout", b"30")
            await wire.get()
            wire.ask(b"seed", b"timeout", b"30")
            await delivery.asked.wait()
            wire.ack(0)
            (slot,) = server._slots.values()
            while slot.session is None or not slot.session.transfer.answered:
                await asyncio.sleep(0.002)
            delivery.may_answer.set()
            assert (await wire.get())[:4] == b"\0\3\0\1"

    run(test())


def test_copies_of_a_request_do_not_keep_its_transfer_alive(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.tftp.transfer.RETRIES", 0)

    async def test() -> None:
        delivery = Watched()
        async with serving(of(delivery)) as (_, port):
            wire = Wire(port)
            async with asyncio.timeout(10):
                while not delivery.ended:
                    wire.ask(b"seed")
                    await asyncio.sleep(0.01)

    run(test())


def test_a_client_that_is_away_for_a_while_gets_the_rest(run: Run) -> None:
    async def test() -> None:
        delivery = Watched()
        delivery.absent, delivery.may_answer = 2, asyncio.Event()
        async with serving(of(delivery)) as (_, port):
            wire = Wire(port)
            wire.ask(b"seed", b"timeout", b"1")
            assert (await wire.get())[:2] == b"\0\6"
            wire.ack(0)
            assert (await wire.get())[:4] == b"\0\3\0\1"
            await delivery.asked.wait()
            wire.ack(1)
            delivery.may_answer.set()
            while delivery.absent > 0:
                assert await wire.silent(0.01), "it has not said that it is there"
            assert (await wire.get())[:4] == b"\0\3\0\2"
            assert not delivery.ended

    run(test())


def test_a_client_that_stays_away_is_given_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.tftp.session._ABSENT_SECONDS", 0.3)

    async def test() -> None:
        delivery = Watched()
        delivery.absent = 1000
        async with serving(of(delivery)) as (server, port):
            wire = Wire(port)
            wire.ask(b"seed")
            await wire.get()
            while server.active:
                await asyncio.sleep(0.01)
            assert delivery.ended == 1 and delivery.absent < 999, "it is asked more than once"
            assert await wire.silent()

    run(test())


def test_a_client_that_is_away_is_asked_no_more_when_it_may_get_nothing(run: Run) -> None:
    class Withdrawn(Watched):
        def check(self) -> None:
            if self.asked.is_set():
                raise Gone("node7", "what it was to get has been withdrawn", "power-cycle the host")

    async def test() -> None:
        delivery = Withdrawn()
        delivery.absent = 1000
        async with serving(of(delivery)) as (server, port):
            wire = Wire(port)
            wire.ask(b"seed")
            await wire.get()
            while server.active:
                await asyncio.sleep(0.01)
            assert (delivery.ended, delivery.absent) == (1, 999)

    run(test())
