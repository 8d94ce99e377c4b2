"""Certificates that are taken, and those that are not, each with its reason."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from provision.errors import Invalid, Unavailable
from provision.tls.authority import Identity, Kind
from provision.tls.context import load, stamps
from tests.helpers.certificates import root, server, write_pair


def negotiated(
    server_side: ssl.SSLContext, ciphers: str | None = None, version: ssl.TLSVersion | None = None
) -> tuple[str, str, bytes]:
    """A handshake in memory: TLS version, cipher, and the certificate that the server chose."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=(root().pem() + root(Kind.FIRMWARE).pem()).decode())
    if version is not None:
        client.maximum_version = version
    if ciphers is not None:
        client.set_ciphers(ciphers)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server_side.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there, server_hostname="prov.example.test")
    waiting = {ours, theirs}
    for _ in range(10):
        for one in list(waiting):
            try:
                one.do_handshake()
                waiting.discard(one)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    cipher, certificate = theirs.cipher(), theirs.getpeercert(binary_form=True)
    assert cipher is not None and certificate is not None
    return cipher[1], cipher[0], certificate


def test_each_client_gets_the_certificate_that_it_can_check(tmp_path: Path) -> None:
    operators, firmware = server(), server(Kind.FIRMWARE)
    context = load([write_pair(tmp_path, operators), write_pair(tmp_path, firmware, "firmware")]).context
    version, cipher, chosen = negotiated(context)
    assert (version, cipher) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert chosen == operators.certificate.public_bytes(Encoding.DER)
    for exchange in ("DHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"):
        version, cipher, chosen = negotiated(context, exchange, ssl.TLSVersion.TLSv1_2)
        assert (version, cipher) == ("TLSv1.2", exchange)
        assert chosen == firmware.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("cipher", ["AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA384", "ECDHE-ECDSA-AES256-SHA"])
def test_nothing_without_forward_secrecy_or_authenticated_encryption(tmp_path: Path, cipher: str) -> None:
    context = load([write_pair(tmp_path, server()), write_pair(tmp_path, server(Kind.FIRMWARE), "firmware")]).context
    with pytest.raises(ssl.SSLError):
        negotiated(context, cipher, ssl.TLSVersion.TLSv1_2)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_key_must_be_the_certificates_own(tmp_path: Path) -> None:
    certificate, _ = write_pair(tmp_path, server())
    _, key = write_pair(tmp_path, server(), "other")
    with pytest.raises(Invalid, match=rf"other\.key: is not the key of {certificate}"):
        load([(certificate, key)])


def test_two_certificates_have_two_kinds_of_key(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="same kind of key"):
        load([write_pair(tmp_path, server()), write_pair(tmp_path, server(), "other")])


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o600, True), (0o640, True), (0o604, False), (0o644, False), (0o660, False)]
)
def test_a_key_that_others_may_read_is_not_taken(tmp_path: Path, mode: int, taken: bool) -> None:
    certificate, key = write_pair(tmp_path, server())
    key.chmod(mode)
    if taken:
        load([(certificate, key)])
        return
    with pytest.raises(Unavailable, match=rf"others may read or write the key \(mode {mode:04o}\); chmod 600"):
        load([(certificate, key)])


def test_a_key_of_another_user_is_not_taken(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, server())
    os.chown(key, 65534, 65534)
    with pytest.raises(Unavailable, match="belongs to user id 65534"):
        load([(certificate, key)])


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    certificate, key = write_pair(tmp_path, server())
    with pytest.raises(Unavailable, match="cannot be read"):
        load([(tmp_path / "none", key)])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unavailable, match="not a regular file"):
        load([(certificate, tmp_path / "pipe")])


def test_an_encrypted_key_is_not_asked_for_its_passphrase(tmp_path: Path) -> None:
    one = server()
    certificate, key = write_pair(tmp_path, one)
    key.write_bytes(one.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    with pytest.raises(Invalid, match="passphrase"):
        load([(certificate, key)])


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_told_with_its_name(tmp_path: Path, content: bytes) -> None:
    certificate, key = write_pair(tmp_path, server())
    certificate.write_bytes(content)
    with pytest.raises(Invalid, match=str(certificate)):
        load([(certificate, key)])
    certificate, key = write_pair(tmp_path, server())
    key.write_bytes(content)
    with pytest.raises(Invalid, match=str(key)) as told:
        load([(certificate, key)])
    assert "AAAA" not in str(told.value)


def test_a_clients_certificate_is_not_a_servers(tmp_path: Path) -> None:
    one = server()
    for_clients = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = x509.CertificateBuilder(
        issuer_name=root().certificate.subject,
        subject_name=one.certificate.subject,
        public_key=one.key.public_key(),
        serial_number=2000,
        not_valid_before=one.certificate.not_valid_before_utc,
        not_valid_after=one.certificate.not_valid_after_utc,
    ).add_extension(for_clients, critical=False)
    pair = write_pair(tmp_path, Identity(builder.sign(root().key, SHA256()), one.key))
    with pytest.raises(Invalid, match="is not for a server"):
        load([pair])


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, server())
    before = stamps([pair])
    assert stamps([pair]) == before
    write_pair(tmp_path, server())
    after = stamps([pair])
    assert after != before
    pair[1].unlink()
    assert stamps([pair]) not in (before, after)
