"""Public areas that are no key of a TPM that is known here."""

from __future__ import annotations

import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision.errors import Invalid
from provision.tpm import public
from provision.tpm.algorithms import Curve, Hash
from provision.tpm.public import Attribute
from provision.tpm.wire import sized, u16, u32

SITE = ec.derive_private_key(7, ec.SECP256R1()).public_key()
AREA = public.signing_key(SITE)


def test_a_site_s_key_is_read_as_it_was_written() -> None:
    found = public.parse(AREA, "key")
    assert found.key == SITE and found.attributes == Attribute.SIGN | Attribute.USER_WITH_AUTH
    assert found.name == bytes.fromhex("000b") + Hash.SHA256.of(AREA)
    assert (found.symmetric, found.scheme, found.curve) == (None, None, Curve.P256)
    with pytest.raises(Invalid, match="P-256"):
        public.signing_key(ec.derive_private_key(7, ec.SECP384R1()).public_key())


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (AREA[:2] + b"\0\4" + AREA[4:], "another hash|hash other than"),
        (AREA[:8] + sized(b"abc") + AREA[10:], "a policy of 3 bytes"),
        (u16(8) + AREA[2:], "is not an RSA or elliptic key"),
        (AREA[:-1] + bytes([AREA[-1] ^ 1]), "is not a point"),
        (AREA + b"x", "1 bytes too many"),
        (AREA[:10] + b"\0\6\0\x80\0\x44" + AREA[12:], "another cipher"),
        (AREA[:12] + b"\0\x16" + AREA[14:], "another scheme"),
        (b"\0\1" + AREA[2:14] + u16(1024) + u32(0) + sized(b"\xff" * 128), "another size than"),
        (b"\0\1" + AREA[2:14] + u16(2048) + u32(0) + sized(b"\0" * 256), "another size than"),
    ],
)
def test_what_is_not_known_is_refused(area: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=f"^EK: .*(?:{said})"):
        public.parse(area, "EK")


def test_every_cut_is_refused_and_no_garbage_breaks_it() -> None:
    for size in range(len(AREA)):
        with pytest.raises(Invalid):
            public.parse(AREA[:size], "EK")
    chance = random.Random(1)
    for _ in range(3000):
        changed = bytearray(AREA)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            public.parse(bytes(changed), "EK")
        except Invalid:
            continue
    for size in range(0, 400, 7):
        with pytest.raises(Invalid):
            public.parse(os.urandom(size), "EK")
