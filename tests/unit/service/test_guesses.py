"""Who has asked in vain too often has to wait, and nobody else."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from provision.errors import TooMany
from provision.service import guesses
from provision.service.guesses import AT_ONCE, SECONDS, Guesses

A, B = ip_address("10.0.0.1"), ip_address("10.0.0.2")


class Monotonic:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_peer_has_so_many_and_waits_out_the_minute() -> None:
    clock = Monotonic()
    limiter = Guesses(clock)
    for _ in range(AT_ONCE):
        limiter.require(A)
        limiter.note(A)
    clock.now += 20
    with pytest.raises(TooMany) as error:
        limiter.require(A)
    assert (error.value.status, error.value.seconds) == (429, 40)
    limiter.require(B)
    clock.now += SECONDS - 20
    limiter.require(A)
    limiter.note(A)
    limiter.require(A)


def test_addresses_of_one_subnet_are_one_peer() -> None:
    limiter = Guesses(Monotonic())
    for number in range(AT_ONCE):
        limiter.note(ip_address(f"2001:db8::{number:x}"))
    with pytest.raises(TooMany):
        limiter.require(ip_address("2001:db8::ffff:1"))
    limiter.require(ip_address("2001:db8:0:1::1"))


def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "_PEERS", 3)
    limiter = Guesses(Monotonic())
    for _ in range(AT_ONCE):
        limiter.note(A)
    for last in range(10, 14):
        limiter.note(ip_address(f"10.0.0.{last}"))
    limiter.require(A)
