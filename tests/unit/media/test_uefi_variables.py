"""Signature databases as firmware takes them."""

from __future__ import annotations

import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from provision.media import der
from provision.media.uefi_variables import DB, PK, signature_list, signed
from tests.unit.media.test_pe_signature import pair

MOMENT = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)


def test_a_list_has_every_certificate_in_its_own() -> None:
    first, second = b"one", b"second"
    made = signature_list([first, second])
    assert made == signature_list([first]) + signature_list([second])
    size, header, signature = struct.unpack_from("<III", made, 16)
    assert (size, header, signature) == (28 + 16 + len(first), 0, 16 + len(first))
    assert made[28 + 16 : size] == first


def test_a_signed_variable_verifies_for_its_name_and_time_alone(tmp_path: Path) -> None:
    key, certificate = pair("Site")
    content = signature_list([certificate.public_bytes(Encoding.DER)])
    made = signed(DB, content, MOMENT, key, certificate)
    assert struct.unpack_from("<HBBBBBBIhBB", made) == (2026, 3, 1, 12, 34, 56, 0, 0, 0, 0, 0)
    size, revision, kind = struct.unpack_from("<IHH", made, 16)
    assert (revision, kind) == (0x0200, 0x0EF1) and made.endswith(content)
    assert len(made) == 16 + size + len(content)
    signed_data = made[40 : 16 + size]
    # Firmware looks for SHA-256 at this very byte (EDK II, AuthService.c).
    assert signed_data[13:24] == der.identifier("2.16.840.1.101.3.4.2.1")[2:] + b"\x05\x00"
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    wrapped = der.value(der.SEQUENCE, der.identifier("1.2.840.113549.1.7.2"), der.tagged(0, signed_data))
    (tmp_path / "signature").write_bytes(wrapped)
    for variable, good in ((DB, True), (PK, False)):
        about = variable.name.encode("utf-16-le") + variable.vendor.bytes_le + struct.pack("<I", 0x27) + made[:16]
        (tmp_path / "content").write_bytes(about + content)
        argv = ["openssl", "smime", "-verify", "-inform", "DER", "-in", "signature", "-content", "content", "-binary"]
        argv += ["-CAfile", "cert.pem", "-certfile", "cert.pem", "-purpose", "any", "-partial_chain", "-no_check_time"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True)
        assert (done.returncode == 0) == good, done.stderr
