"""The state machine of a transfer, against clients that lose, repeat and reorder."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.tftp.packet import Terms
from provision.tftp.transfer import NOTHING, RETRIES, Transfer

OACK = (("tsize", "1"),)


def test_lockstep() -> None:
    t = Transfer(1025, Terms(512))
    assert t.start() == (1, 1)
    assert not t.answered
    assert t.ack(1) == (2, 2)
    assert t.answered
    assert t.ack(2) == (3, 3)
    assert t.acknowledged == 1024
    assert t.ack(3) == NOTHING
    assert t.finished


def test_a_full_last_block_is_followed_by_an_empty_one() -> None:
    t = Transfer(512, Terms(512))
    assert (t.start(), t.ack(1)) == ((1, 1), (2, 2))
    t.ack(2)
    assert t.finished


def test_an_empty_file_is_one_empty_block() -> None:
    t = Transfer(0, Terms(512))
    assert t.start() == (1, 1)
    t.ack(1)
    assert t.finished


def test_the_oack_is_block_zero() -> None:
    t = Transfer(600, Terms(512, acknowledged=OACK))
    assert t.start() == (0, 0)
    assert t.timeout() == (0, 0)
    assert t.ack(5) == NOTHING
    assert not t.answered
    assert t.ack(0) == (1, 1)
    assert t.answered
    assert t.ack(0) == NOTHING


def test_a_repeated_ack_sends_nothing_in_lockstep() -> None:
    t = Transfer(5000, Terms(512))
    t.start()
    assert t.ack(1) == (2, 2)
    assert [t.ack(1), t.ack(0), t.ack(1), t.ack(3), t.ack(65535)] == [NOTHING] * 5
    assert t.ack(2) == (3, 3)


def test_a_window_moves_and_rewinds() -> None:
    t = Transfer(512 * 100, Terms(512, window=4, acknowledged=OACK))
    t.start()
    assert t.ack(0) == (1, 4)
    assert t.ack(4) == (5, 8)
    assert t.ack(6) == (7, 10)  # 7 was lost; 8 came out of order
    assert t.ack(6) == (7, 10)  # 7 was lost again: believed once
    assert t.ack(6) == NOTHING  # and then only the clock is
    assert t.timeout() == (7, 10)
    assert t.ack(10) == (11, 14)
    assert t.ack(9) == NOTHING


def test_blocks_go_on_past_65535() -> None:
    t = Transfer(70000 * 8, Terms(8))
    t.start()
    for number in range(1, 70001):
        assert t.ack(number & 0xFFFF) == (number + 1, number + 1)
    t.ack(70001 & 0xFFFF)
    assert t.finished


def test_backs_off_and_gives_up() -> None:
    t = Transfer(600, Terms(512))
    t.start()
    waits = []
    while not t.failed:
        waits.append(t.wait)
        t.timeout()
    assert waits == [1, 2, 4, 8, 8, 8, 8]
    assert len(waits) == RETRIES + 1
    assert t.timeout() == NOTHING
    assert t.ack(1) == NOTHING


def test_an_ack_resets_the_backoff() -> None:
    t = Transfer(6000, Terms(512, timeout=3.0))
    t.start()
    t.timeout()
    assert t.wait == 6
    t.ack(1)
    assert t.wait == 3


class Client:
    """RFC 7440's receiver: acknowledges the end of a window, or the last block in order when one is missing."""

    def __init__(self, terms: Terms) -> None:
        self.terms, self.got, self.since = terms, 0, 0
        self.complained = False

    def data(self, number: int) -> int | None:
        if number == 0:
            return self.got
        if number != self.got + 1:
            self.since = 0
            if self.complained and self.terms.window > 1:
                return None
            self.complained = True
            return self.got
        self.got, self.complained = number, False
        self.since += 1
        if self.since == self.terms.window:
            self.since = 0
            return self.got
        return None


@pytest.mark.parametrize("window", [1, 2, 4, 64])
@pytest.mark.parametrize("with_oack", [True, False])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), loss=st.floats(0, 0.3), size=st.integers(0, 5000))
def test_every_byte_arrives_in_order_whatever_is_lost(
    window: int, with_oack: bool, seed: int, loss: float, size: int
) -> None:
    chance = random.Random(seed)
    terms = Terms(64, window, 1.0, OACK if with_oack else ())
    server, client = Transfer(size, terms), Client(terms)
    last, first_block = size // 64 + 1, server.start()
    sent, steps, blocks = 0, 0, [first_block]
    while not server.finished and steps < 20000:
        steps += 1
        acks: list[int] = []
        for low, high in blocks:
            for number in range(low, high + 1):
                sent += 1
                assert number <= last
                if chance.random() < loss:
                    continue
                answer = client.data(number)
                if answer is None and client.got == last:
                    answer = last
                if answer is not None and chance.random() >= loss:
                    acks += [answer] * (2 if chance.random() < 0.2 else 1)
        blocks = [server.ack(a & 0xFFFF) for a in acks]
        if all(low > high for low, high in blocks) and not server.finished:
            server._timeouts = 0  # the clock is not what this is about
            client.complained, client.since = False, 0  # its clock ran out too
            blocks = [server.timeout()]
    assert server.finished
    assert client.got == last
    if loss == 0 and window == 1:
        assert sent <= last + 1
