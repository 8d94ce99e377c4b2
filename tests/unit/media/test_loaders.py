"""Loader sets, and who signed what."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from provision.media.loaders import (
    BOOT_SECTOR,
    CORE,
    DEBIAN,
    GRUBS,
    SERVED,
    boot_sector,
    copy_loaders,
    core_image,
    find_loaders,
)
from provision.media.signing import describe_signing, vendor_certificates
from tests.fixtures.media import kernel, write

SHIM = DEBIAN["shimx64.efi.signed"]
SIGNED = [DEBIAN[name] for name in GRUBS]


def test_debians_set_is_complete() -> None:
    found, problems = find_loaders(None)
    assert found == DEBIAN
    assert problems == []
    assert set(SERVED.values()) <= set(DEBIAN)


def test_every_missing_loader_is_named(tmp_path: Path) -> None:
    (tmp_path / "lpxelinux.0").write_bytes(b"")
    (tmp_path / "i386-pc").mkdir()
    found, problems = find_loaders(tmp_path)
    assert list(found) == ["lpxelinux.0"]
    assert {Path(p.file).name for p in problems} == set(DEBIAN) - {"lpxelinux.0"}
    assert all(p.fact == "is missing" for p in problems)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(DEBIAN, "gcdx64.efi.signed", tmp_path / "gcdx64.efi.signed")
    (problem,) = find_loaders(None)[1]
    assert str(problem).endswith("gcdx64.efi.signed: is missing; apt-get install grub-efi-amd64-signed")


@pytest.mark.integration
def test_copying_makes_a_core_image_with_its_modules(tmp_path: Path) -> None:
    copies = copy_loaders(find_loaders(None)[0], tmp_path)
    assert sorted(copies) == sorted({*DEBIAN, BOOT_SECTOR, CORE} - {"i386-pc"})
    assert copies["ldlinux.c32"].read_bytes() == DEBIAN["ldlinux.c32"].read_bytes()
    assert 30_000 < copies[CORE].stat().st_size < 1 << 20
    again = tmp_path / "again"
    again.mkdir()
    assert copy_loaders(find_loaders(None)[0], again)[CORE].read_bytes() == copies[CORE].read_bytes()


def test_boot_code_points_at_the_core() -> None:
    code = boot_sector(bytes(range(256)) * 2, 34)
    assert len(code) == 440
    assert struct.unpack_from("<Q", code, 0x5C) == (34,)
    assert code[0x66:0x68] == b"\x90\x90"
    assert code[:0x5C] == bytes(range(0x5C))


@pytest.mark.parametrize(("size", "rest"), [(512, 0), (513, 1), (1024, 1), (100_000, 195)])
def test_the_core_lists_its_remainder(size: int, rest: int) -> None:
    core = core_image(b"\xaa" * size, 34)
    assert len(core) == size
    assert struct.unpack_from("<QHH", core, 500) == (35, rest, 0x820)
    assert core[:500] == b"\xaa" * 500


def test_debians_chain_is_signed_for_itself(tmp_path: Path) -> None:
    (certificate,) = vendor_certificates(SHIM)
    assert "Debian" in certificate.subject.rfc4514_string()
    text = describe_signing(SHIM, SIGNED, SIGNED[0], tmp_path)
    assert text == "shim, GRUB and kernel are signed for one another (Debian Secure Boot CA)"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_signed_is_named(tmp_path: Path) -> None:
    unsigned = write(tmp_path / "kernel", kernel())
    text = describe_signing(SHIM, SIGNED, unsigned, tmp_path)
    assert text == "not for Secure Boot: the kernel not signed for shim's certificate (Debian Secure Boot CA)"


def test_a_signature_by_someone_else_does_not_count(tmp_path: Path) -> None:
    """Shim itself is signed by Microsoft, with Microsoft's certificates along, which sbverify takes for good."""
    assert "GRUB (shimx64.efi.signed)" in describe_signing(SHIM, [SHIM], SIGNED[0], tmp_path)


def test_an_altered_grub_is_not_signed(tmp_path: Path) -> None:
    altered = tmp_path / "grub.efi"
    shutil.copyfile(SIGNED[0], altered)
    with altered.open("r+b") as file:
        file.seek(100_000)
        file.write(b"altered")
    assert "GRUB (grub.efi)" in describe_signing(SHIM, [altered], SIGNED[0], tmp_path)


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(100), SIGNED[0].read_bytes() if SIGNED[0].exists() else b""])
def test_what_is_no_shim_is_said_so(tmp_path: Path, content: bytes) -> None:
    shim = write(tmp_path / "shim.efi", content)
    text = describe_signing(shim, SIGNED, SIGNED[0], tmp_path)
    assert text == "not for Secure Boot: shim carries no vendor certificate"


def test_a_vendor_database_is_read(tmp_path: Path) -> None:
    (certificate,) = vendor_certificates(SHIM)
    image = SHIM.read_bytes()
    der = _vendor_table(image)
    lists = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
    lists += struct.pack("<III", 28 + 16 + len(der), 0, 16 + len(der)) + bytes(16) + der
    # Same offsets; the list takes the place of the certificate and of the zeros behind it.
    table = struct.pack("<4I", len(lists), 0, 16, 16 + len(lists)) + lists
    at = image.index(der) - 16
    shim = write(tmp_path / "shim.efi", image[:at] + table + image[at + len(table) :])
    assert vendor_certificates(shim) == [certificate]


def _vendor_table(image: bytes) -> bytes:
    (certificate,) = vendor_certificates(SHIM)
    der = certificate.public_bytes(Encoding.DER)
    assert der in image
    return der
