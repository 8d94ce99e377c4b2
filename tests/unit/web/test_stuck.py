"""A call that does not come back, by a read that really waits; and calls that do, which nobody ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from provision.web.stuck import Stuck


@contextmanager
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname(), 20) as peer,
    ):
        ours, _ = listening.accept()
        with ours:
            yield ours, peer


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    found = Stuck(0.02)
    found.start()
    yield found
    found.stop()


def test_a_read_that_does_not_come_back_is_ended(stuck: Stuck) -> None:
    with ends() as (ours, peer):
        stuck.reading = (ours,)
        with suppress(OSError):
            assert ours.recv(1) == b""
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_reads_that_come_back_are_left_alone_however_many(stuck: Stuck) -> None:
    with ends() as (ours, peer):
        for _ in range(20):
            with ends() as (slow, _):
                stuck.reading = (slow,)
                with suppress(OSError):
                    slow.recv(1)  # until somebody has looked, twice
            stuck.reading = (ours,)
            peer.send(b"x")
            assert ours.recv(1) == b"x"
            stuck.reading = None


def test_nobody_looks_any_more_when_it_is_over() -> None:
    stuck = Stuck(0.01)
    stuck.start()
    (looking,) = (one for one in threading.enumerate() if one.name == "stuck")
    stuck.stop()
    looking.join(20)
    assert not looking.is_alive()
