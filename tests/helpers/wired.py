"""A served site whose management network is a bridge of the server, with the host's wire as its one listed port."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from provision import proc
from provision.demo.site import DemoSite
from provision.errors import Exit
from provision.lab.lans import Lab, inside, ip
from provision.lab.processes import Process
from tests.fixtures import media
from tests.integration.attacks.site import ADDRESS, INVENTORY, MAC, MGMT, exchange, http, pxe

CANARY = b"canary-of-the-first-host"


class Wired:
    """A server whose management NIC `uplink` is a port of its own bridge `brm`, beside a guest's tap."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.mgmt, self.guest = lab.lan("mgmt", "10.77.1.0/24", server=False), lab.lan("guest", "10.77.2.0/24")
        self.ip("link", "add", "brm", "address", "52:54:00:77:00:fe", "type", "bridge", "forward_delay", "0")
        self.ip("addr", "add", f"{MGMT}/24", "dev", "brm")
        self.mgmt.attach(lab.server, "uplink")
        self.ip("link", "set", "uplink", "master", "brm")
        self.ip("link", "set", "brm", "up")
        self.node = self.mgmt.host("node1", f"{ADDRESS['node1']}/24", mac=MAC["node1"])
        self.site = DemoSite(lab, INVENTORY, "")
        kernel = media.write(lab.directory / "vmlinuz", media.kernel())
        initrd = media.write(lab.directory / "initrd", media.image_archive())
        self.site.call("image", "import", "small", "--kernel", kernel, "--initrd", initrd)
        self.site.call("apply", self.site.inventory)
        for name in MAC:
            self.site.call("credential", "set", name, "enrolment", "--file", "-", stdin=CANARY)
        self._runs = 0

    def number(self) -> int:
        """A number that was not given before."""
        self._runs += 1
        return self._runs

    def ip(self, *arguments: str) -> None:
        """Run `ip` on the server."""
        ip(self.lab.server, *arguments)

    def sysctl(self, key: str, value: str) -> None:
        """Set a value below /proc/sys/net/ipv4 on the server."""
        with inside(self.lab.server):
            (Path("/proc/sys/net/ipv4") / key).write_text(value)

    def start(self, mgmt: str = "", interface: str = "brm") -> Process:
        """Start `provision serve` with more lines for its management network."""
        text = f'[[listen]]\nnetwork = "mgmt"\ninterface = "{interface}"\n{mgmt}\n'
        text += '[[listen]]\nnetwork = "guest"\ninterface = "guest"\n'
        (self.site.state / "provision.toml").write_text(text)
        return self.lab.spawn(self.lab.server, self.site.argv("serve"), log=f"serve-{self.number()}.log")

    def serve(self, mgmt: str = "", interface: str = "brm") -> Process:
        """The same, and wait until it serves."""
        process = self.start(mgmt, interface)
        process.wait_for("serving the operator", 30)
        return process

    @contextlib.contextmanager
    def serving(self, mgmt: str = 'bridge_ports = ["uplink"]') -> Iterator[Process]:
        """The same, until its host gets its configuration; it ends with the block."""
        process = self.serve(mgmt)
        try:
            eventually(lambda: "boots from the network" in self.config())
            yield process
        finally:
            process.stop()

    def refusal(self, mgmt: str = "", interface: str = "brm") -> str:
        """What it says when it does not start: a line for each network, and the exit code of an invalid setting."""
        process = self.start(mgmt, interface)
        assert process.wait(30) == Exit.INVALID
        # The audit log's head goes to the journal, and stands here where there is none.
        errors = [line for line in process.text.splitlines() if "audit log" not in line]
        if len(errors) > 1:
            assert errors.pop().endswith("problems; nothing was changed")
        assert "Traceback" not in process.text
        assert errors and all(line.startswith("error: network ") for line in errors), process.text
        assert exchange(self.node, MGMT, b"", timeout=1) is None, "nothing listens"
        return process.text

    def config(self) -> str:
        """The configuration that the host gets; empty when nobody answers."""
        return http(self.node, MGMT, f"/pxe/{pxe('node1')}", timeout=1).text

    def health(self) -> str:
        """What the service says of its management network."""
        argv = ["curl", "-sS", "--unix-socket", str(self.site.state / "operator.sock"), "http://operator/v1/health"]
        return str(json.loads(proc.run(argv, package="curl").stdout)["listeners"]["mgmt"])

    def audit(self, **fields: Any) -> list[dict[str, Any]]:
        """The audit entries with these values."""
        return [e for e in self.site.json("audit", "--limit", "500") if fields.items() <= e.items()]


def eventually(condition: Callable[[], bool], seconds: float = 8.0) -> float:
    """Wait for a condition; how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not come true"
        time.sleep(0.1)
    return time.monotonic() - start
