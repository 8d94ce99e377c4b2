"""The laboratory of the races: one served LAN, a host with a window, an attacker and a bystander, each port recorded.

It stays for many runs. Every run begins alike: a window for one boot, the host's neighbour entry STALE as after a
quiet minute, a switch that has forgotten where the host is.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from provision import proc
from provision.demo.site import DemoSite
from provision.errors import Unavailable
from provision.lab.lans import Lab, inside, ip
from provision.lab.processes import Process
from tests.fixtures import media
from tests.integration.attacks.intruder import Intruder, Target
from tests.integration.attacks.ports import Ports, write_pcap
from tests.integration.attacks.site import HOST, MGMT, TOKEN, http
from tests.integration.attacks.spilled import Secrets
from tests.integration.attacks.victim import Victim, Way

MAC, ADDRESS = "52:54:00:77:00:01", "10.77.1.21"
OTHER_MAC, OTHER_ADDRESS = "52:54:00:77:00:02", "10.77.1.22"
ATTACKER_MAC = "52:54:00:77:0a:0a"
FIRST_PORT, LAST_PORT = 20000, 20255
_TAIL = 64 << 10

_SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n'
_INVENTORY = f"""\
site:
  domain: attack.example
  base: small
  networks:
    mgmt: {{role: management, prefix: 10.77.1.0/24, gateway: 10.77.1.1}}
  credentials:
    enrolment: {{kind: token, path: {TOKEN}}}
hosts:
{HOST.format(name="node1", netboot="window", mac=MAC, address=ADDRESS)}\
{HOST.format(name="node2", netboot="always", mac=OTHER_MAC, address=OTHER_ADDRESS)}"""


class RaceSite:
    """See the module. `spare` is a port that no host has: what is delivered there was flooded."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.lan = lab, lab.lan("mgmt", "10.77.1.0/24")
        # A switch forgets; this one forgets fast, so that what it floods is seen.
        ip(self.lan.namespace, "link", "set", "br0", "type", "bridge", "ageing_time", "100")
        with inside(lab.server):
            # An entry may not be replaced for a second after it was made; here it is as open as an old one at once.
            Path("/proc/sys/net/ipv4/neigh/mgmt/locktime").write_text("0")
        self.site = DemoSite(lab, _INVENTORY, _SETTINGS)
        kernel = media.write(lab.directory / "vmlinuz", media.kernel())
        initrd = media.write(lab.directory / "initrd", media.image_archive())
        self.site.call("image", "import", "small", "--kernel", kernel, "--initrd", initrd)
        self.site.call("apply", self.site.inventory)
        for name in ("node1", "node2"):
            token = f"canary-{secrets.token_hex(1800)}".encode()
            self.site.call("credential", "set", name, "enrolment", "--file", "-", stdin=token)
        self.own: dict[str, str] = {}
        self.victim = self._machine("node1", MAC, ADDRESS)
        self.other = self._machine("node2", OTHER_MAC, OTHER_ADDRESS)
        attacker, bystander = lab.namespace("attacker"), lab.namespace("bystander")
        self.own["attacker"] = self.lan.attach(attacker, "eth0", "10.77.1.99/24", ATTACKER_MAC)
        self.own["bystander"] = self.lan.attach(bystander, "eth0", "10.77.1.98/24")
        self.intruder = Intruder(attacker, ATTACKER_MAC)
        # A flood of the attacker's reaches the server's port: recording that would cost more than the run.
        self.ports = Ports(self.lan, but=("p0", self.own["node1"]))
        self.server: Process = self.site.serve()
        transport = httpx.HTTPTransport(uds=str(self.site.state / "operator.sock"))
        self._operator = httpx.Client(base_url="http://provision", transport=transport, timeout=30)
        self.target = Target(MAC, ADDRESS, self._server_mac(), MGMT)
        self.secrets = self._learn()

    def _machine(self, name: str, mac: str, address: str) -> Victim:
        namespace = self.lab.namespace(name)
        self.own[name] = self.lan.attach(namespace, "eth0", f"{address}/24", mac)
        return Victim(name, namespace, mac, address)

    def _server_mac(self) -> str:
        with inside(self.lab.server), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("mgmt", 0))
            hardware: bytes = raw.getsockname()[4]
        return hardware.hex(":")

    def close(self) -> None:
        """Unplug the attacker; the laboratory removes the rest."""
        self._operator.close()
        self.intruder.close()
        self.ports.close()

    def operator(self, method: str, path: str, **arguments: Any) -> Any:
        """One call of the operator's application; raises Unavailable when it is refused."""
        answer = self._operator.request(method, path, **arguments)
        if answer.is_error:
            raise Unavailable(path, f"answered {answer.status_code}: {answer.text[:200]}")
        return answer.json() if answer.content else None

    def _learn(self) -> Secrets:
        """What only the first host's seed has, from the seeds of both and from what anybody may read."""
        self.open_window()
        seed = self.victim.boot(Way.HTTP)
        other = self.other.boot(Way.HTTP)
        if not (seed.key and other.key):
            raise Unavailable("node1", f"does not boot without an attack ({seed.refusal or other.refusal})")
        texts = [http(self.victim.namespace, MGMT, f"/pxe/pxelinux.cfg/01-{MAC.replace(':', '-')}").body, other.data]
        self.victim.up(seed.key)
        names = [b"node1", MAC.encode(), MAC.replace(":", "-").encode(), ADDRESS.encode()]
        return Secrets(seed.data, texts, names)

    def open_window(self) -> None:
        """A window for one boot."""
        self.operator("POST", "/v1/hosts/node1/window", json={"minutes": 60, "boots": 1})

    def window_used(self) -> int:
        """Boots charged to the present window."""
        [host] = self.operator("GET", "/v1/status", params={"host": "node1"})["hosts"]
        window = host["window"]
        return int(window["used"]) if window else 0

    def audited(self, since: int = 0) -> list[dict[str, Any]]:
        """The newest entries of the audit log, those after number `since`; from the file's end, however long it is."""
        with (self.site.state / "audit.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        return [entry for entry in entries if entry["seq"] > since]

    def last_entry(self) -> int:
        """The number of the newest audit entry."""
        return max((int(entry["seq"]) for entry in self.audited()), default=0)

    def prepare(self, *, on: bool, entry: str = "stale") -> None:
        """The beginning of a run: see the module. `entry` is the state of the server's neighbour entry, or "none"."""
        self.victim.reset()
        self.open_window()
        if not on:
            self.victim.switch(False)
        line = ["ip", "-n", self.lab.server, "neigh"]
        held = proc.run([*line, "show", ADDRESS, "dev", "mgmt"], package="iproute2").stdout.decode()
        if "PERMANENT" in held:
            return self._forget()  # for what was asked in the run before; nobody but root could change that
        if entry == "none":
            proc.run([*line, "del", ADDRESS, "dev", "mgmt"], package="iproute2", ok=(0, 2))
        else:
            proc.run([*line, "replace", ADDRESS, "lladdr", MAC, "dev", "mgmt", "nud", entry], package="iproute2")
        return self._forget()

    def _forget(self) -> None:
        self.forget_ports()
        self.ports.forget()

    def forget_ports(self) -> None:
        """Let the switch forget where everybody is, as after its ageing time."""
        ip(self.lan.namespace, "link", "set", "br0", "type", "bridge", "fdb_flush")

    def strays(self) -> dict[str, list[bytes]]:
        """Frames that were delivered since the last look to ports that are neither the host's nor the server's."""
        return self.ports.take()

    def keep(self, name: str, strays: dict[str, list[bytes]]) -> None:
        """Keep frames of a run that lost something, for a later look."""
        for port, frames in strays.items():
            write_pcap(self.lab.directory / f"{name}-{port}-{time.monotonic_ns()}.pcap", frames)


@contextlib.contextmanager
def race_site(directory: Path | None = None, name: str = "race") -> Iterator[RaceSite]:
    """The laboratory, for as long as it is needed."""
    with Lab(name, directory) as lab:
        site = RaceSite(lab)
        try:
            yield site
        finally:
            site.close()
