"""A ticket is looked at without DNS: a server whose own name nobody resolves would wait for it with each token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.kdc import Realm, token
from tests.helpers.kerberos_site import SERVER

ALONE = """\
set -e
ip link set lo up
hostname nowhere.example.test
mount --bind resolv.conf /etc/resolv.conf
mount --bind hosts /etc/hosts
exec "$@"
"""
LOOK = """\
import socket, sys
from pathlib import Path
from provision.gssapi import accept
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
    dns.bind(("127.0.0.1", 53))
    dns.setblocking(False)
    if "asked" in sys.argv:
        try:
            socket.getaddrinfo(socket.gethostname(), None)
        except OSError:
            pass
    print(accept(Path("token").read_bytes(), Path("keytab"), Path("replays"), None).name)
    try:
        print("asked", len(dns.recv(512)) > 0)
    except BlockingIOError:
        print("asked", False)
"""


@pytest.fixture(scope="module")
def keytab(here: Realm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here.add(SERVER)
    return here.keytab(tmp_path_factory.mktemp("keys") / "keytab", SERVER)


@pytest.mark.parametrize("asked", [False, True])
def test_a_ticket_is_looked_at_without_dns(here: Realm, keytab: Path, tmp_path: Path, asked: bool) -> None:
    """On a machine whose name is in DNS only, and whose DNS server does not answer. (It would be seen to be asked.)"""
    (tmp_path / "keytab").symlink_to(keytab)
    (tmp_path / "token").write_bytes(token(here.kinit("alice")))
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    argv = ["unshare", "--net", "--uts", "--mount", "sh", "-c", ALONE, "sh", sys.executable, "-c", LOOK]
    argv += ["asked"] * asked
    environment = os.environ | {"KRB5_CONFIG": str(tmp_path / "none")}  # what the library does by itself
    ran = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.stdout == f"alice@EXAMPLE.TEST\nasked {asked}\n", ran.stderr
