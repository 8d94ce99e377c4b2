"""Signatures in PE images, as the tools of others check them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from provision.errors import Invalid
from provision.media import pe_signature, uki
from provision.media.authenticode import digest

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
IMAGE = uki.build(STUB, {".linux": b"K" * 100_001, ".osrel": b"ID=x\n", ".cmdline": b"quiet", ".initrd": b"I" * 5000})
START = datetime(2026, 1, 1, tzinfo=UTC)


def pair(name: str) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(called, called, key.public_key(), 0x80FF, START, START + timedelta(days=7300))
    return key, builder.sign(key, SHA256())


def verify(tmp_path: Path, image: bytes, certificate: x509.Certificate) -> subprocess.CompletedProcess[str]:
    (tmp_path / "signed.efi").write_bytes(image)
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    argv = ["sbverify", "--cert", "cert.pem", "signed.efi"]
    return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)


def test_a_signed_image_verifies_and_is_the_same_every_time(tmp_path: Path) -> None:
    key, certificate = pair("Site")
    signature = pe_signature.sign(key, pe_signature.request(IMAGE, "u"))
    signed = pe_signature.attach(IMAGE, certificate, signature, "u")
    done = verify(tmp_path, signed, certificate)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "Signature verification OK", "")
    assert signed == pe_signature.attach(IMAGE, certificate, signature, "u")
    assert digest(signed, "u") == digest(IMAGE, "u"), "what is measured and signed stays"


def test_the_key_may_be_elsewhere(tmp_path: Path) -> None:
    key, certificate = pair("Site")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "request").write_bytes(pe_signature.request(IMAGE, "u"))
    argv = ["openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "request"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    signed = pe_signature.attach(IMAGE, certificate, (tmp_path / "signature").read_bytes(), "u")
    assert verify(tmp_path, signed, certificate).returncode == 0


def test_another_key_and_a_changed_image_are_refused(tmp_path: Path) -> None:
    (key, certificate), (other, stranger) = pair("Site"), pair("Other")
    wanted = pe_signature.request(IMAGE, "u")
    with pytest.raises(Invalid, match=r"^u: its signature was not made with the key of the site's Secure Boot"):
        pe_signature.attach(IMAGE, certificate, pe_signature.sign(other, wanted), "u")
    with pytest.raises(Invalid):
        pe_signature.attach(IMAGE.replace(b"quiet", b"debug"), certificate, pe_signature.sign(key, wanted), "u")
    signed = pe_signature.attach(IMAGE, certificate, pe_signature.sign(key, wanted), "u")
    assert verify(tmp_path, signed, stranger).returncode == 1
    assert verify(tmp_path, signed.replace(b"quiet", b"debug"), certificate).returncode == 1
