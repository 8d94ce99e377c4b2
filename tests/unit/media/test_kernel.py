"""Kernels: what is taken for one, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Invalid
from provision.media.kernel import Kernel, inspect_kernel
from tests.fixtures.media import kernel, write


def test_version_and_limit_are_read(tmp_path: Path) -> None:
    assert inspect_kernel(write(tmp_path / "k", kernel("6.1.0-18-amd64"))) == Kernel("6.1.0-18-amd64", 2047)


def test_a_signed_kernel_may_be_longer_than_its_header_says(tmp_path: Path) -> None:
    assert inspect_kernel(write(tmp_path / "k", kernel() + b"signature")).version == "6.1.0-test"


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is not a Linux kernel"),
        (b"\x7fELF" * 400, "is an ELF vmlinux"),
        (kernel().replace(b"HdrS", b"hDRs"), "has a boot sector, but is not a Linux kernel"),
        (kernel()[:-1], "is cut short: 6655 of 6656 bytes"),
        (kernel(protocol=0x0205), "is not a bzImage of boot protocol 2.06 or later"),
        (kernel("\x1b[2J"), "does not say its version"),
    ],
)
def test_what_is_no_whole_kernel_is_refused(tmp_path: Path, content: bytes, fact: str) -> None:
    path = write(tmp_path / "k", content)
    with pytest.raises(Invalid) as caught:
        inspect_kernel(path)
    assert caught.value.subject == str(path)
    assert fact in caught.value.fact


def test_a_version_pointer_outside_is_refused(tmp_path: Path) -> None:
    image = bytearray(kernel())
    image[0x20E:0x210] = b"\xff\xff"
    with pytest.raises(Invalid, match="does not say its version"):
        inspect_kernel(write(tmp_path / "k", bytes(image)))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"cannot be read \(No such file"):
        inspect_kernel(tmp_path / "absent")
