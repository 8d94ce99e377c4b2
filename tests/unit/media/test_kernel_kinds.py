"""What is told of files that were given for a kernel and are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from provision.errors import Invalid
from provision.media.kernel import inspect_kernel
from tests.fixtures.media import kernel, write


def executable(machine: int, sections: tuple[bytes, ...] = (b".text",), start: bytes = b"", arm: bytes = b"") -> bytes:
    """The head of a PE file."""
    head = bytearray(4096)
    head[:2] = b"MZ"
    head[4 : 4 + len(start)] = start
    head[0x38 : 0x38 + len(arm)] = arm
    head[0x3C:0x40] = (0x40).to_bytes(4, "little")
    table = b"".join(name.ljust(8, b"\0") + bytes(32) for name in sections)
    pe = b"PE\0\0" + machine.to_bytes(2, "little") + len(sections).to_bytes(2, "little") + bytes(16 + 0xF0) + table
    head[0x40 : 0x40 + len(pe)] = pe
    return bytes(head)


ELF = b"\x7fELF\2\1\1" + bytes(4090)
ARM64 = executable(0xAA64, arm=b"ARM\x64")
UKI = executable(0x8664, (b".text", b".osrel", b".linux", b".initrd"))


CASES = [
    (ELF, "is an ELF vmlinux"),
    (b"\x7fELF\1" + bytes(4000), "is an ELF program of 32 bits, such as Xen"),
    (gzip.compress(gzip.compress(ELF)), "is a gzip file, such as an initrd"),
    (gzip.compress(ELF), "is compressed with gzip, and what is in it is an ELF vmlinux"),
    (ARM64, "is a kernel for arm64; give the x86-64 bzImage"),
    (gzip.compress(ARM64), "is compressed with gzip, and what is in it is a kernel for arm64"),
    (executable(0xAA64, start=b"zimg"), "is an EFI zboot image for arm64"),
    (executable(0x8664, start=b"zimg"), "is an EFI zboot image for x86-64"),
    (UKI, "is a unified kernel image (UKI); give the kernel and the initrds in it"),
    (executable(0x5064), "is a program for RISC-V"),
    (executable(0x8664), "is an EFI program, but not a Linux kernel"),
    (b"\x27\x05\x19\x56" + bytes(4000), "is a U-Boot image"),
    (bytes(0x1FE) + b"\x55\xaa" + bytes(4000), "has a boot sector, but is not a Linux kernel"),
    (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    (b"version https://git-lfs", "is a Git LFS pointer"),
    (b"070701" + bytes(500), "is an initrd; give it as --initrd"),
    (gzip.compress(b"070701" + bytes(500)), "and what is in it is an initrd"),
    (b"\x1f\x8b" + bytes(90), "is a damaged gzip file"),
    (kernel()[:0x1F0], "is not a Linux kernel (no bzImage magic)"),
]


@pytest.mark.parametrize(("content", "words"), CASES, ids=[words for _, words in CASES])
def test_kinds(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        inspect_kernel(write(tmp_path / "k", content))
    assert words in str(caught.value)
