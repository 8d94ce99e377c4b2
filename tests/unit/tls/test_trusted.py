"""The forms of a trusted certificate, read by what reads them elsewhere."""

from __future__ import annotations

import subprocess
import uuid

from cryptography import x509

from provision.tls.authority import Kind
from provision.tls.trusted import Form, encoded, fingerprint, signature_list
from tests.helpers.certificates import root

CERTIFICATE = root(Kind.OPERATORS).certificate


def test_every_form_holds_the_certificate() -> None:
    assert x509.load_pem_x509_certificate(encoded(CERTIFICATE, Form.PEM)) == CERTIFICATE
    assert x509.load_der_x509_certificate(encoded(CERTIFICATE, Form.DER)) == CERTIFICATE
    assert encoded(CERTIFICATE, Form.EFI)[44:] == encoded(CERTIFICATE, Form.DER)


def test_a_signature_list_is_as_uefi_says() -> None:
    """EFI_SIGNATURE_LIST: type, size of all, size of a header (none), size of each signature with its owner."""
    data = signature_list(b"DER")
    assert uuid.UUID(bytes_le=data[:16]) == uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
    sizes = [int.from_bytes(data[at : at + 4], "little") for at in (16, 20, 24)]
    assert sizes == [28 + 16 + 3, 0, 16 + 3] and len(data) == sizes[0]


def test_the_fingerprint_is_openssls() -> None:
    argv = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(argv, input=encoded(CERTIFICATE, Form.PEM), capture_output=True, timeout=30, check=True)
    assert said.stdout.decode().strip().rpartition("=")[2] == fingerprint(CERTIFICATE)
