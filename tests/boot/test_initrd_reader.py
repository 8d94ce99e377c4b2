"""What the reader of initrds takes, a real kernel unpacks to the last file; after what it refuses, files are lost."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision import cpio
from provision.errors import Invalid
from provision.image.build import Image
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Machine
from provision.media.initrd import inspect_initrd

INIT = b"""#!/bin/busybox sh
for name in $(/bin/busybox ls /seen); do echo "unpacked: $name"; done
echo "unpacked: that is all"
/bin/busybox poweroff -f
"""
BUSYBOX = Path("/usr/bin/busybox")
ZEROS = bytes(8)
_TRAILER = 124  # bytes of an archive's last entry


def packed(format_: str, data: bytes) -> bytes:
    library = {
        "gzip": lambda: gzip.compress(data, mtime=0),
        "bzip2": lambda: bz2.compress(data),
        "xz": lambda: lzma.compress(data, check=lzma.CHECK_CRC32),
        "lzma": lambda: lzma.compress(data, format=lzma.FORMAT_ALONE),
    }
    if format_ in library:
        return library[format_]()
    command = {"zstd": ["zstd", "-qc"], "lz4": ["lz4", "-qcl"], "lzo": ["lzop", "-qc"]}[format_]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def archive(name: str, size: int = 1, *, checksum: bool = False) -> bytes:
    """An archive of the file seen/NAME, padded to 4 and no further; the content does not get smaller when packed."""
    data = os.urandom(size)
    plain = cpio.pack([cpio.directory("seen"), cpio.file(f"seen/{name}", data)])
    plain = plain[: plain.rindex(b"TRAILER!!!") + 14]
    if not checksum:
        return plain
    at = plain.index(f"seen/{name}".encode()) - 110
    summed = plain[at + 6 : at + 102] + b"%08X" % sum(data)
    return (
        plain[:at].replace(b"070701", b"070702") + b"070702" + summed + plain[at + 110 :].replace(b"070701", b"070702")
    )


def aligned(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def members() -> Iterator[tuple[str, bytes]]:
    """Members that the reader takes, in the order in which they stand, each with the name of its last file."""
    init = [cpio.file("bin/busybox", BUSYBOX.read_bytes(), 0o755), cpio.file("init", INIT, 0o755)]
    yield "", cpio.pack(cpio.tree(init))
    # One behind the other with nothing between, each of a size of its own.
    for size in (1, 203, 5002, 70_001):
        for format_ in ("gzip", "bzip2", "lzma", "xz", "zstd", "lzo"):
            name = f"{format_}-{size}"
            yield name, packed(format_, archive(name, size))
    for size in (0, 300_000):
        yield f"lz4-{size}", packed("lz4", archive(f"lz4-{size}", size)) + bytes(4)
    yield "named", _named(packed("gzip", archive("named")))
    yield "two", packed("gzip", archive("one-of-two") + archive("two"))
    yield "zeros-within", packed("zstd", archive("before-zeros") + ZEROS + archive("zeros-within") + ZEROS)
    yield "zeros-first", packed("lzma", ZEROS + archive("zeros-first"))
    yield "to-alignment", b""
    yield "plain", archive("plain", 5) + ZEROS
    yield "after-zeros", archive("before-plain-zeros")[:-_TRAILER] + ZEROS + archive("after-zeros")
    yield "checksum", archive("checksum", 99, checksum=True)


def _named(content: bytes) -> bytes:
    """A gzip member with a file name in its header."""
    return content[:3] + b"\x08" + content[4:10] + b"initrd.cpio\0" + content[10:]


def joined() -> tuple[bytes, list[str]]:
    content, names = b"", []
    for name, member in members():
        content = (aligned(content) if name == "to-alignment" else content) + member
        names += [name] if member and name else []
    return content, names


def test_the_kernel_unpacks_what_the_reader_takes(lab: Lab, probe: Image, tmp_path: Path) -> None:
    content, names = joined()
    good = tmp_path / "good"
    good.write_bytes(content)
    inspect_initrd(good, tmp_path)
    gone = packed("gzip", archive("before"))
    gone += bytes(-len(content + gone) % 4 + 2) + archive("unaligned")
    whole = tmp_path / "initrd"
    whole.write_bytes(aligned(content + gone) + archive("after"))
    with pytest.raises(Invalid, match="does not start on a multiple of 4"):
        inspect_initrd(whole, tmp_path)
    machine = Machine(
        "unpacks", order=(Device.DISK,), kernel=probe.kernel, initrd=whole, arguments="console=ttyS0,115200 panic=-1"
    )
    with VM(lab, machine) as vm:
        vm.wait_for("unpacked: that is all", 240)
        text = vm.console_file.read_text(errors="replace")
    seen = {line.strip().removeprefix("unpacked: ") for line in text.splitlines() if line.startswith("unpacked: ")}
    assert seen >= {*names, "before"}, f"not unpacked: {sorted({*names, 'before'} - seen)}"
    assert not seen & {"unaligned", "after"}
