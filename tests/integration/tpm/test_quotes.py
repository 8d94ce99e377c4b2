"""Quotes of a TPM are believed when all of them is right, and refused when anything is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision.errors import Denied, Invalid, ProvisionError
from provision.tpm import public, quotes
from provision.tpm.public import Public
from tests.helpers.tpm import AK_ATTRIBUTES, Tpm

NONCE = bytes(range(20))
NUMBERS = (0, 4, 7, 11)


@pytest.fixture(params=["ecc256:ecdsa-sha256:null", "rsa2048:rsassa-sha256:null"])
def key(tpm: Tpm, request: pytest.FixtureRequest) -> Public:
    """The TPM's attestation key."""
    tpm.run("createprimary", "-C", "e", "-G", request.param, "-a", AK_ATTRIBUTES, "-c", "ak.ctx")
    tpm.run("readpublic", "-c", "ak.ctx", "-f", "tpmt", "-o", "ak.pub")
    return public.parse(tpm.get("ak.pub"), "AK")


def quoted(tpm: Tpm) -> tuple[bytes, bytes, dict[int, bytes]]:
    """A quote for NONCE, its signature, and the PCR values."""
    selection = f"sha256:{','.join(map(str, NUMBERS))}"
    tpm.run("quote", "-c", "ak.ctx", "-l", selection, "-q", NONCE.hex(), "-m", "msg", "-s", "sig", "-g", "sha256")
    tpm.run("pcrread", selection, "-o", "values")
    content = tpm.get("values")
    return tpm.get("msg"), tpm.get("sig"), {n: content[32 * at : 32 * at + 32] for at, n in enumerate(NUMBERS)}


def test_a_quote_is_believed_when_all_of_it_is_right(tpm: Tpm, key: Public) -> None:
    quotes.require_attestation_key(key, "AK")
    tpm.run("pcrextend", f"11:sha256={'ab' * 32}")
    message, signature, values = quoted(tpm)
    found = quotes.verify(message, signature, key, NONCE, values, "node1")
    assert found.nonce == NONCE and found.restarts == 0
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    wrong = (
        (message, signature, key, NONCE[:-1] + b"x", values),
        (message, signature, key, NONCE, values | {11: bytes(32)}),
        (message, signature, key, NONCE, {n: v for n, v in values.items() if n != 11}),
        (message, signature[:-1] + bytes([signature[-1] ^ 1]), key, NONCE, values),
        (message[:-1] + bytes([message[-1] ^ 1]), signature, key, NONCE, values),
        (message, signature, replace(key, key=other, scheme=key.scheme), NONCE, values),
    )
    for case in wrong:
        with pytest.raises((Denied, Invalid)):
            quotes.verify(*case, "node1")


def test_every_cut_and_every_flipped_bit_is_refused(tpm: Tpm, key: Public) -> None:
    message, signature, values = quoted(tpm)
    for size in range(len(message)):
        with pytest.raises(ProvisionError):
            quotes.verify(message[:size], signature, key, NONCE, values, "node1")
    for at in range(0, len(signature), 7):
        for cut in (signature[:at], signature[:at] + bytes([signature[at] ^ 0x80]) + signature[at + 1 :]):
            with pytest.raises(ProvisionError):
                quotes.verify(message, cut, key, NONCE, values, "node1")


def test_a_key_that_signs_anything_is_not_an_attestation_key(tpm: Tpm) -> None:
    free = AK_ATTRIBUTES.replace("restricted|", "")
    tpm.run("createprimary", "-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-a", free, "-c", "ak.ctx")
    tpm.run("readpublic", "-c", "ak.ctx", "-f", "tpmt", "-o", "ak.pub")
    with pytest.raises(Invalid, match="is not an attestation key"):
        quotes.require_attestation_key(public.parse(tpm.get("ak.pub"), "AK"), "AK")
