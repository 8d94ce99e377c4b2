from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision.errors import Invalid
from provision.inventory.certificates import authorities
from tests.helpers.inventory_samples import NOW, certificate


def test_a_bundle_gives_each_certificate_alone_and_bare() -> None:
    one, two = certificate("One"), certificate("Two")
    assert authorities("x", f"# comment\n{one}\nnoise\n{two}".encode(), NOW) == [one, two]


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (certificate(ca=False), "is not a CA"),
        (certificate(ca=None), "is not a CA"),
        (certificate(curve=ec.SECP256K1()), "'CN=Example CA': the certificate's key is on the curve secp256k1, which"),
        (certificate(start=NOW - timedelta(days=20), days=10), "expired on 2026-05-22"),
        (certificate(start=NOW + timedelta(days=10)), "valid only from 2026-06-11"),
        ("hello", "not a PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a PEM certificate"),
        ("", "not a PEM certificate"),
    ],
    ids=["no-ca", "ca-unsaid", "curve", "expired", "not-yet", "words", "not-der", "empty"],
)
def test_what_is_not_a_usable_authority(pem: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        authorities("x", pem.encode(), NOW)


def test_a_private_key_is_refused_and_never_repeated() -> None:
    secret = "MC4CAQAwBQYDK2VwBCIEIHVuZ3Vlc3NhYmxl"
    text = f"{certificate()}-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"
    with pytest.raises(Invalid, match="holds a private key") as raised:
        authorities("x", text.encode(), NOW)
    assert secret not in str(raised.value)
