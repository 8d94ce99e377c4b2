"""The key derivation of TPMs; that a TPM agrees is proved in tests/integration/tpm."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from provision.tpm.algorithms import Curve, Hash, kdfa, kdfe


@pytest.mark.parametrize(("hash_", "name", "size"), [(Hash.SHA256, "sha256", 32), (Hash.SHA384, "sha384", 48)])
def test_hashes(hash_: Hash, name: str, size: int) -> None:
    assert hash_.size == size
    assert hash_.of(b"a", b"b") == hashlib.new(name, b"ab").digest()
    assert hash_.mac(b"key", b"a", b"b") == hmac.digest(b"key", b"ab", name)


@pytest.mark.parametrize(("curve", "size"), [(Curve.P256, 32), (Curve.P384, 48)])
def test_curves(curve: Curve, size: int) -> None:
    assert curve.size == size


def test_keys_longer_than_a_digest_are_of_several_blocks() -> None:
    def block(number: int) -> bytes:
        body = number.to_bytes(4, "big") + b"LABEL\0" + b"u" + b"v" + (8 * 48).to_bytes(4, "big")
        return hmac.digest(b"key", body, "sha256")

    assert kdfa(Hash.SHA256, b"key", "LABEL", b"u", b"v", 48) == (block(1) + block(2))[:48]
    one, two = (hashlib.sha256(n.to_bytes(4, "big") + b"zLABEL\0uv").digest() for n in (1, 2))
    assert kdfe(Hash.SHA256, b"z", "LABEL", b"u", b"v", 48) == (one + two)[:48]
