"""The host image from its ISO: accounts have their credentials, it reports to the site, and lets its operator in."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision import proc
from provision.demo.show import wait_up
from provision.demo.site import INVENTORY, MAC, MANAGEMENT, PRINCIPAL, DemoSite
from provision.errors import Unavailable
from provision.lab.lans import Lab
from provision.lab.vm import VM, Device, Firmware, Machine, Nic
from tests.boot.ear import heard_tcp, heard_udp
from tests.helpers.images import host_image
from tests.unit.test_credential import pem

SETTINGS = '[[listen]]\nnetwork = "mgmt"\ninterface = "mgmt"\n'
COLLECTD, AUDIT = 25826, 60
FILES = {
    "/etc/collectd/collectd.conf.d/network.conf": f"""\
        LoadPlugin network
        <Plugin network>
          Server "10.77.1.1" "{COLLECTD}"
        </Plugin>
    """,
    "/etc/audit/plugins.d/au-remote.conf": """\
        active = yes
        direction = out
        path = /sbin/audisp-remote
        type = always
        format = string
    """,
    "/etc/audit/audisp-remote.conf": f"""\
        remote_server = 10.77.1.1
        port = {AUDIT}
        transport = tcp
        format = ascii
    """,
}
"""What a site would bring so that its hosts report: more of their credentials, by where they stand."""

QEMU = "libvirt-qemu"
OWNED = {
    "qemu-key": ("key", "/etc/pki/qemu/server-key.pem", "0640", "root", QEMU),
    "monitor": ("token", "/etc/provision/monitor.token", "0400", QEMU, "kvm"),
}
"""Credentials that belong to accounts of the image: kind, path, mode, owner and group by name."""
# Prints the SHA-256 of a file, as the account of that name may read it.
READ_AS = (
    "import hashlib, os, pwd, sys; found = pwd.getpwnam(sys.argv[1]); os.setgroups([]); os.setgid(found.pw_gid); "
    "os.setuid(found.pw_uid); print(hashlib.sha256(open(sys.argv[2], 'rb').read()).hexdigest())"
)


class HostSite(DemoSite):
    """A site whose one host boots the host image, reports to the server, and lets the server in by SSH."""

    def __init__(self, lab: Lab, inventory: str = INVENTORY) -> None:
        self.mgmt = lab.lan("mgmt", MANAGEMENT)
        self.identity = lab.directory / "identity"
        self.files = {path: "\n".join(map(str.strip, text.splitlines())) + "\n" for path, text in FILES.items()}
        proc.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.identity], package="openssh-client")
        self.files["/etc/ssh/authorized_keys.d/root"] = self.identity.with_suffix(".pub").read_text()
        declared = "".join(
            f'    file{n}: {{kind: file, path: {path}, mode: "0640"}}\n' for n, path in enumerate(self.files)
        )
        declared += "".join(
            f'    {name}: {{kind: {kind}, path: {path}, mode: "{mode}", owner: {owner}, group: {group}}}\n'
            for name, (kind, path, mode, owner, group) in OWNED.items()
        )
        names = "".join(f", {name}" for name in (*(f"file{n}" for n in range(len(self.files))), *OWNED))
        inventory = inventory.replace("hosts:\n", f"{declared}hosts:\n", 1).replace("enrolment]", f"enrolment{names}]")
        super().__init__(lab, inventory, SETTINGS)
        self.fill(host_image())
        for n, text in enumerate(self.files.values()):
            self.call("credential", "set", "node1", f"file{n}", "--file", "-", stdin=text.encode())
        self.owned = {"qemu-key": pem(ec.generate_private_key(ec.SECP256R1())), "monitor": b"0123456789abcdef" * 4}
        for name, data in self.owned.items():
            self.call("credential", "set", "node1", name, "--file", "-", stdin=data)

    def ssh(self, *command: str) -> str:
        """Run a command on the host as root; raises Unavailable when it fails."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={self.identity}.known")
        given = [word for option in options for word in ("-o", option)]
        argv: list[str | Path] = ["ip", "netns", "exec", self.lab.server, "ssh", "-i", self.identity]
        argv += [*given, "root@10.77.1.21", *command]
        return proc.run(argv, package="openssh-client", timeout=120).stdout.decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostSite]:
    with Lab("host", tmp_path_factory.mktemp("host")) as lab:
        site = HostSite(lab)
        site.serve()
        site.dhcp()
        yield site


def belongs_to_its_accounts(site: HostSite) -> None:
    """What is an account's has its owner, group and mode on the host; that account reads it, and no other does."""
    for name, (_, path, mode, owner, group) in OWNED.items():
        assert site.ssh("stat", "-c", "%a:%U:%G", path).strip() == f"{mode[1:]}:{owner}:{group}"
        read = ("python3", "-c", shlex.quote(READ_AS))
        assert site.ssh(*read, QEMU, path).strip() == hashlib.sha256(site.owned[name]).hexdigest()
        with pytest.raises(Unavailable, match="Permission denied"):
            site.ssh(*read, "nobody", path)


@pytest.mark.long
def test_it_comes_from_its_iso_reports_and_lets_its_operator_in(site: HostSite) -> None:
    iso, nics, lan = site.lab.directory / "node1.iso", (Nic(site.mgmt, MAC),), site.lab.server
    site.call("iso", "node1", "-o", iso)
    machine = Machine("iso", Firmware.BIOS, nics, (Device.CD,), 640, cd=iso)
    with heard_udp(lan, COLLECTD) as metrics, heard_tcp(lan, AUDIT) as events, VM(site.lab, machine) as vm:
        vm.wait_for(r"^ +system +running$", 400)
        assert f"{PRINCIPAL}, SHA-256 {site.fingerprints['keytab'][:16]}" in vm.console
        wait_up(site, vm, "iso")
        assert site.ssh("uname", "-n", "&&", "virsh", "-q", "-c", "qemu:///system", "uri").split() == [
            "node1",
            "qemu:///system",
        ]
        belongs_to_its_accounts(site)
        metrics.wait_for(b"node1", 60)
        events.wait_for(b"type=SERVICE_START", 60)
