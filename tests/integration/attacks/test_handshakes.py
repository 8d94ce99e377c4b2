"""TLS handshakes that are slow, half-open or without end: boots, the Unix socket and other clients of the API go on."""

from __future__ import annotations

import errno
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.cli_runner import cli
from tests.helpers.netns import Peer, isolated, lan
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import MAC1

NETWORK = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp = false\n'
CONFIG = f"http://10.0.0.1:8080/pxe/pxelinux.cfg/01-{MAC1.replace(':', '-')}"
MOST = 512
"""Connections in a handshake that a listener holds."""

SILENT, BEGUN = b"", bytes.fromhex("1603010200010001fc0303")
"""Nothing at all; and the beginning of a ClientHello, whose rest never comes."""


def open_sockets(served: Served) -> int:
    """TCP sockets of the service."""
    found = 0
    for path in Path(f"/proc/{served.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += path.readlink().name.startswith("socket:")
    return found


@contextmanager
def half_open(port: int, peers: int, each: int, said: bytes) -> Iterator[Callable[[], int]]:
    """So many peers, each with so many handshakes that it never ends, and again as soon as one is ended for it.
    Yields what says how often it has connected."""
    stop, dialled = Event(), [0]

    def dial(source: str) -> socket.socket | None:
        sock = socket.socket()
        sock.settimeout(2)
        try:
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port))
            sock.sendall(said)
        except OSError as error:
            sock.close()
            assert error.errno != errno.EMFILE
            return None
        sock.setblocking(False)
        dialled[0] += 1
        return sock

    def ended(sock: socket.socket) -> bool:
        try:
            return sock.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def run() -> None:
        held: list[tuple[str, socket.socket | None]] = [
            (f"127.0.1.{peer + 1}", None) for peer in range(peers) for _ in range(each)
        ]
        while not stop.is_set():
            for at, (source, sock) in enumerate(held):
                if sock is None or ended(sock):
                    if sock is not None:
                        sock.close()
                    held[at] = source, dial(source)
                if stop.is_set():
                    break
            stop.wait(0.05)
        for _, sock in held:
            if sock is not None:
                sock.close()

    thread = Thread(target=run)
    thread.start()
    try:
        yield lambda: dialled[0]
    finally:
        stop.set()
        thread.join()


def boot_seconds(machine: Peer) -> float:
    """How long a host waits for its configuration."""
    took = machine.sh(f"curl --silent --fail --max-time 20 --output /dev/null --write-out '%{{time_total}}' {CONFIG}")
    return float(took)


def slowest(measure: Callable[[], float], count: int = 15) -> tuple[float, float]:
    """Median and greatest of so many."""
    taken = [measure() for _ in range(count)]
    return statistics.median(taken), max(taken)


@contextmanager
def flooded(directory: Path) -> Iterator[tuple[ApiSite, Served, Peer]]:
    site = api_site(directory, NETWORK)
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as machine, serve(site.state) as served:
        served.wait_for("serving the operators' API at")
        served.wait_for("serving network 'mgmt'")
        yield site, served, machine
        assert "Traceback" not in served.log and "internal error" not in served.log
        assert served.stop() == 0


@isolated
def test_hundreds_of_half_open_handshakes_keep_nobody_waiting(tmp_path: Path) -> None:
    for said in (SILENT, BEGUN):
        (tmp_path / f"{len(said)}").mkdir()
        with flooded(tmp_path / f"{len(said)}") as (site, served, machine):
            quiet, before = slowest(lambda: boot_seconds(machine))[0], open_sockets(served)
            with half_open(site.port, peers=20, each=40, said=said) as dialled:
                deadline = time.monotonic() + 60
                while dialled() < 800:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                usual, most = slowest(lambda: boot_seconds(machine))
                assert usual < max(5 * quiet, 0.2) and most < 3
                assert cli(site.state, "status").code == 0
                assert open_sockets(served) - before <= MOST + 20
                # Another peer gets in: those that wait for longest give way, and those of one peer are no majority.
                assert [site.curl("/v1/health", "--interface", "127.0.0.1")[0] for _ in range(3)] == [200] * 3
                deadline = time.monotonic() + 60
                while dialled() < 1600:  # each of them has been ended after its time, or before
                    assert time.monotonic() < deadline
                    time.sleep(0.1)


@isolated
def test_handshakes_without_end_leave_time_for_boots(tmp_path: Path) -> None:
    """Whole handshakes, as fast as the clients can, from more addresses than have turns."""
    with flooded(tmp_path) as (site, served, machine):
        quiet, _ = slowest(lambda: boot_seconds(machine))
        stop, done = Event(), [0]

        def shake(source: str) -> None:
            while not stop.is_set():
                site.curl("/v1/health", "--interface", source, known=False)
                done[0] += 1

        threads = [Thread(target=shake, args=(f"127.0.2.{number}",)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        try:
            usual, most = slowest(lambda: boot_seconds(machine))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert done[0] > 10 and usual < max(10 * quiet, 0.5) and most < 5
        assert served.process.poll() is None
