"""The demonstration's site: one host, a management LAN and a guest LAN, in a state directory of its own."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import Any, Protocol

from provision import boot_paths, keytab, proc
from provision.boot_paths import BootIso
from provision.lab.lans import Lab, Lan
from provision.lab.processes import Process
from provision.secret import Secret

MANAGEMENT, GUEST = "10.77.1.0/24", "10.77.2.0/24"
MAC = "52:54:00:77:00:01"
TOKEN_PATH = "/etc/provision/enrolment.token"
PRINCIPAL = "host/node1.demo.example@DEMO.EXAMPLE"

INVENTORY = f"""\
site:
  domain: demo.example
  realm: DEMO.EXAMPLE
  base: demo
  networks:
    mgmt: {{role: management, prefix: {MANAGEMENT}, gateway: 10.77.1.1, dns: [10.77.1.1]}}
    guest: {{role: general, prefix: {GUEST}, gateway: 10.77.2.1}}
  credentials:
    keytab: {{kind: keytab, path: /etc/krb5.keytab}}
    enrolment: {{kind: token, path: {TOKEN_PATH}}}
hosts:
  node1:
    credentials: [keytab, enrolment]
    labels: {{rack: demo}}
    interfaces:
      mgmt: {{mac: "{MAC}", network: mgmt, addressing: static, ipv4: 10.77.1.21}}
"""

SETTINGS = """\
[[listen]]
network = "mgmt"
interface = "mgmt"

[[listen]]
network = "guest"
interface = "guest"
"""


class Bootable(Protocol):
    """What is imported as a base image."""

    @property
    def kernel(self) -> Path: ...
    @property
    def initrd(self) -> Path: ...
    @property
    def kernel_arguments(self) -> tuple[str, ...]: ...


class DemoSite:
    """A state directory in a laboratory, driven by the command line as an operator drives it."""

    def __init__(self, lab: Lab, inventory: str = INVENTORY, settings: str = SETTINGS, *init: str) -> None:
        """`init` are more arguments of `provision init`."""
        self.lab = lab
        self.state = lab.directory / "state"
        self.fingerprints: dict[str, str] = {}
        self.inventory = lab.directory / "site.yaml"
        self.inventory.write_text(inventory)
        self.call("init", *init)
        (self.state / "provision.toml").write_text(settings)

    def argv(self, *arguments: str | Path) -> list[str | Path]:
        """The command line for `provision` with this site's state directory."""
        return [sys.executable, "-m", "provision", "--state", self.state, *arguments]

    def call(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Run one command in the server's namespace and return what it prints; raises Unavailable when it fails."""
        inside = ["ip", "netns", "exec", self.lab.server]
        done = proc.run([*inside, *self.argv(*arguments)], package="iproute2", stdin=stdin, timeout=300)
        return done.stdout.decode()

    def json(self, *arguments: str | Path) -> Any:
        """The same, with its JSON output parsed."""
        return json.loads(self.call("--json", *arguments))

    def fill(self, image: Bootable) -> None:
        """Import the image as base image `demo`, apply the inventory, and give node1 fresh secrets."""
        arguments = " ".join(image.kernel_arguments)
        files = ("--kernel", image.kernel, "--initrd", image.initrd, "--cmdline", arguments)
        self.call("image", "import", "demo", *files)
        self.call("apply", self.inventory)
        made = {
            "keytab": keytab.pack(PRINCIPAL, Secret(secrets.token_bytes(32))),
            "enrolment": Secret(secrets.token_hex(32).encode()),
        }
        for name, secret in made.items():
            self.fingerprints[name] = hashlib.sha256(secret.reveal()).hexdigest()
            self.call("credential", "set", "node1", name, "--file", "-", stdin=secret.reveal())

    def serve(self) -> Process:
        """Start the service and wait until it serves."""
        process = self.lab.spawn(self.lab.server, self.argv("serve"), log="provision.log")
        process.wait_for(r"serving", 120)
        return process

    def dhcp(self) -> Process:
        """Start dnsmasq with the configuration that the service renders for the management LAN."""
        text = self.call("dhcp", "--check")
        # The laboratory names a lease file of its own, and dnsmasq takes only one.
        return self.lab.dnsmasq("".join(line for line in text.splitlines(True) if "dhcp-leasefile" not in line))


def foreign_dhcp(lab: Lab, lan: Lan) -> Process:
    """A DHCP server on `lan` that is not ours, and points network boots at our server all the same."""
    first, last = lan.prefix[100], lan.prefix[199]
    server = lan.address
    return lab.dnsmasq(
        f"port=0\nbind-interfaces\ninterface={lan.interface}\nexcept-interface=lo\ndhcp-range={first},{last},5m\n"
        "dhcp-match=set:bios,option:client-arch,0\ndhcp-match=set:http,option:client-arch,16\n"
        "dhcp-match=set:efi,option:client-arch,7\n"
        f"dhcp-boot=tag:bios,lpxelinux.0,,{server}\ndhcp-option-force=tag:bios,210,http://{server}{boot_paths.PXE}\n"
        f"dhcp-boot=tag:efi,shimx64.efi,,{server}\n"
        f'dhcp-option-force=tag:http,60,HTTPClient\ndhcp-boot=tag:http,"http://{server}{boot_paths.http(BootIso())}"\n'
    )
