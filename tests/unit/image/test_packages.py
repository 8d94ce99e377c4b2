"""Debian packages as the builder sees them."""

from __future__ import annotations

import lzma
import tarfile
from io import BytesIO
from pathlib import Path

from provision.image import packages


def test_packages_are_seen_as_on_a_merged_usr_system() -> None:
    assert packages.merged("bin/ip") == "usr/bin/ip" and packages.merged("lib64/ld.so") == "usr/lib64/ld.so"
    assert packages.merged("usr/bin/ip") == "usr/bin/ip" and packages.merged("etc/lib/x") == "etc/lib/x"
    assert packages.merged_target("/bin/ip") == "/usr/bin/ip" and packages.merged_target("../bin/ip") == "../bin/ip"


def test_kernel_modules_are_unpacked(tmp_path: Path) -> None:
    stream, content = BytesIO(), b"\x7fELF" * 100
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (("./lib/modules/6.12/kernel/a.ko.xz", lzma.compress(content)), ("./etc/b", b"b.ko.xz")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, BytesIO(data))
        member = tarfile.TarInfo("./lib/link")
        member.type, member.linkname = tarfile.SYMTYPE, "modules"
        archive.addfile(member)
    with tarfile.open(fileobj=BytesIO(packages.plain_modules(stream.getvalue()))) as plain:
        files = {m.name: f.read() for m in plain.getmembers() if m.isreg() and (f := plain.extractfile(m))}
        links = {m.name: m.linkname for m in plain.getmembers() if m.issym()}
    assert files == {"./lib/modules/6.12/kernel/a.ko": content, "./etc/b": b"b.ko.xz"}
    assert links == {"./lib/link": "modules"}
    without = b"any other package"
    assert packages.plain_modules(without) is without
