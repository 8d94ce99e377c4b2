"""Unified kernel images as tools that sign and measure them see them."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pefile
import pytest

from provision.errors import Invalid
from provision.media import uki
from provision.media.authenticode import digest
from provision.tpm.boot_chain import unified_kernel

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
SECTIONS = {
    ".linux": b"K" * 100_001,
    ".osrel": b"ID=x\n",
    ".cmdline": b"console=ttyS0",
    ".initrd": b"I" * 5000,
}


def test_every_section_is_there_as_it_was_given() -> None:
    image = uki.build(STUB, dict(reversed(SECTIONS.items())))
    assert image == uki.build(STUB, SECTIONS), "the same bytes every time"
    parsed = pefile.PE(data=image)  # type: ignore[no-untyped-call]
    found = {s.Name.rstrip(b"\0").decode(): s for s in parsed.sections}
    assert list(found)[-4:] == list(uki.MEASURED)
    for name, content in SECTIONS.items():
        section = found[name]
        assert section.get_data()[: section.Misc_VirtualSize] == content
        assert section.VirtualAddress % parsed.OPTIONAL_HEADER.SectionAlignment == 0
    last = parsed.sections[-1]
    assert parsed.OPTIONAL_HEADER.SizeOfImage >= last.VirtualAddress + last.Misc_VirtualSize
    assert len(image) == last.PointerToRawData + last.SizeOfRawData, "nothing that tools see differently is behind"


def test_tools_sign_and_measure_it_as_we_do(tmp_path: Path) -> None:
    (tmp_path / "u.efi").write_bytes(uki.build(STUB, SECTIONS))
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t", "-keyout", "k", "-out", "c"]
    for argv in (
        make,
        ["sbsign", "--key", "k", "--cert", "c", "--output", "s.efi", "u.efi"],
        ["sbverify", "--cert", "c", "s.efi"],
    ):
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "warning" not in done.stderr
    signed = (tmp_path / "s.efi").read_bytes()
    assert digest(signed, "u") == digest((tmp_path / "u.efi").read_bytes(), "u")
    assert digest(signed, "u") in signed
    for name, content in SECTIONS.items():
        (tmp_path / name[1:]).write_bytes(content)
    argv = ["/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--phase="]
    argv += [f"--{name[1:]}={tmp_path / name[1:]}" for name in SECTIONS]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    value = unified_kernel({name: hashlib.sha256(content).digest() for name, content in SECTIONS.items()})
    assert said.split()[0] == f"11:sha256={value.hex()}"


@pytest.mark.parametrize("stub", [b"", b"MZ", STUB[:0x90], STUB[:0x1000].replace(b"PE\0\0", b"XX\0\0")])
def test_what_is_no_stub_is_refused(stub: bytes) -> None:
    with pytest.raises(Invalid, match=r"^stub: is not a PE program"):
        uki.build(stub, SECTIONS)
