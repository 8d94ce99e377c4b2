"""DER as OpenSSL reads it."""

from __future__ import annotations

import subprocess

import pytest

from provision.media import der


def parsed(data: bytes) -> str:
    argv = ["openssl", "asn1parse", "-inform", "DER"]
    return subprocess.run(argv, input=data, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 70_000])
def test_lengths_of_every_form(size: int) -> None:
    assert f"l={size:4d} prim: OCTET STRING" in parsed(der.value(der.OCTETS, bytes(size)))


@pytest.mark.parametrize(("number", "text"), [(0, ":00"), (1, ":01"), (127, ":7F"), (128, ":80"), (0x80FF, ":80FF")])
def test_integers_are_never_negative(number: int, text: str) -> None:
    assert parsed(der.integer(number)).strip().endswith(text)


def test_identifiers_and_sets() -> None:
    assert ":sha256" in parsed(der.identifier("2.16.840.1.101.3.4.2.1"))
    assert ":1.3.6.1.4.1.311.2.1.4" in parsed(der.identifier("1.3.6.1.4.1.311.2.1.4")) or "SPC" in parsed(
        der.identifier("1.3.6.1.4.1.311.2.1.4")
    )
    assert der.set_of(b"\x04\x01b", b"\x04\x01a") == b"\x31\x06\x04\x01a\x04\x01b"
    assert "cont [ 2 ]" in parsed(der.tagged(2, der.integer(1)))
