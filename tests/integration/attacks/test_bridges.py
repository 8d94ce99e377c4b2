"""A machine that gets onto a management bridge without being listed: a port that joins and asks in the same instant."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from provision.lab.lans import Lab, inside, ip
from tests.helpers.wired import CANARY, Wired, eventually
from tests.integration.attacks.site import ADDRESS, MAC, MGMT, rrq

RUNS = int(os.environ.get("RUNS", "8"))
SERVER_MAC = "52:54:00:77:00:fe"
_SO_RCVBUFFORCE = 33  # socket(7)
SEED = "boot/seed/current/seed.cpio"
SECRETS = (CANARY, b"provision-seed/root")


class Guest:
    """A guest with a host's MAC and address on a port that is not in the bridge yet. It asks all the time, by TFTP and
    HTTP, answers everybody's ARP by its own kernel, and keeps every frame that its wire ever brought."""

    def __init__(self, wired: Wired, name: str = "", host: str = "node2") -> None:
        self.wired, self.name = wired, name or f"tap{wired.number()}"
        self.namespace = wired.lab.namespace(f"race-{wired.number()}")
        peer = ("type", "veth", "peer", "name", "eth0", "address", MAC[host], "netns", self.namespace)
        wired.ip("link", "add", self.name, *peer)
        wired.ip("link", "set", self.name, "up")
        ip(self.namespace, "addr", "add", f"{ADDRESS[host]}/24", "dev", "eth0")
        ip(self.namespace, "link", "set", "eth0", "up")
        ip(self.namespace, "neigh", "replace", MGMT, "lladdr", SERVER_MAC, "nud", "permanent", "dev", "eth0")
        self.frames: list[bytes] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=work) for work in (self._listen, self._tftp, self._http)]
        with inside(self.namespace):
            self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self._wire.bind(("eth0", 0))

    def __enter__(self) -> Guest:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self._wire.close()
        self.wired.ip("link", "del", self.name)

    def join(self) -> None:
        self.wired.ip("link", "set", self.name, "master", "brm")

    def _listen(self) -> None:
        while not self.stop.is_set():
            if select.select([self._wire], [], [], 0.1)[0]:
                self.frames.append(self._wire.recv(65536))

    def _tftp(self) -> None:
        with inside(self.namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.001)
            while not self.stop.is_set():
                with contextlib.suppress(OSError):
                    sock.sendto(rrq(SEED), (MGMT, 69))
                    while True:
                        data, peer = sock.recvfrom(2048)
                        sock.sendto(b"\0\4" + data[2:4], peer)

    def _http(self) -> None:
        with inside(self.namespace):
            while not self.stop.is_set():
                with socket.socket() as sock, contextlib.suppress(OSError):
                    sock.settimeout(0.03)
                    sock.connect((MGMT, 80))
                    sock.settimeout(0.5)
                    sock.sendall(f"GET /{SEED} HTTP/1.0\r\n\r\n".encode())
                    while sock.recv(65536):
                        pass

    def secrets(self) -> int:
        """How many frames brought a part of a secret."""
        return sum(any(secret in frame for secret in SECRETS) for frame in self.frames)


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    with Lab("r", tmp_path_factory.mktemp("bridge")) as lab:
        yield Wired(lab)


def test_a_port_that_joins_and_asks_at_once_gets_nothing(wired: Wired) -> None:
    with wired.serving() as process:
        for run in range(RUNS):
            eventually(lambda: "boots from the network" in wired.config())
            with Guest(wired) as guest:
                time.sleep(0.05)
                guest.join()
                process.wait_for(f"'mgmt' is not served: .*{guest.name}", 8)
                time.sleep(0.1)
                assert guest.secrets() == 0, f"run {run}: {guest.secrets()} of {len(guest.frames)} frames"


def test_the_same_guest_on_a_listed_port_gets_its_seed(wired: Wired) -> None:
    """The positive control: the attack asks rightly, and is seen when it succeeds."""
    with wired.serving('bridge_ports = ["uplink", "listed0"]'), Guest(wired, "listed0") as guest:
        guest.join()
        eventually(lambda: guest.secrets() > 0)


def test_what_is_under_way_ends_when_a_port_joins(wired: Wired) -> None:
    """The rest of a transfer would follow a MAC that the guest has taken over meanwhile."""
    with wired.serving() as process, inside(wired.node), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(4)
        sock.sendto(rrq(SEED), (MGMT, 69))
        data, peer = sock.recvfrom(2048)
        assert data[:4] == b"\0\3\0\1"
        with Guest(wired) as guest:
            guest.join()
            process.wait_for(f"'mgmt' is not served: .*{guest.name}", 8)
            assert sock.recv(2048)[:2] == b"\0\5", "an error ends it"
            sock.sendto(b"\0\4\0\1", peer)
            sock.settimeout(0.5)
            with pytest.raises(OSError, match=r"timed out|refused"):
                sock.recv(2048)
