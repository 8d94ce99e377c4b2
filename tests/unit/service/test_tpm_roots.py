"""The directory of TPM makers' CAs: what is a root, and what is in the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from provision.errors import Invalid, Unavailable
from provision.service.tpm_roots import Roots, load
from provision.settings import Settings, Tpm
from tests.helpers.authority import Authority

AUTHORITY = Authority()


@pytest.fixture
def makers(tmp_path: Path) -> Path:
    directory = tmp_path / "makers"
    directory.mkdir()
    return directory


def settings(state: Path) -> Settings:
    return Settings(state=state, tpm=Tpm(roots=Path("makers")))


def test_without_a_setting_nobody_is_believed(tmp_path: Path) -> None:
    assert load(Settings(state=tmp_path)) == Roots()


def test_a_root_is_self_issued_in_pem_or_der(makers: Path) -> None:
    root = x509.load_pem_x509_certificate(AUTHORITY.pem)
    (makers / "chain.pem").write_bytes(AUTHORITY.issue("a.test").chain + AUTHORITY.pem)
    (makers / "root.der").write_bytes(root.public_bytes(Encoding.DER))
    (makers / "directory").mkdir()
    found = load(settings(makers.parent))
    assert set(found.trusted) == {root} and [one.issuer for one in found.others] == [root.subject]


def test_what_is_no_certificate_is_named(makers: Path) -> None:
    assert load(settings(makers.parent)) == Roots()
    (makers / "README").write_text("notes")
    with pytest.raises(Invalid, match="README: is not a certificate"):
        load(settings(makers.parent))
    (makers / "README").unlink()
    for number in range(257):
        (makers / str(number)).touch()
    with pytest.raises(Invalid, match="more than 256 files"):
        load(settings(makers.parent))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="makers: cannot be read"):
        load(settings(tmp_path))
