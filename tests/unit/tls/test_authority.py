"""The internal CA: what its certificates say, what they may not say, and who takes them."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from provision import clock
from provision.errors import Invalid
from provision.tls.authority import Kind, Names, identity, issue, make_root, names_from, names_of
from tests.helpers.certificates import NAMES, root, server

NOW = clock.now()


@pytest.mark.parametrize("kind", Kind)
def test_a_root_signs_certificates_and_nothing_else(kind: Kind) -> None:
    found = root(kind).certificate.extensions
    basic = found.get_extension_for_class(x509.BasicConstraints)
    usage = found.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature


@pytest.mark.parametrize("kind", Kind)
def test_a_servers_certificate_is_a_servers_only(kind: Kind) -> None:
    leaf = server(kind).certificate
    found = leaf.extensions
    assert not found.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    usage = found.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign
    assert usage.key_encipherment == (kind is Kind.FIRMWARE)
    assert names_of(leaf) == NAMES
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=825)
    assert leaf.serial_number.bit_length() > 64 and leaf.serial_number != server(kind).certificate.serial_number


def test_firmware_gets_no_elliptic_curve_and_no_constraint_that_it_may_not_know() -> None:
    first, leaf = root(Kind.FIRMWARE), server(Kind.FIRMWARE)
    assert isinstance(first.key, rsa.RSAPrivateKey) and isinstance(leaf.key, rsa.RSAPrivateKey)
    assert (first.key.key_size, leaf.key.key_size) == (3072, 2048)
    for certificate in (first.certificate, leaf.certificate):
        with pytest.raises(x509.ExtensionNotFound):
            certificate.extensions.get_extension_for_class(x509.NameConstraints)


def test_operators_get_an_elliptic_curve() -> None:
    for one in (root(), server()):
        assert isinstance(one.key, ec.EllipticCurvePrivateKey) and isinstance(one.key.curve, ec.SECP256R1)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["prov.example.test", "127.0.0.1", "::1"])
def test_openssl_believes_the_chain(tmp_path: Path, kind: Kind, name: str) -> None:
    (tmp_path / "ca").write_bytes(root(kind).pem())
    (tmp_path / "leaf").write_bytes(server(kind).pem())
    check = "-verify_hostname" if name.startswith("p") else "-verify_ip"
    argv = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", check, name, "-CAfile", "ca", "leaf"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=30).returncode == 0


def test_a_stolen_root_vouches_for_no_other_domain(tmp_path: Path) -> None:
    """Whoever has the key can sign what this program would not; clients refuse it."""
    forged = issue(
        make_root(Kind.OPERATORS, Names(), NOW), Kind.OPERATORS, Names(("www.example.com",)), NOW
    ).certificate
    builder = x509.CertificateBuilder(
        issuer_name=root().certificate.subject,
        subject_name=forged.subject,
        public_key=root().key.public_key(),
        serial_number=1000,
        not_valid_before=forged.not_valid_before_utc,
        not_valid_after=forged.not_valid_after_utc,
        extensions=[forged.extensions.get_extension_for_class(x509.SubjectAlternativeName)],
    )
    (tmp_path / "ca").write_bytes(root().pem())
    (tmp_path / "leaf").write_bytes(builder.sign(root().key, SHA256()).public_bytes(Encoding.PEM))
    ran = subprocess.run(["openssl", "verify", "-CAfile", "ca", "leaf"], cwd=tmp_path, capture_output=True, timeout=30)
    assert b"permitted subtree violation" in ran.stderr


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (Names(("prov.example.com",)), "may not vouch for it; it may for example.test"),
        (Names(("badexample.test",)), "may not vouch"),
        (Names(), "no name and no address"),
    ],
)
def test_what_is_not_issued(names: Names, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        issue(root(), Kind.OPERATORS, names, NOW)


@pytest.mark.parametrize("host", ["example.test", "deep.down.example.test"])
def test_names_of_the_domain_are_issued(host: str) -> None:
    assert names_of(issue(root(), Kind.OPERATORS, Names((host,)), NOW).certificate).hosts == (host,)


def test_a_long_name_fits() -> None:
    host = ".".join(["a" * 60] * 3) + ".example.test"
    assert names_of(issue(root(), Kind.OPERATORS, Names((host,)), NOW).certificate).hosts == (host,)


def test_a_certificate_ends_with_its_root_and_an_ended_root_issues_none() -> None:
    end = root().certificate.not_valid_after_utc
    assert issue(root(), Kind.OPERATORS, NAMES, end - timedelta(days=9)).certificate.not_valid_after_utc == end
    with pytest.raises(Invalid, match="has expired"):
        issue(root(), Kind.OPERATORS, NAMES, end)


def test_roots_differ_in_their_subjects() -> None:
    assert make_root(Kind.OPERATORS, NAMES, NOW).certificate.subject != root().certificate.subject


def test_no_key_is_shown() -> None:
    one = server()
    assert "key" not in repr(one) and "Secret" in repr(one.key_pem())


def test_files_of_a_root_are_held_together() -> None:
    one, other = root(), root(Kind.FIRMWARE)
    assert identity(one.pem(), one.key_pem().reveal(), "ca.pem").certificate == one.certificate
    for certificate, key in ((one.pem(), other.key_pem().reveal()), (b"x", one.key_pem().reveal()), (one.pem(), b"x")):
        with pytest.raises(Invalid, match=r"ca\.pem") as told:
            identity(certificate, key, "ca.pem")
        assert "PRIVATE" not in str(told.value)


def test_addresses_are_parsed() -> None:
    assert names_from(["a.test", "a.test"], ["::1"]) == Names(("a.test",), (ip_address("::1"),))
    with pytest.raises(Invalid, match="--address"):
        names_from([], ["10.0.0.256"])
