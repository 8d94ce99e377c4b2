"""Sealed secrets open in their own place, with their own key."""

from __future__ import annotations

import pytest

from provision.errors import Unavailable
from provision.secret import Secret
from provision.store.seal import Place, seal, unseal

KEY = Secret(bytes(range(32)))
PLACE = Place("id-1", "n1", "tls", 3, "key", "/etc/tls.key", "0600")


def test_seal_and_open() -> None:
    first, second = seal(KEY, PLACE, Secret(b"canary")), seal(KEY, PLACE, Secret(b"canary"))
    assert first.nonce != second.nonce and b"canary" not in first.ciphertext
    assert len(first.nonce) == 12 and len(first.ciphertext) == len(b"canary") + 16
    assert unseal(KEY, PLACE, first) == Secret(b"canary")


@pytest.mark.parametrize(
    "other",
    [
        Place("id-2", "n1", "tls", 3, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls2", 3, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 4, "key", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 3, "file", "/etc/tls.key", "0600"),
        Place("id-1", "n1", "tls", 3, "key", "/etc/motd", "0600"),
        Place("id-1", "n1", "tls", 3, "key", "/etc/tls.key", "0644"),
    ],
    ids=["host", "name", "version", "kind", "path", "mode"],
)
def test_opens_in_its_own_place_only(other: Place) -> None:
    with pytest.raises(Unavailable, match=r"credential 'tls2?' of n1: does not open"):
        unseal(KEY, other, seal(KEY, PLACE, Secret(b"canary")))


def test_opens_with_its_own_key_only() -> None:
    with pytest.raises(Unavailable):
        unseal(Secret(bytes(32)), PLACE, seal(KEY, PLACE, Secret(b"canary")))
