"""The boot tests' site: two LANs, a server with its DHCP, and a host of its own for every test that boots one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from provision.demo.site import SETTINGS, DemoSite, foreign_dhcp
from provision.image.build import Image
from provision.lab.lans import Lab, Lan
from provision.lab.vm import VM, Nic
from tests.boot.drives import KINDS, Kind
from tests.boot.to_boot import TO_BOOT
from tests.helpers.boot_matrix import Addressing, Cell, Way
from tests.helpers.rendering import ODD_ARGUMENTS
from tests.unit.test_credential import certificate, pem
from tests.unit.test_keytab import keytab, record

API, BMC_ADDRESS = "https://10.77.1.1:8443", "10.77.1.250"
_OVER_TLS = """
[api]
address = "10.77.1.1"
certificate = "tls/server.pem"
key = "tls/server.key"
firmware_certificate = "tls/firmware.pem"
firmware_key = "tls/firmware.key"
"""
DOMAIN, REALM = "lab.example", "LAB.EXAMPLE"
MANAGEMENT, GUEST = "10.77.1.0/24", "10.77.2.0/24"
STORAGE_VLAN, GUESTS_VLAN = 30, 40
ROUTE, ROUTE6 = ("10.99.0.0/16", "10.77.1.254"), ("fd99::/48", "fd77:30::fe")

TOKEN, KEYTAB = "/etc/provision/enrolment.token", "/etc/krb5.keytab"
CERTIFICATE, KEY = "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem"
PLACES = {
    "enrolment": (TOKEN, "0600"),
    "keytab": (KEYTAB, "0600"),
    "certificate": (CERTIFICATE, "0644"),
    "key": (KEY, "0600"),
}


@dataclass(frozen=True)
class Member:
    """A host of the site, with one NIC, or two for a bond. `secret` says whether it has credentials, `own_disk`
    on what disk of its own it keeps its identity, `diskless` that the inventory gives it no storage."""

    name: str
    number: int
    addressing: Addressing = Addressing.DHCP
    secret: bool = True
    oem: bool = False
    network: str = "mgmt"
    own_disk: Kind | None = None
    diskless: bool = False
    more: tuple[tuple[str, str], ...] = ()
    """Further keys of the inventory."""

    @property
    def macs(self) -> tuple[str, ...]:
        own = f"52:54:00:77:{self.number:02x}"
        return (f"{own}:01", f"{own}:02") if self.addressing is Addressing.BOND else (f"{own}:01",)

    @property
    def uuid(self) -> str:
        return f"4c4c4544-0042-3510-8054-0000000000{self.number:02x}"

    @property
    def _lan(self) -> int:
        return 1 if self.network == "mgmt" else 2

    @property
    def ipv4(self) -> str:
        return f"10.77.{self._lan}.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd77:{self._lan}::{self.number:x}"

    @property
    def storage4(self) -> str:
        return f"10.77.{STORAGE_VLAN}.{self.number}"

    @property
    def storage6(self) -> str:
        return f"fd77:{STORAGE_VLAN}::{self.number:x}"

    def nics(self, lan: Lan) -> tuple[Nic, ...]:
        return tuple(Nic(lan, mac) for mac in self.macs)

    def entry(self) -> dict[str, Any]:
        """The host as the inventory has it."""
        dhcp = self.addressing is Addressing.DHCP
        names = ("enrolment", "keytab") if dhcp else ("enrolment", "keytab", "certificate", "key")
        found: dict[str, Any] = {
            "uuid": self.uuid,
            "install": "oem" if self.oem else "it",
            "storage": "none" if self.diskless else "persistent",
            "credentials": list(names if self.secret else ()),
            "labels": {"batch": "factory" if self.name.startswith("edge") else "site"},
            "interfaces": self._interfaces(),
        }
        return found | ({"disk": dict(self.own_disk.named)} if self.own_disk else {}) | dict(self.more)

    def _interfaces(self) -> dict[str, Any]:
        own: dict[str, Any] = {"mac": self.macs[0]}
        mgmt: dict[str, Any] = {"network": self.network}
        if self.addressing is Addressing.DHCP:
            reserved = {"reservation": self.ipv4} if self.network == "mgmt" else {}
            return {"mgmt": own | mgmt | {"addressing": "dhcp"} | reserved}
        mgmt |= {"addressing": "static", "ipv4": self.ipv4}
        if self.network == "mgmt":
            mgmt["routes"] = [{"to": ROUTE[0], "via": ROUTE[1]}]
        storage: dict[str, Any] = {"network": "storage", "vlan": STORAGE_VLAN}
        storage |= {"addressing": "static", "ipv4": self.storage4}
        if self.addressing is Addressing.IPV6:
            mgmt["ipv6"] = self.ipv6
        if self.addressing is Addressing.VLAN:
            return {"mgmt": own | mgmt, "storage": own | storage}
        if self.addressing is Addressing.BOND:
            bond = {"macs": list(self.macs), "bond": "active-backup"}
            storage |= {"ipv6": self.storage6, "routes": [{"to": ROUTE6[0], "via": ROUTE6[1]}]}
            guests = bond | {"vlan": GUESTS_VLAN, "bridge": "br-guests"}
            return {"mgmt": bond | mgmt, "storage": bond | storage, "guests": guests}
        return {"mgmt": own | mgmt}


_WAYS = ("cd", "plain-cd", "pxe", "http-boot", "cancelled", "orphaned", "https-boot")


def _members() -> tuple[Member, ...]:
    members = [Member(f"wrong-lan-{name}", 64 + n) for n, name in enumerate(("bios", "uefi", "http"))]
    members += [Member("closed", 80), Member("closed-uefi", 81), Member("victim", 82), Member("impostor", 83)]
    members += [Member("retry", 85)]
    members += [Member(f"by-{way}", 86 + n, diskless=True) for n, way in enumerate(_WAYS)]
    members += [Member("no-secret", 84, secret=False, network="guest")]
    members += [Member(f"edge{n}", 96 + n, oem=True) for n in range(3)]
    taken = {member.number for member in members}
    free = (number for number in range(3, 199) if number not in taken)
    return (*members, *(member_of(cell, next(free)) for cell in TO_BOOT if not cell.storage.tpm))


# Nothing has to do with the other here: so each kind of disk is booted with somewhere.
_DISKS = {
    Addressing.DHCP: KINDS["virtio"],
    Addressing.STATIC: KINDS["virtio"],
    Addressing.VLAN: KINDS["scsi"],
    Addressing.BOND: KINDS["nvme"],
    Addressing.IPV6: KINDS["sata"],
}


def member_of(cell: Cell, number: int, network: str = "mgmt", more: tuple[tuple[str, str], ...] = ()) -> Member:
    """The host that is to boot by a cell of the matrix."""
    oem = cell.way is Way.DISK
    own_disk = _DISKS[cell.addressing] if cell.storage.disk and not oem else None
    diskless = not cell.storage.disk
    return Member(cell.name, number, cell.addressing, True, oem, network, own_disk, diskless, more)


MEMBERS: Mapping[str, Member] = {member.name: member for member in _members()}


def inventory(authority: str, members: Iterable[Member], base: str, arguments: Sequence[str]) -> str:
    """The inventory as YAML (JSON is YAML); `authority` is the PEM certificate of the CA that the hosts trust."""
    site = {
        "domain": DOMAIN,
        "kernel_arguments": list(arguments),
        "realm": REALM,
        "base": base,
        "networks": {
            "mgmt": {
                "role": "management",
                "prefix": MANAGEMENT,
                "prefix6": "fd77:1::/64",
                "gateway": "10.77.1.1",
                "dns": ["10.77.1.1"],
                "ntp": ["10.77.1.1"],
                "pool": {"first": "10.77.1.200", "last": "10.77.1.240"},
            },
            "storage": {"role": "general", "prefix": "10.77.30.0/24", "prefix6": "fd77:30::/64", "vlan": STORAGE_VLAN},
            "guest": {"role": "general", "prefix": GUEST, "prefix6": "fd77:2::/64", "gateway": "10.77.2.1"},
        },
        "servers": {
            "management": {"srv": "_provision._tcp"},
            "freeipa": {"hosts": [{"name": f"ipa1.{DOMAIN}", "address": "10.77.1.2"}]},
        },
        "credentials": {
            "enrolment": {"kind": "token", "path": TOKEN},
            "keytab": {"kind": "keytab", "path": KEYTAB},
            "certificate": {"kind": "certificate", "path": CERTIFICATE, "mode": "0644"},
            "key": {"kind": "key", "path": KEY, "mode": "0600"},
        },
        "ca_certificates": [authority],
    }
    return json.dumps({"site": site, "hosts": {m.name: m.entry() for m in members}}, indent=1)


def fresh_secrets(member: Member) -> dict[str, bytes]:
    """The content of a host's credentials by name, new every time."""
    if not member.secret:
        return {}
    private = ec.generate_private_key(ec.SECP256R1())
    fqdn, now = f"{member.name}.{DOMAIN}", datetime.now(UTC)
    made = {
        "enrolment": secrets.token_hex(32).encode(),
        "keytab": keytab(record(f"host/{fqdn}@{REALM}", key=secrets.token_bytes(32))),
        "key": pem(private),
        "certificate": certificate(private, (fqdn,), fqdn, now - timedelta(days=1), now + timedelta(days=30)),
    }
    return {name: made[name] for name in member.entry()["credentials"]}


class BootSite(DemoSite):
    """A server that serves both LANs, with everything in it that the hosts need."""

    def __init__(self, lab: Lab, probe: Image) -> None:
        self.mgmt, self.guest = lab.lan("mgmt", MANAGEMENT), lab.lan("guest", GUEST)
        self.authority = authority_certificate()
        self.arguments = (*probe.kernel_arguments, *ODD_ARGUMENTS)
        settings = SETTINGS.replace('interface = "mgmt"\n', 'interface = "mgmt"\nlinks = true\n') + _OVER_TLS
        described = inventory(self.authority.decode(), MEMBERS.values(), "probe", ODD_ARGUMENTS)
        super().__init__(lab, described, settings, "--ca", "--address", "10.77.1.1")
        self.secrets = {name: fresh_secrets(member) for name, member in MEMBERS.items()}
        self.call("image", "import", "probe", "--kernel", probe.kernel, "--initrd", probe.initrd, *_cmdline(probe))
        self.call("apply", self.inventory)
        load_secrets(self, self.secrets)
        self.service = self.serve()
        self._dhcp = self.dhcp()
        foreign_dhcp(lab, self.guest)

    @cached_property
    def bmcs(self) -> str:
        """The namespace of the BMCs on the management LAN."""
        return self.mgmt.host("bmcs", f"{BMC_ADDRESS}/24")

    @contextmanager
    def http_boot_from(self, url: str) -> Iterator[None]:
        """Let firmware that asks for HTTP Boot be told this URL meanwhile."""
        usual = self.call("dhcp", "--check")
        ours = usual.replace("http://10.77.1.1/http-boot/boot.iso", url)
        assert ours != usual
        self._dhcp.stop()
        other = self.lab.dnsmasq("".join(line for line in ours.splitlines(True) if "dhcp-leasefile" not in line))
        try:
            yield
        finally:
            other.stop()
            self._dhcp = self.dhcp()

    def open_window(self, member: Member) -> None:
        """Let the host boot once."""
        self.call("window", member.name, "--minutes", "15", "--boots", "1")

    def status(self, member: Member) -> dict[str, Any]:
        """The host's row of `provision status`."""
        rows: list[dict[str, Any]] = self.json("status", member.name)["hosts"]
        return rows[0]

    def audit(self, member: Member) -> list[dict[str, Any]]:
        """What the audit log has on the host, oldest first."""
        entries: list[dict[str, Any]] = self.json("audit", "--host", member.name, "--limit", "200")
        return entries

    def denials(self, member: Member) -> set[tuple[str, str, str]]:
        """Every (rule, medium, channel) that the host was denied by."""
        entries = (e for e in self.audit(member) if e.get("answer") == "denied")
        return {(e["rule"], e["medium"], e["channel"]) for e in entries}

    def wait_seed(self, member: Member, vm: VM, silence: float = 120.0) -> None:
        """Wait until the server has sent all of the host's seed."""
        vm.wait_until(lambda: self.status(member)["parts"].get("seed") == 100, "get all of its seed", silence)

    def needles(self, member: Member, phone_home: str | None = None) -> dict[str, bytes]:
        """The secret bytes of a host by what they are."""
        return needles_of(self.secrets[member.name], phone_home)

    @cached_property
    def firmware_authority(self) -> Path:
        """The site's CA, as a firmware takes it."""
        file = self.lab.directory / "ca.esl"
        self.call("ca", "export", "--firmware", "--format", "efi", "-o", file)
        return file


def needles_of(made: Mapping[str, bytes], phone_home: str | None = None) -> dict[str, bytes]:
    """The secret bytes of a host by what they are: credentials, keys inside them, the phone-home key (hex)."""
    found = dict(made)
    if "keytab" in made:
        found["the key in the keytab"] = made["keytab"][-32:]
    if "key" in made:
        found["the key's text"] = made["key"].splitlines()[1]
    if phone_home:
        found["the phone-home key"] = phone_home.encode()
        found["the phone-home key, raw"] = bytes.fromhex(phone_home)
    return found


def load_secrets(site: DemoSite, secrets_of: Mapping[str, Mapping[str, bytes]]) -> None:
    """Give the hosts their credentials: by host, by name."""
    load = site.lab.directory / "load"
    for host, made in secrets_of.items():
        for name, data in made.items():
            file = load / host / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    site.call("credential", "load", load)


def authority_certificate() -> bytes:
    """The PEM certificate of a new CA."""
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Lab CA")])
    start, end = now - timedelta(days=1), now + timedelta(days=30)
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(private, SHA256()).public_bytes(Encoding.PEM)


def _cmdline(probe: Image) -> tuple[str, str]:
    return "--cmdline", " ".join(probe.kernel_arguments)


def write_medium(site: BootSite, kind: str, member: Member) -> Path:
    """Write the host's `iso`, or its `disk` as QEMU has it, by the command line; returns the file."""
    path = site.lab.directory / f"{member.name}.{'iso' if kind == 'iso' else 'qcow2'}"
    if not path.exists():
        site.call(kind, member.name, *(() if kind == "iso" else ("--format", "qcow2")), "-o", path)
    return path
