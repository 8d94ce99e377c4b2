"""What a file is that was given for an x86 bzImage and is none: told by its first bytes, for the message only."""

from __future__ import annotations

import zlib
from typing import NamedTuple

HEAD = 4096
"""Bytes from the beginning that are enough to tell."""

_MACHINES = {0x014C: "x86 with 32 bits", 0x8664: "x86-64", 0xAA64: "arm64", 0x5064: "RISC-V", 0x6264: "LoongArch"}
"""PE machine types (Microsoft, PE format, "Machine types")."""


class Kind(NamedTuple):
    """What it is, as the end of a sentence that begins with the file's name, and what to give instead."""

    fact: str
    remedy: str


_BZIMAGE = "name the file /boot/vmlinuz-VERSION"
_OURS = "give the x86-64 bzImage, /boot/vmlinuz-VERSION"
_STARTS = (
    (b"\x7fELF\1", Kind("is an ELF program of 32 bits, such as Xen", _BZIMAGE)),
    (b"\x7fELF", Kind("is an ELF vmlinux, and boot loaders start the bzImage made of it", _BZIMAGE)),
    (b"\x27\x05\x19\x56", Kind("is a U-Boot image", _OURS)),
    (b"070701", Kind("is an initrd", "give it as --initrd, and /boot/vmlinuz-VERSION as --kernel")),
    (b"\xfd7zXZ\0", Kind("is an xz file, such as an initrd", _BZIMAGE)),
    (b"\x28\xb5\x2f\xfd", Kind("is a zstd file, such as an initrd", _BZIMAGE)),
    (b"version https://git-lfs", Kind("is a Git LFS pointer, not the file", "fetch it with 'git lfs pull'")),
    (b"<!doctype html", Kind("is a web page", "look at where it was fetched from, and fetch it again")),
    (b"<html", Kind("is a web page", "look at where it was fetched from, and fetch it again")),
)


def kind_of(head: bytes) -> Kind:
    """What a file that begins with `head` is."""
    for start, kind in _STARTS:
        if head[: len(start)].lower() == start.lower():
            return kind
    if head[:2] == b"\x1f\x8b":
        return _gzip(head)
    if head[:2] == b"MZ":
        return _portable_executable(head)
    if head[0x1FE:0x200] == b"\x55\xaa":
        return Kind("has a boot sector, but is not a Linux kernel", _BZIMAGE)
    return Kind("is not a Linux kernel (no bzImage magic)", _BZIMAGE)


def _gzip(head: bytes) -> Kind:
    try:
        content = zlib.decompressobj(wbits=31).decompress(head, HEAD)
    except zlib.error:
        return Kind("is a damaged gzip file", "copy it again")
    # Not again: there is a gzip file that decompresses to itself.
    inner = kind_of(content if content[:2] != b"\x1f\x8b" else b"")
    if inner.fact.startswith("is not a Linux kernel"):
        return Kind("is a gzip file, such as an initrd", _BZIMAGE)
    return Kind(f"is compressed with gzip, and what is in it {inner.fact}", inner.remedy)


def _portable_executable(head: bytes) -> Kind:
    at = int.from_bytes(head[0x3C:0x40], "little")
    number = int.from_bytes(head[at + 4 : at + 6], "little") if head[at : at + 4] == b"PE\0\0" else 0
    machine = _MACHINES.get(number, "another machine")
    if head[4:8] == b"zimg":
        return Kind(f"is an EFI zboot image for {machine}, which only UEFI starts", _OURS)
    if b".linux\0" in head[at:]:
        fact = "is a unified kernel image (UKI)"
        return Kind(fact, "give the kernel and the initrds in it: 'objcopy -O binary -j .linux UKI KERNEL'")
    if head[0x38:0x3C] == b"ARM\x64":
        return Kind("is a kernel for arm64", _OURS)
    if number in _MACHINES and machine != "x86-64":
        return Kind(f"is a program for {machine}", _OURS)
    return Kind("is an EFI program, but not a Linux kernel", _BZIMAGE)
