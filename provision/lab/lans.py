"""Real LANs on one machine: network namespaces, bridges, veth pairs and taps. Needs root on Linux.

A LAN is a bridge in a namespace of its own, like a switch in a cabinet. The server under test runs in another
namespace and has one plain NIC on each LAN, named like the LAN. Virtual machines and plain hosts are plugged into the
bridge. Nothing touches the machine's own namespace, and everything is named after this process.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import os
import re
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from provision import proc
from provision.below import discard
from provision.errors import Unavailable
from provision.lab.capture import Capture
from provision.lab.processes import Process, last_lines
from provision.lab.router import Router

_NAMES = re.compile(r"^pvlab-(?P<pid>\d+)-")
NAMESPACES = Path("/run/netns")
"""Where `ip netns` has them by their names."""
_DIRECTORY = "provision-lab-"
_CLONE_NEWNET = 0x40000000
_SERVER_DEFAULTS = (("conf/default/rp_filter", "1"), ("conf/default/arp_ignore", "1"))
# linux/if_tun.h
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x400454CA, 0x0002, 0x1000, 0x4000


class Lab:
    """A laboratory: `with Lab("name") as lab: lan = lab.lan("mgmt", "10.77.1.0/24"); ...`.

    `name` is short (it becomes a part of namespace names). Logs go to `directory`; None means a temporary one that is
    deleted at the end. Leaving the context, or the end of the process, ends every process and removes every namespace.
    """

    def __init__(self, name: str, directory: Path | None = None) -> None:
        self.name = name
        self._own_directory = directory is None
        self._given = directory
        self._namespaces: list[str] = []
        self._processes: list[Process] = []
        self._server: str | None = None
        self._routers: dict[str, Router] = {}

    def __enter__(self) -> Lab:
        if os.geteuid() != 0:
            raise Unavailable("virtual laboratory", "network namespaces need root", "run the same command with sudo")
        proc.find("ip", "iproute2")
        sweep()
        self.directory = self._given or Path(tempfile.mkdtemp(prefix=f"{_DIRECTORY}{os.getpid()}-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        atexit.register(self.close)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for log in sorted(self.directory.glob("provision*.log")):
                error.add_note(f"--- the last lines of {log.name}:\n{last_lines(log)}")
        self.close()

    def close(self) -> None:
        """End and remove everything of this laboratory; safe to call again."""
        atexit.unregister(self.close)
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        for router in self._routers.values():
            router.close()
        self._routers.clear()
        for namespace in reversed(self._namespaces):
            _remove(namespace)
        self._namespaces.clear()
        self._server = None
        if self._own_directory:
            discard(self.directory)

    def namespace(self, role: str) -> str:
        """Make a namespace with only a loopback interface, and return its name. IPv6 stays quiet in it."""
        name = f"pvlab-{os.getpid()}-{self.name}-{role}"
        proc.run(["ip", "netns", "add", name], package="iproute2")
        self._namespaces.append(name)
        ip(name, "link", "set", "lo", "up")
        with inside(name):
            settings = Path("/proc/sys/net/ipv6/conf/default")
            # No link-local addresses, router solicitations or duplicate address detection: a capture stays readable.
            for key, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")):
                with contextlib.suppress(FileNotFoundError):
                    (settings / key).write_text(value)
        return name

    @property
    def server(self) -> str:
        """The namespace in which the server under test runs; it has one NIC on every LAN that was made for it."""
        if self._server is None:
            self._server = self.namespace("server")
            with inside(self._server):
                # As docs/deployment.md has them; a namespace begins with what the machine has.
                for key, value in (("ip_forward", "0"), ("conf/all/rp_filter", "0"), *_SERVER_DEFAULTS):
                    (Path("/proc/sys/net/ipv4") / key).write_text(value)
        return self._server

    def lan(self, name: str, prefix: str, *, server: bool = True) -> Lan:
        """Make a LAN. `prefix` is its IPv4 network ("10.77.1.0/24": the server is .1) or the server's own address on
        it ("10.77.1.5/24"). The server gets a NIC called `name`, unless `server` is false."""
        given = IPv4Interface(prefix)
        address = given.ip if given.ip != given.network.network_address else next(given.network.hosts())
        namespace = self.namespace(f"lan-{name}")
        with inside(namespace), contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        bridge = ("type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        ip(namespace, "link", "add", "br0", *bridge)
        ip(namespace, "link", "set", "br0", "up")
        lan = Lan(self, name, given.network, address, namespace)
        if server:
            lan.attach(self.server, name, f"{address}/{given.network.prefixlen}")
        return lan

    def spawn(
        self,
        namespace: str | None,
        argv: Sequence[str | Path],
        *,
        package: str = "the one that holds it",
        log: str | None = None,
        fds: Sequence[int] = (),
    ) -> Process:
        """Start a program in a namespace (None: the machine's own); its output goes to the file `log` in `directory`.

        It ends with the laboratory, or with the thread that called this, whichever comes first.
        """
        file = self.directory / (log or f"{Path(argv[0]).name}-{len(self._processes)}.log")
        process = Process(argv, file, package=package, namespace=namespace, fds=fds)
        self._processes.append(process)
        return process

    def dnsmasq(self, config: str | Path, *arguments: str, namespace: str | None = None) -> Process:
        """Start dnsmasq in the server's namespace with a configuration (text, or the path of a file); wait until it
        serves. Pid and lease files stand in `directory`, and `arguments` are added to its command line."""
        number = len(self._processes)
        if isinstance(config, str):
            path = self.directory / f"dnsmasq-{number}.conf"
            path.write_text(config)
        else:
            path = config
        leases, pid = self.directory / f"dnsmasq-{number}.leases", self.directory / f"dnsmasq-{number}.pid"
        argv = ["dnsmasq", "--keep-in-foreground", f"--conf-file={path}", "--user=root", "--log-facility=-"]
        argv += [f"--pid-file={pid}", f"--dhcp-leasefile={leases}", "--log-dhcp", "--no-ping", *arguments]
        process = self.spawn(namespace or self.server, argv, package="dnsmasq-base", log=f"dnsmasq-{number}.log")
        process.wait_for(r"dnsmasq\S* started", 10)
        return process


@dataclass(frozen=True)
class Lan:
    """One L2 segment: its IPv4 `prefix`, the server's `address` and the server's `interface` on it."""

    lab: Lab
    name: str
    prefix: IPv4Network
    address: IPv4Address
    namespace: str

    @property
    def interface(self) -> str:
        """The name of the server's NIC on this LAN."""
        return self.name

    def attach(self, namespace: str, interface: str, address: str | None = None, mac: str | None = None) -> str:
        """Give a namespace a NIC on this LAN, with an address such as "10.77.1.9/24" and a MAC if they are given.

        Returns the name of the switch's port at the other end.
        """
        port = f"p{_count(self.namespace)}"
        hardware = ("address", mac) if mac else ()
        peer = ("type", "veth", "peer", "name", port, "netns", self.namespace)
        ip(namespace, "link", "add", interface, *hardware, *peer)
        ip(self.namespace, "link", "set", port, "master", "br0", "up")
        if address:
            ip(namespace, "addr", "add", address, "dev", interface)
        ip(namespace, "link", "set", interface, "up")
        return port

    def host(self, name: str, address: str | None = None, *, mac: str | None = None) -> str:
        """A plain host on this LAN, with one NIC called eth0; returns its namespace."""
        namespace = self.lab.namespace(name)
        self.attach(namespace, "eth0", address, mac)
        return namespace

    def tap(self) -> int:
        """Plug a new tap into this LAN and return its open file descriptor; it is gone when that is closed."""
        with inside(self.namespace):
            name = f"tap{_count(self.namespace)}"
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
        ip(self.namespace, "link", "set", name, "master", "br0", "up")
        return descriptor

    def answer_router_solicitations(self) -> None:
        """Say from now on, when asked, that there is no IPv6 router; see provision.lab.router."""
        if self.namespace not in self.lab._routers:
            with inside(self.namespace):
                self.lab._routers[self.namespace] = Router("br0")

    def send(self, frame: bytes) -> None:
        """Put an Ethernet frame on this LAN, from the switch itself."""
        with inside(self.namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("br0", 0))
            raw.send(frame)

    def capture(self) -> Capture:
        """Start to record every frame on this LAN; use it as a context manager, or call `stop()`."""
        path = self.lab.directory / f"{self.name}-{_count(self.namespace)}-{time.monotonic_ns()}.pcap"
        # Ahead of what it watches, and with room: a flood must not outrun the one witness of what it did not get.
        # Not in immediate mode: there every packet takes a slot of the largest packet's size, and a boot overruns them.
        argv = [
            "nice",
            "-n",
            "-15",
            "tcpdump",
            "-i",
            "br0",
            "-w",
            str(path),
            "-U",
            "-s",
            "0",
            "-B",
            "262144",
            "-Z",
            "root",
            "-n",
        ]
        process = self.lab.spawn(self.namespace, argv, package="tcpdump", log=f"{path.name}.log")
        process.wait_for("listening on", 10)
        return Capture(path, process, self.send)


def ip(namespace: str, *arguments: str) -> None:
    """Run `ip` on a namespace."""
    proc.run(["ip", "-n", namespace, *arguments], package="iproute2")


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread be in a network namespace: sockets made inside stay there for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as home, (NAMESPACES / namespace).open() as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise Unavailable(namespace, f"cannot be entered ({os.strerror(ctypes.get_errno())})", "run as root")
        try:
            yield
        finally:
            if libc.setns(home.fileno(), _CLONE_NEWNET) != 0:
                raise Unavailable("network namespace", "this thread cannot go back to its own")


def sweep() -> list[str]:
    """Remove what laboratories of processes that are no more have left behind; returns the namespaces removed."""
    removed = []
    for namespace in _listed():
        match = _NAMES.match(namespace)
        if match and not Path(f"/proc/{match['pid']}").exists():
            _remove(namespace)
            removed.append(namespace)
    for directory in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY}*-*"):
        pid = directory.name.removeprefix(_DIRECTORY).partition("-")[0]
        if not Path(f"/proc/{pid}").exists() and directory.lstat().st_uid == os.geteuid():
            discard(directory)
    return removed


def _listed() -> list[str]:
    return sorted(path.name for path in NAMESPACES.glob("pvlab-*"))


def _remove(namespace: str) -> None:
    """End the processes in one of our namespaces and delete it with its devices."""
    if not (NAMESPACES / namespace).exists():
        return
    for final in (signal.SIGTERM, signal.SIGKILL):
        pids = proc.run(["ip", "netns", "pids", namespace], package="iproute2", ok=(0, 1)).stdout.split()
        for pid in pids:
            # This very process is listed while a thread of it is inside.
            if int(pid) != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), final)
        if not pids:
            break
        time.sleep(0.3)
    proc.run(["ip", "netns", "del", namespace], package="iproute2", ok=(0, 1))


def _count(namespace: str) -> int:
    """The lowest number that no port of a LAN has."""
    with inside(namespace):
        # /sys shows the namespace it was mounted in, /proc/thread-self/net the thread's own.
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    numbers = {int(m[1]) for line in lines if (m := re.match(r"\s*(?:p|tap)(\d+):", line))}
    return next(n for n in range(len(numbers) + 1) if n not in numbers)
