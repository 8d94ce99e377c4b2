"""A site to measure on: an inventory of any size, a base image, a state directory, and a LAN between two namespaces."""

from __future__ import annotations

import os
import secrets
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from bench.common import workspace
from provision import cpio
from provision.document import Source
from provision.media.importing import ImportRequest
from provision.media.initrd import CONTRACT
from provision.media.newc import MARKER
from provision.principal import Authentication, Principal, PrincipalRole
from provision.secret import Secret
from provision.service.service import Service
from provision.settings import load
from provision.store.keys import create_key

NETWORK = IPv4Network("10.64.0.0/16")
SERVER = NETWORK[1]
INTERFACE = "mgmt"
MIB = 1024 * 1024
OPERATOR = Principal("bench", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)
_TOKEN = "enrolment"

_SITE = f"""\
site:
  domain: bench.example
  realm: BENCH.EXAMPLE
  base: bench
  networks:
    mgmt:
      role: management
      prefix: {NETWORK}
      gateway: {NETWORK[1]}
      dns: [{NETWORK[1]}]
      ntp: [{NETWORK[1]}]
    guest: {{role: general, prefix: 10.65.0.0/16, gateway: 10.65.0.1}}
  credentials:
    {_TOKEN}: {{kind: token, path: /etc/provision/enrolment.token}}
hosts:
"""
_HOST = """\
  {name}:
    credentials: [{token}]
    labels: {{rack: {rack}}}
    interfaces:
      mgmt: {{mac: "{mac}", network: mgmt, addressing: static, ipv4: {address}}}
"""
_SETTINGS = f"""\
max_connections = 16384

[[listen]]
network = "mgmt"
interface = "{INTERFACE}"
tftp = false
"""


def name(number: int) -> str:
    """The name of host `number` (from 0)."""
    return f"node{number}"


def mac(number: int) -> str:
    """Its MAC."""
    return f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def address(number: int) -> IPv4Address:
    """Its address, static."""
    return NETWORK[256 + number]


def inventory(hosts: int, first_rack: str = "r0") -> Source:
    """An inventory file with so many hosts, each with one NIC, one static address and one credential.

    `first_rack` is a label of the first host, so that two inventories can differ by it.
    """
    racks = (f"r{n // 40}" if n else first_rack for n in range(hosts))
    blocks = (
        _HOST.format(name=name(n), token=_TOKEN, rack=rack, mac=mac(n), address=address(n))
        for n, rack in enumerate(racks)
    )
    return Source("site.yaml", (_SITE + "".join(blocks)).encode(), {})


def make_state(state: Path, *, listen: bool) -> None:
    """A state directory with a fresh key; with `listen`, its settings serve the management network."""
    state.mkdir(mode=0o700)
    create_key(state)
    (state / "provision.toml").write_text(_SETTINGS if listen else "")


def open_service(state: Path) -> Service:
    """The service on the state directory, in this process."""
    return Service.open(load(state, state / "provision.toml"))


def fill(service: Service, hosts: int, parts: Path, initrd_size: int) -> None:
    """Import a base image whose initrd has about `initrd_size` bytes, apply the inventory, give each host a secret."""
    import_base(service, parts, initrd_size)
    service.inventories.apply([inventory(hosts)], prune=False, confirmed=False, principal=OPERATOR)
    tokens = [(name(n), _TOKEN, Secret(secrets.token_hex(32).encode())) for n in range(hosts)]
    service.credentials.put_many(tokens, OPERATOR)


def make_site(stack: ExitStack, hosts: int, initrd: int = 4096) -> Path:
    """A state directory of so many hosts that serves the management network, each with a window for one boot, and with
    an initrd of about so many bytes."""
    root = stack.enter_context(workspace("provision-bench-"))
    state = root / "state"
    make_state(state, listen=True)
    service = open_service(state)
    fill(service, hosts, root, initrd)
    now = service.core.clock()
    for number in range(hosts):
        service.core.store.windows.open(name(number), 60, 1, now, OPERATOR)
    service.close()
    return state


def import_base(service: Service, parts: Path, initrd_size: int) -> None:
    """Import the base image that the inventory names, from files made in the directory `parts`."""
    kernel, initrd = _files(parts, initrd_size)
    request = ImportRequest("bench", kernel, (initrd,), ("console=ttyS0,115200n8", "quiet"))
    base = service.core.library.import_base(request, lambda stage, done: None)
    service.core.store.bases.name("bench", base.id)


def _files(parts: Path, initrd_size: int) -> tuple[Path, Path]:
    """A kernel and an initrd by their formats; nothing that boots, but import reads both to their ends."""
    kernel, initrd = parts / "vmlinuz", parts / "initrd"
    kernel.write_bytes(_bzimage(8 * MIB if initrd_size >= MIB else 4096))
    with initrd.open("wb") as file:
        file.write(cpio.pack(cpio.tree([cpio.file(MARKER, CONTRACT)])))
        # Import takes a thousand archives of one file, and nobody makes so many.
        for start in range(0, initrd_size, 16 * MIB):
            file.write(cpio.pack([cpio.file(f"blob{start}", os.urandom(min(16 * MIB, initrd_size - start)))]))
    return kernel, initrd


def _bzimage(payload: int) -> bytes:
    """Four setup sectors of a bzImage (Linux, Documentation/arch/x86/boot.rst), a version, `payload` bytes."""
    image = bytearray(5 * 512) + os.urandom(payload)
    image[0x1F1] = 4
    struct.pack_into("<I", image, 0x1F4, payload // 16)
    image[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    struct.pack_into("<HxxxxxxH", image, 0x206, 0x020F, 0x300)
    image[0x211] = 1
    struct.pack_into("<I", image, 0x238, 2047)
    banner = b"6.1.0-bench (bench@example) #1 SMP\0"
    image[0x500 : 0x500 + len(banner)] = banner
    return bytes(image)


class Namespace:
    """A network namespace; it lives as long as its process, so nothing is left behind even after a kill."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def argv(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """The command line that runs `argv` in here."""
        return ["nsenter", "-t", str(self.pid), "-n", *argv]

    def run(self, argv: Sequence[str | Path], stdin: str = "") -> str:
        """Run a command in here and return what it prints."""
        command = [str(a) for a in self.argv(argv)]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"{argv[0]}: {done.stderr.strip()[-300:]}")
        return done.stdout


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A fresh network namespace with only `lo`, up. Needs root."""
    argv = ["unshare", "-n", "sh", "-ec", "ip link set lo up; echo; exec sleep 3600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            if not child.stdout.readline():
                raise SystemExit("no network namespace: run the benchmarks as root")
            yield Namespace(child.pid)
        finally:
            child.kill()


@contextmanager
def lan(hosts: int) -> Iterator[tuple[Namespace, Namespace]]:
    """The server's namespace and the hosts', with a wire between them.

    The hosts' side has every host's address on one NIC; the server's has a permanent neighbour entry with every host's
    own MAC. So frames come to MACs that the NIC does not have, and nftables takes them in all the same.
    """
    with namespace() as server, namespace() as others:
        server.run(["ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "eth0", "netns", str(others.pid)])
        numbers = range(hosts)
        wire = [f"addr add {SERVER}/{NETWORK.prefixlen} dev {INTERFACE}", f"link set {INTERFACE} up"]
        wire += [f"neigh add {address(n)} lladdr {mac(n)} dev {INTERFACE} nud permanent" for n in numbers]
        server.run(["ip", "-batch", "-"], "\n".join(wire))
        theirs = [f"addr add {address(n)}/{NETWORK.prefixlen} dev eth0" for n in numbers]
        others.run(["ip", "-batch", "-"], "\n".join([*theirs, "link set eth0 up"]))
        hook = "type filter hook ingress device eth0 priority 0;"
        others.run(["nft", "-f", "-"], f"table netdev t {{ chain c {{ {hook} meta pkttype set host\n }}\n }}")
        yield server, others
