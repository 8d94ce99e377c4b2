"""A served site on two LANs for the attack tests, and the small clients by which hosts and attackers speak to it.

The base image is a kernel header and an empty archive: nobody boots it. Each host has a canary for its credential, and
the guest LAN is recorded from the first moment to the last: when the site is closed, no canary may have passed there.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from provision.demo.site import SETTINGS, DemoSite
from provision.lab.capture import flows
from provision.lab.lans import Lab, inside, ip
from provision.lab.processes import Process
from tests.fixtures import media

MGMT, GUEST = "10.77.1.1", "10.77.2.1"
MAC = {"node1": "52:54:00:77:00:01", "node2": "52:54:00:77:00:02", "node3": "52:54:00:77:00:03"}
ADDRESS = {"node1": "10.77.1.21", "node2": "10.77.1.22", "node3": "10.77.1.23"}
KERNEL_BYTES = 8 << 20
TOKEN = "/etc/provision/enrolment.token"

HOST = """\
  {name}:
    credentials: [enrolment]
    netboot: {netboot}
    interfaces:
      mgmt: {{mac: "{mac}", network: mgmt, addressing: static, ipv4: {address}}}
"""
INVENTORY = f"""\
site:
  domain: attack.example
  base: small
  networks:
    mgmt: {{role: management, prefix: 10.77.1.0/24, gateway: 10.77.1.1}}
    guest: {{role: general, prefix: 10.77.2.0/24, gateway: 10.77.2.1}}
  credentials:
    enrolment: {{kind: token, path: {TOKEN}}}
hosts:
""" + "".join(
    HOST.format(name=name, netboot="window" if name == "node3" else "always", mac=MAC[name], address=ADDRESS[name])
    for name in MAC
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `status` 0 stands for none at all. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    raw: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")

    @property
    def rule(self) -> str:
        """The rule of a denial, in a problem document or in a boot loader's configuration."""
        found = re.search(r'"rule": ?"([a-z-]+)"|\(rule: ([a-z-]+)\)', self.text)
        return (found[1] or found[2]) if found else ""


SILENCE = Answer(0, {}, b"", b"")


def exchange(
    namespace: str, address: str, request: bytes, *, port: int = 80, source: str = "", timeout: float = 4.0
) -> bytes | None:
    """Send bytes over TCP from a namespace and read to the end; None when there is no connection."""
    with inside(namespace), socket.socket() as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        try:
            sock.connect((address, port))
        except OSError:
            return None
        received = b""
        with contextlib.suppress(OSError):
            sock.sendall(request)
            while data := sock.recv(1 << 18):
                received += data
        return received


def http(
    namespace: str,
    address: str,
    target: str | bytes,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    port: int = 80,
    source: str = "",
    timeout: float = 4.0,
) -> Answer:
    """One request with a target that is sent as it stands."""
    raw_target = target.encode() if isinstance(target, str) else target
    given = {"Host": address, "Connection": "close"} | ({"Content-Length": str(len(body))} if body else {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in (given | dict(headers or {})).items())
    request = method.encode() + b" " + raw_target + b" HTTP/1.1\r\n" + lines.encode() + b"\r\n" + body
    raw = exchange(namespace, address, request, port=port, source=source, timeout=timeout)
    return parse(raw) if raw else SILENCE


def parse(raw: bytes) -> Answer:
    """The parts of an HTTP answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body, raw)


def rrq(name: str | bytes, *options: str) -> bytes:
    """A TFTP read request (RFC 1350, RFC 2347)."""
    raw = name.encode() if isinstance(name, str) else name
    return b"\0\1" + raw + b"\0octet\0" + b"".join(option.encode() + b"\0" for option in options)


def tftp(
    namespace: str,
    address: str,
    request: str | bytes,
    *,
    port: int = 69,
    source: str = "",
    timeout: float = 2.5,
) -> Answer:
    """Read a file in lockstep; an error packet is an answer with its code as `status`, a whole file has 200.

    `request` is a file name, or a whole packet when it is bytes.
    """
    packet = rrq(request) if isinstance(request, str) else request
    received, expected = b"", 1
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        if source:
            sock.bind((source, 0))
        sock.sendto(packet, (address, port))
        while True:
            try:
                data, peer = sock.recvfrom(2048)
            except OSError:
                return SILENCE
            kind, number = struct.unpack_from("!HH", data)
            if kind == 5:
                return Answer(number, {}, data[4:-1], data)
            if kind == 3 and number == expected & 0xFFFF:
                received, expected = received + data[4:], expected + 1
                sock.sendto(struct.pack("!HH", 4, number), peer)
                if len(data) < 516:
                    return Answer(200, {}, received, received)


def pxe(name: str) -> str:
    """The path (without its first slash) of a host's pxelinux configuration below /pxe/, or over TFTP."""
    return f"pxelinux.cfg/01-{MAC[name].replace(':', '-')}"


class AttackSite:
    """Lab, site, the served process, three hosts on the management LAN, and an attacker on the guest LAN."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.mgmt, self.guest = lab.lan("mgmt", "10.77.1.0/24"), lab.lan("guest", "10.77.2.0/24")
        self.wire = self.guest.capture()
        self.site = DemoSite(lab, INVENTORY, SETTINGS)
        kernel = media.write(lab.directory / "vmlinuz", media.kernel(payload=KERNEL_BYTES))
        initrd = media.write(lab.directory / "initrd", media.image_archive())
        self.site.call("image", "import", "small", "--kernel", kernel, "--initrd", initrd)
        self.site.call("apply", self.site.inventory)
        self.canary = {name: f"canary-{secrets.token_hex(16)}".encode() for name in MAC}
        for name, value in self.canary.items():
            self.site.call("credential", "set", name, "enrolment", "--file", "-", stdin=value)
        self.keys: set[bytes] = set()
        self.hosts = {
            name: self.mgmt.host(name, f"{ADDRESS[name]}/24", mac=MAC[name]) for name in ("node1", "node2", "node3")
        }
        self.attacker = self.guest.host("attacker", "10.77.2.66/24")
        ip(self.attacker, "route", "add", "default", "via", GUEST)
        self._open_the_weak_host()
        self.server: Process = self.site.serve()

    def _open_the_weak_host(self) -> None:
        """Nothing but the product itself is to stand in an attacker's way: source checks off, on both NICs."""
        with inside(self.lab.server):
            for name in ("all", "mgmt", "guest"):
                for key in ("rp_filter", "arp_ignore"):
                    Path(f"/proc/sys/net/ipv4/conf/{name}/{key}").write_text("0")

    def seed_of(self, name: str) -> Answer:
        """The seed as the host itself gets it: configuration first, then the seed it names. The positive control."""
        config = http(self.hosts[name], MGMT, f"/pxe/{pxe(name)}")
        answer = http(self.hosts[name], MGMT, self.seed_path(config))
        assert answer.status == 200 and self.canary[name] in answer.body, answer.text[:300]
        self.keys.add(self.phone_home(answer)["key"].encode())
        return answer

    @staticmethod
    def seed_path(config: Answer) -> str:
        """The path of the seed that a configuration names."""
        found = re.search(r"/boot/seed/[0-9a-f]{64}/seed\.cpio", config.text)
        assert found, config.text
        return found[0]

    @staticmethod
    def phone_home(seed: Answer) -> dict[str, str]:
        """The `phone_home` member of the seed's host.json."""
        found = re.search(rb'"phone_home": ?(\{[^}]*\})', seed.body)
        assert found
        result: dict[str, str] = json.loads(found[1])
        return result

    @cached_property
    def base(self) -> str:
        """The id of the base image."""
        return str(self.site.json("image", "list")[0]["id"])

    def leaks(self, data: bytes) -> bool:
        """Whether bytes hold a canary, a key, or a seed's member."""
        return any(secret in data for secret in (*self.canary.values(), *self.keys, b"provision-seed"))

    def audit(self, **fields: Any) -> list[dict[str, Any]]:
        """The audit entries that have all these values."""
        entries = self.site.json("audit", "--limit", "2000")
        return [entry for entry in entries if fields.items() <= entry.items()]

    def close(self) -> None:
        """No attack has put a secret on the guest wire, or into the server's log, nor left a traceback there."""
        self.wire.stop()
        payloads = flows(iter(self.wire.frames()))
        for secret in (*self.canary.values(), *self.keys):
            assert not any(secret in payload for payload in payloads.values()), "a secret was on the guest LAN"
            assert secret not in self.wire.path.read_bytes()
            assert secret.decode() not in self.server.text
        assert "Traceback" not in self.server.text and "internal error" not in self.server.text, self.server.text
        assert self.server.running, self.server.text


@contextlib.contextmanager
def attack_site(directory: Path) -> Iterator[AttackSite]:
    """The served site; on leaving, `AttackSite.close` judges what the attacks have done."""
    with Lab("a", directory) as lab:
        site = AttackSite(lab)
        yield site
        site.close()


@contextlib.contextmanager
def listening(namespace: str, address: str, port: int, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """A plain socket of a careless program: bound to the address alone."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, kind)
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.settimeout(3)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock
