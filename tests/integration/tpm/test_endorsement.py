"""Endorsement certificates of a TPM's maker: swtpm's own CA plays the vendor."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provision.errors import Denied, Invalid, Problems
from provision.tpm import endorsement, public
from provision.tpm.public import Public
from tests.helpers.enrolment import Vendor
from tests.helpers.host_programs import Bus, load
from tests.helpers.tpm import Tpm, software_tpm

HOST = load("tpm")
NOW = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor(tmp_path_factory.mktemp("vendor"))


@pytest.fixture
def made(vendor: Vendor, tmp_path: Path) -> Iterator[Tpm]:
    vendor.make(tmp_path / "made/state")
    with software_tpm(tmp_path / "made") as one:
        yield one


def shown(tpm: Tpm) -> tuple[Public, bytes]:
    """What the host shows of itself: its RSA endorsement key, and the certificate in NV memory."""
    host = HOST.Tpm(Bus(tpm.port).exchange)
    with host.primary(HOST.ENDORSEMENT, HOST.endorsement_template("rsa")) as ek:
        return public.parse(ek.public, "EK"), bytes(host.read_nv(endorsement.CERTIFICATE_INDEX["rsa"]))


def test_a_certificate_is_believed_by_its_vendor_s_root(vendor: Vendor, made: Tpm, tpm: Tpm) -> None:
    key, certificate = shown(made)
    maker = endorsement.certified(certificate, key, [vendor.root], [vendor.issuer], NOW, "node1")
    assert (maker.manufacturer, maker.model) == ("id:00001014", "swtpm") and "swtpm-localca" in maker.root
    padded = certificate + b"\xff" * 100
    assert endorsement.certified(padded, key, [vendor.issuer], [], NOW, "node1").model == "swtpm"

    tpm.endorsement_key("rsa")
    other = public.parse(tpm.get("ek.pub")[2:], "EK")
    for case, said in (
        ((certificate, other, [vendor.root], [vendor.issuer], NOW), "for another key"),
        ((certificate, key, [], [vendor.issuer, vendor.root], NOW), "no configured root vouches"),
        ((certificate, key, [vendor.root], [], NOW), "no configured root vouches"),
        ((certificate, key, [vendor.root], [vendor.issuer], NOW - timedelta(days=400)), "no configured root vouches"),
    ):
        with pytest.raises(Denied, match=said):
            endorsement.certified(*case, "node1")


def issue(name: str, issuer: x509.Certificate | None, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
    """A certificate with the name and, when there is none, of its own issue."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(issuer.subject if issuer else subject, subject, KEY.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(key, hashes.SHA256())


KEY = ec.derive_private_key(11, ec.SECP256R1())


def test_nobody_issues_endorsement_certificates_but_a_ca() -> None:
    key = public.parse(public.signing_key(KEY.public_key()), "EK")
    root, plain = issue("root", None, KEY, ca=True), issue("plain", None, KEY, ca=False)
    certificate = issue("ek", root, KEY, ca=False)
    der = certificate.public_bytes(Encoding.DER)
    assert endorsement.certified(der, key, [root], [], NOW, "node1").root == "CN=root"
    below = issue("ek", plain, KEY, ca=False).public_bytes(Encoding.DER)
    with pytest.raises(Denied, match=r"issuer: CN=plain"):
        endorsement.certified(below, key, [plain], [], NOW, "node1")


@pytest.mark.parametrize("content", [b"", b"\x30", b"\x30\x82\xff\xff", b"garbage" * 100])
def test_what_cannot_be_read_is_no_certificate(content: bytes) -> None:
    key = public.parse(public.signing_key(KEY.public_key()), "EK")
    with pytest.raises(Invalid, match="cannot be read"):
        endorsement.certified(content, key, [], [], NOW, "node1")


def test_a_vendor_s_list_is_read_whole_or_not_at_all(made: Tpm) -> None:
    key, _ = shown(made)
    value = endorsement.fingerprint(key)
    pem = key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, capture_output=True, check=True)
    assert value == hashes_of(der.stdout)
    text = f"fingerprint,serial,host\n{value.upper()},x,node1\n{'ab:' * 31}ab,y,node2\n"
    assert endorsement.fingerprints(text, "eks.csv") == {"node1": value, "node2": "ab" * 32}
    with pytest.raises(Problems) as wrong:
        endorsement.fingerprints(text + f"zz,,node3\n{'cd' * 32},,node1\n", "eks.csv")
    assert [(one.line, one.fact[:20]) for one in wrong.value.problems] == [
        (4, "has no host, or no S"),
        (5, "gives 'node1' anothe"),
    ]
    with pytest.raises(Invalid, match="has no columns"):
        endorsement.fingerprints("a,b\n", "eks.csv")


def hashes_of(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize().hex()
