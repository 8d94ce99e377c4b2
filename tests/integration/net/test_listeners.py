"""Sockets bound to device and address, attacked from two real LANs."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from provision.errors import Unavailable
from provision.net.sockets import bind_tcp, bind_udp
from tests.helpers.netns import isolated, lan, sh

_DIAL = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),2); print(s.recv(5).decode())"

_SHOUT = """python3 -c "import socket; socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 6969))" """


@isolated
def test_only_its_own_lan_reaches_a_listener() -> None:
    with (
        lan("eth1", "192.0.2.1/24", "192.0.2.7/24") as inside,
        lan("eth2", "198.51.100.1/24", "198.51.100.7/24") as guest,
    ):
        guest.sh("ip route add 192.0.2.0/24 via 198.51.100.1")
        sh("echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/eth2/rp_filter")
        with bind_tcp("eth1", "192.0.2.1", 8080) as listener, bind_udp("eth1", "192.0.2.1", 6969) as datagrams:
            listener.settimeout(3)
            argv = ["python3", "-c", _DIAL, "192.0.2.1", "8080"]
            with subprocess.Popen(inside.argv(*argv), stdout=subprocess.PIPE) as dialling:
                connection, peer = listener.accept()
                connection.sendall(b"hello")
                connection.close()
                assert peer[0] == "192.0.2.7"
                assert dialling.communicate(timeout=5)[0] == b"hello\n"
            refused = subprocess.run(guest.argv(*argv), capture_output=True, timeout=10)
            assert refused.returncode != 0
            listener.settimeout(0.1)
            with pytest.raises(TimeoutError):
                listener.accept()
            datagrams.settimeout(0.3)
            guest.sh(_SHOUT)
            with pytest.raises(TimeoutError):
                datagrams.recv(10)
            inside.sh(_SHOUT)
            assert datagrams.recv(10) == b"x"


@isolated
def test_what_cannot_be_bound_says_why() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"), bind_tcp("eth1", "192.0.2.1", 8080):
        for bind in (bind_tcp, bind_udp):
            with pytest.raises(Unavailable, match="there is no interface eth9; see 'ip link'"):
                bind("eth9", "192.0.2.1", 8081)
            with pytest.raises(Unavailable, match=r"eth1 does not have 127\.0\.0\.1"):
                bind("eth1", "127.0.0.1", 8081)
        with pytest.raises(Unavailable, match="the port is taken; see 'ss -lnp sport = :8080'"):
            bind_tcp("eth1", "192.0.2.1", 8080)
        with bind_udp("eth1", "192.0.2.1", 6969), pytest.raises(Unavailable, match="the port is taken"):
            bind_udp("eth1", "192.0.2.1", 6969)


@isolated
def test_no_permission_says_so() -> None:
    code = (
        "import os\n"
        "from provision.net.sockets import bind_tcp\n"
        "os.setuid(65534)\n"
        "try: bind_tcp('lo', '127.0.0.1', 80)\n"
        "except Exception as error: print(error)"
    )
    sh("echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert "not permitted; give the service CAP_NET_BIND_SERVICE" in done.stdout, done.stderr


def test_a_bound_socket_does_not_block() -> None:
    with bind_udp("lo", "127.0.0.1", 0) as sock:
        assert sock.gettimeout() == 0.0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
