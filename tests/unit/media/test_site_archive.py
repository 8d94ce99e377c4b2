"""The site archive: what it holds, one on a line, and the same bytes every time."""

from __future__ import annotations

import io

from provision import cpio
from provision.media.site_archive import site_archive


def test_it_has_keys_and_servers_one_on_a_line() -> None:
    made = site_archive([b"a" * 32, b"b" * 32], [b"\0\x01p"], ["http://10.0.0.1", "http://10.1.0.1:8080"])
    assert made == site_archive([b"a" * 32, b"b" * 32], [b"\0\x01p"], ["http://10.0.0.1", "http://10.1.0.1:8080"])
    assert len(made) % cpio.BLOCK == 0
    tagged = site_archive([], [], [], [30, 4094])
    assert {m.path: m.data for m in cpio.read(io.BytesIO(tagged))}["provision-site/vlans"] == b"30\n4094\n"
    members = list(cpio.read(io.BytesIO(made)))
    assert [(m.path, m.mode) for m in members] == [
        ("provision-site", 0o40755),
        ("provision-site/approval", 0o100644),
        ("provision-site/servers", 0o100644),
        ("provision-site/signing", 0o100644),
    ]
    assert {m.path: m.data for m in members[1:]} == {
        "provision-site/approval": b"000170\n",
        "provision-site/servers": b"http://10.0.0.1\nhttp://10.1.0.1:8080\n",
        "provision-site/signing": f"{'61' * 32}\n{'62' * 32}\n".encode(),
    }
