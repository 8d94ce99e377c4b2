"""Whose handshake has a place, and whose oldest one goes."""

from __future__ import annotations

import socket
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from provision.web.handshakes import Handshake, Handshakes

NOWHERE = socket.socket()


def fill(all_of: Handshakes, peers: str) -> list[Handshake]:
    ones = [Handshake(NOWHERE, peer) for peer in peers]
    for one in ones:
        all_of.admit(one)
    return ones


def test_a_peer_has_its_newest() -> None:
    all_of = Handshakes(total=100, per_peer=3)
    ones = fill(all_of, "aaa")
    new = Handshake(NOWHERE, "a")
    assert all_of.admit(new) == (True, ones[0])
    assert list(all_of) == [*ones[1:], new]


def test_who_has_most_gives_way_to_who_has_fewer_at_once() -> None:
    all_of = Handshakes(total=6, per_peer=4)
    ones = fill(all_of, "aaaabb")
    assert all_of.admit(Handshake(NOWHERE, "c")) == (True, ones[0])
    assert all_of.admit(Handshake(NOWHERE, "c")) == (True, ones[1])
    assert all_of.admit(Handshake(NOWHERE, "c")) == (False, None), "two each; nobody has more"
    assert len(all_of) == 6


def test_what_has_left_is_gone() -> None:
    all_of = Handshakes(total=2, per_peer=2)
    (one,) = fill(all_of, "a")
    all_of.leave(one)
    all_of.leave(one)
    assert len(all_of) == 0 and list(all_of) == []


@given(st.lists(st.sampled_from("aaaaaaaabc"), max_size=60))
def test_the_bounds_hold_and_everybody_gets_in(peers: list[str]) -> None:
    all_of = Handshakes(total=9, per_peer=5)
    for peer in peers:
        new = Handshake(NOWHERE, peer)
        fits, _ = all_of.admit(new)
        count = Counter(one.peer for one in all_of)
        assert count.total() == len(all_of) <= 9 and max(count.values(), default=0) <= 5
        assert fits == (new in list(all_of))
        assert fits or count[peer] >= 3, "only who has its share already is refused"
