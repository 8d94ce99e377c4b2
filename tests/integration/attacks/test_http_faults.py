"""What a client does wrong, or on purpose, on a boot listener: no "internal error", no traceback, nothing left behind.

The lines of the server's log are for faults of the server. An attacker who could write them at will could hide one
among them.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from provision.lab.lans import inside
from tests.integration.attacks.site import GUEST, MGMT, AttackSite, attack_site, exchange, http, pxe

RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close() sends RST
SEED, TALKS = 20261128, 1500


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("faults")) as site:
        yield site


@pytest.fixture(autouse=True)
def quiet(site: AttackSite) -> Iterator[None]:
    """No test makes the server speak of an error, and each leaves it answering, with no descriptor more."""
    http(site.attacker, GUEST, f"/pxe/{pxe('node1')}")
    before, said = descriptors(site), len(site.server.text)
    yield
    news = site.server.text[said:]
    assert not re.search("internal error|Traceback|Exception|ERROR|WARNING", news), news[-3000:]
    assert http(site.attacker, GUEST, f"/pxe/{pxe('node1')}").rule == "foreign-mac"
    end = time.monotonic() + 30
    while descriptors(site) > before + 2:
        assert time.monotonic() < end, "connections and files are closed"
        time.sleep(0.1)


def descriptors(site: AttackSite) -> int:
    """Open sockets and files of the server, without its database: each of its threads has that open for good."""
    found = []
    for one in Path(f"/proc/{site.server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(one.readlink()))
    return sum("provision.db" not in target for target in found)


def resident(site: AttackSite) -> int:
    """Memory of the server now, in KiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{site.server.pid}/status").read_text())
    assert found
    return int(found[1])


def dial(namespace: str, address: str) -> socket.socket:
    with inside(namespace):
        sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(5)
    sock.connect((address, 80))
    return sock


def leave(sock: socket.socket, reset: bool) -> None:
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


POST = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("junk", [b"\0" * 4096, b"\xff\r\n\r\n", b"GET", b"x" * 70_000])
def test_what_comes_behind_the_request_for_a_large_file(site: AttackSite, junk: bytes, reset: bool) -> None:
    """NULs behind a GET of the ISO: the parser closes while the answer begins."""
    for namespace, address in ((site.hosts["node1"], MGMT), (site.attacker, GUEST)):
        for path in ("/http-boot/boot.iso", f"/boot/{site.base}/kernel"):
            for together in (True, False):
                sock = dial(namespace, address)
                with contextlib.suppress(OSError):
                    if together:
                        sock.sendall(get(path) + junk)
                    else:
                        sock.sendall(get(path))
                        sock.recv(100)
                        sock.sendall(junk)
                    sock.recv(65536)
                leave(sock, reset)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("head", [POST, CHUNKED])
def test_half_a_post(site: AttackSite, head: bytes, reset: bool) -> None:
    for part in (b"", b'{"host"', b"2\r\n{"):
        for _ in range(5):
            sock = dial(site.attacker, GUEST)
            sock.sendall(head + part)
            leave(sock, reset)


def test_a_connection_that_closes_under_several_answers(site: AttackSite) -> None:
    """Pipelined requests, and gone before they are answered: each of them would write on a closed handle."""
    uuid = "/pxe/pxelinux.cfg/00000000-0000-0000-0000-000000000001"
    paths = [uuid, "/boot/seed/current/seed.cpio", "/http-boot/boot.iso", f"/boot/{site.base}/kernel"]
    for namespace, address in ((site.hosts["node1"], MGMT), (site.attacker, GUEST)):
        for number in range(80):
            sock = dial(namespace, address)
            with contextlib.suppress(OSError):
                sock.sendall(get(paths[number % 4]) + get(f"/pxe/{pxe('node1')}") * (number % 7) + POST)
                if number % 5 == 0:
                    sock.recv(1000)
            leave(sock, number % 3 < 2)


def test_a_reset_at_every_byte(site: AttackSite) -> None:
    body = b'{"host": "node1", "key": "00"}'
    whole = b"POST /up HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    whole += get("/pxe/lpxelinux.0")
    for length in range(len(whole)):
        sock = dial(site.attacker, GUEST)
        sock.sendall(whole[:length])
        leave(sock, True)


def test_no_redirect_and_no_word_of_the_request(site: AttackSite) -> None:
    for path in ("/up/", "/http-boot/boot.iso/", f"/boot/{site.base}/kernel/", "/pxe/lpxelinux.0/", "/v1/hosts/"):
        for method in ("GET", "POST"):
            answer = http(site.attacker, GUEST, path, method=method, headers={"Host": "evil.example"})
            assert answer.status in (404, 405), (path, method, answer.raw)
            assert "location" not in answer.headers
            assert b"evil.example" not in answer.raw


def test_trailers_are_no_headers(site: AttackSite) -> None:
    """A range, or a length, that comes behind the body, and one that is left over for the next request."""
    node, path = site.hosts["node1"], f"/boot/{site.base}/kernel"
    for trailer in (b"Range: bytes=0-9", b"If-None-Match: *", b"If-Match: nothing"):
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        sent = exchange(node, MGMT, head + b"1\r\nx\r\n0\r\n" + trailer + b"\r\n\r\n")
        assert sent is not None and sent.startswith(b"HTTP/1.1 200"), "the whole, as without a trailer"
        following = head + b"0\r\n" + trailer + b"\r\n\r\n" + get(path)
        sent = exchange(node, MGMT, following, timeout=2)
        assert sent is not None and not re.search(rb"HTTP/1.1 (206|304|412)", sent)
    length = exchange(node, MGMT, head + b"0\r\nContent-Length: 5\r\n\r\n" + get(path), timeout=2)
    assert length is None or length.count(b"HTTP/1.1 200") <= 1, "that is refused, or of no effect"
    endless = exchange(site.attacker, GUEST, CHUNKED + b"0\r\n" + b"A: b\r\n" * 20_000)
    assert endless is not None and b'"host"' not in endless


def test_the_first_requests_of_a_hurried_client_are_answered(site: AttackSite) -> None:
    """HTTP allows it, and nothing of it is lost as long as it is little."""
    sent = exchange(site.attacker, GUEST, get(f"/pxe/{pxe('node1')}") * 4 + get("/nothing"), timeout=3)
    assert sent is not None and sent.count(b"HTTP/1.1 200") == 4 and sent.count(b"HTTP/1.1 404") == 1


class Talk:
    """One made-up connection: pieces to send, with how to leave in the end."""

    def __init__(self, chance: random.Random, paths: Sequence[str], given: Sequence[bytes] = ()) -> None:
        """About these paths, with a field of those `given` among others."""
        fields = [
            *given,
            b"Host: x",
            b"Connection: close",
            b"Connection: upgrade\r\nUpgrade: websocket",
            b"Range: bytes=5-",
        ]
        fields += [b"Expect: 100-continue", b"Content-Length: 7", b"Content-Length: -1", b"Content-Length: 5000"]
        fields += [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"X: " + b"y" * 9000, b" z: z"]
        fields += [b"If-Match: *", b"Range: bytes=0-0,2-3", b"A: b\r\n" * 60 + b"C: d", b"\0: \0", b"Cookie: \xff"]
        methods = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"get"]
        data = b""
        for _ in range(chance.choice([1, 1, 1, 2, 3, 20])):
            data += chance.choice(methods[:3] if chance.random() < 0.7 else methods) + b" "
            data += chance.choice(paths).encode() + chance.choice([b" HTTP/1.1\r\n"] * 9 + [b" HTTP/1.0\r\n", b"\r\n"])
            data += b"".join(field + b"\r\n" for field in chance.sample(fields, chance.choice([0, 1, 2, 3])))
            data += chance.choice([b"\r\n"] * 9 + [b"", b"\n"])
            body = [b"", b"", b"{}", b"1234567", b"\0" * 3000, b"0\r\n\r\n", b"2\r\nhi\r\n0\r\nRange: bytes=1-\r\n\r\n"]
            data += chance.choice([*body, b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b"1;" + b"e" * 5000 + b"\r\nx\r\n"])
        if chance.random() < 0.3:
            at = chance.randrange(len(data))
            data = data[:at] + chance.randbytes(chance.randrange(1, 4)) + data[at + 1 :]
        if chance.random() < 0.4:
            data = data[: chance.randrange(len(data) + 1)]
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice([0, 0, 1, 3])))
        self.pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        self.read, self.half, self.reset = chance.random() < 0.5, chance.random() < 0.2, chance.random() < 0.4

    def hold(self, sock: socket.socket) -> None:
        """Send, read a little, and leave."""
        with contextlib.suppress(OSError):
            for piece in self.pieces:
                sock.sendall(piece)
            if self.half:
                sock.shutdown(socket.SHUT_WR)
            if self.read:
                sock.settimeout(0.02)
                sock.recv(3000)
        leave(sock, self.reset)


def test_a_fuzzer_finds_nothing(site: AttackSite) -> None:
    chance = random.Random(SEED)
    paths = [
        f"/boot/{site.base}/kernel",
        f"/boot/{site.base}/initrd/0",
        "/http-boot/boot.iso",
        "/pxe/lpxelinux.0",
        "/up",
    ]
    paths += [f"/pxe/{pxe('node1')}", "/boot/seed/current/seed.cpio", "/", "/%00", "*", "//x//", "http://[/", "a:1"]
    for number in range(TALKS):
        if number == TALKS // 5:
            settled = resident(site)
        namespace, address = (site.hosts["node1"], MGMT) if number % 4 == 0 else (site.attacker, GUEST)
        Talk(chance, paths).hold(dial(namespace, address))
        if number % 100 == 0:
            assert "internal error" not in site.server.text, (number, site.server.text[-2000:])
    site.seed_of("node1")
    assert resident(site) - settled < 20 << 10, "memory returns"
