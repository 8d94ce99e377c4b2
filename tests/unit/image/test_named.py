"""Programs that kept files name and an image has not."""

from __future__ import annotations

from provision.image.named import named
from provision.image.tree import Tree
from tests.helpers.image_samples import file, link, note


def elf(*names: str) -> bytes:
    return note(1, b"X", b"\0".join([b"", *(name.encode() for name in names), b""]))


def test_what_is_named_and_left_out() -> None:
    start = file(
        "usr/sbin/sshd", elf("/usr/lib/sshd-session", "/sbin/chkpwd", "/usr/lib/b.so.1", "/bin/sh", "/usr/share/text")
    )
    nodes = [
        start,
        file("usr/lib/sshd-session"),
        link("usr/sbin/chkpwd", "real"),
        file("usr/sbin/real"),
        file("usr/lib/b.so.1", "", 0o644),
        file("usr/share/text", "", 0o644),
        file("usr/bin/bash"),
        file("usr/bin/script", "#!/usr/bin/bash\n"),
    ]
    packages = Tree([*nodes, link("usr/bin/sh", "bash")])
    kept = {node.path: node for node in (start, nodes[-1], file("usr/bin/dash"), link("usr/bin/sh", "dash"))}
    by = ["/usr/sbin/sshd"]
    assert named(kept, packages) == {"/usr/lib/b.so.1": by, "/usr/lib/sshd-session": by, "/usr/sbin/real": by}
    everything = {node.path: node for node in packages.values()}
    assert named(everything, packages) == {}
