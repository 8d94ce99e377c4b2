"""Proofs that have begun: one of each host, of its own machine, for some minutes, and not too many."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from provision.service.unfinished import LIFETIME, Begun, Unfinished
from provision.tpm import public
from tests.helpers.site_fixture import MAC1, MAC2
from tests.helpers.store_samples import NOW

KEY = public.parse(public.signing_key(ec.derive_private_key(7, ec.SECP256R1()).public_key()), "key")


def begun(mac: str = MAC1, **fields: Any) -> Begun:
    values: dict[str, Any] = {"at": NOW, "nonce": b"n"} | fields
    return Begun(mac=mac, attestation=KEY, **values)


def test_it_is_there_for_its_machine_and_some_minutes() -> None:
    unfinished, one = Unfinished[Begun](), begun()
    unfinished.put("n1", one)
    assert unfinished.find("n1", MAC1, NOW) is one and unfinished.find("n1", MAC1, NOW + LIFETIME / 2) is one
    assert unfinished.find("n1", MAC2, NOW) is None and unfinished.find("n2", MAC1, NOW) is None
    for moment in (NOW + LIFETIME, NOW - LIFETIME):
        assert unfinished.find("n1", MAC1, moment) is None


def test_it_ends_once_and_a_new_one_takes_its_place() -> None:
    unfinished, first, second = Unfinished[Begun](), begun(), begun()
    unfinished.put("n1", first)
    unfinished.put("n1", second)
    assert not unfinished.end("n1", first) and unfinished.find("n1", MAC1, NOW) is second
    assert unfinished.end("n1", second) and not unfinished.end("n1", second)


def test_of_too_many_the_oldest_ends() -> None:
    unfinished = Unfinished[Begun](2)
    for number in range(3):
        unfinished.put(f"n{number}", begun(at=NOW + timedelta(seconds=number)))
    found = [unfinished.find(f"n{number}", MAC1, NOW) is not None for number in range(3)]
    assert found == [False, True, True]


def test_a_log_comes_in_parts() -> None:
    unfinished, one = Unfinished[Begun](), begun()
    assert unfinished.add(one, 0, b"abc", 6) and unfinished.add(one, 3, b"de", 6)
    assert unfinished.add(one, 3, b"de", 6), "the same once more"
    assert not unfinished.add(one, 6, b"x", 9) and not unfinished.add(one, 5, b"xy", 6)
    assert bytes(one.log) == b"abcde"
