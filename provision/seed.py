"""The seed: one host's own files as one cpio archive. docs/media-format.md is its contract with images.

Everything here is a pure function of its arguments. Secrets come in opened, and only together with a release.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from provision import cpio, policy
from provision.accounts import ROOT as ROOT_OWNER
from provision.boot import Boot, Copy
from provision.errors import Invalid
from provision.host import Host
from provision.model import FileMode, SeedPath
from provision.policy import HostState
from provision.render import identity, networkd
from provision.render.environment import render_common
from provision.secret import Secret
from provision.seed_signature import Signer, encode
from provision.site import Service, Site

FORMAT = 1
"""The version of the contract in docs/media-format.md."""

RENDERING = 5
"""Raised with every change of this program that gives other bytes for the same inventory, so that no two seeds of
one revision differ. tests/unit/test_seed.py holds the bytes to it."""

_JSON = json.JSONEncoder(separators=(",", ":"))

DIRECTORY = "provision-seed"
ROOT = f"{DIRECTORY}/root"
MANIFEST = f"{DIRECTORY}/manifest.json"
SIGNATURE = f"{DIRECTORY}/signature"
HOST_JSON = "/etc/provision/host.json"
ALIVE_JSON = "/etc/provision/alive.json"
"""In envelopes alone: how the host that has opened one goes on saying that it is up."""
BOOT_SERVERS = "/etc/provision/boot-servers.nft"
MODULE_OPTIONS = "/etc/modprobe.d/provision.conf"
CA_BUNDLE = "/etc/ssl/certs/provision-ca.pem"
CA_DIRECTORY = "/etc/provision/ca"
NETWORK_DIRECTORY = "/etc/systemd/network"
PLACES = (
    *identity.PATHS,
    NETWORK_DIRECTORY,
    MODULE_OPTIONS,
    CA_DIRECTORY,
    CA_BUNDLE,
    HOST_JSON,
    ALIVE_JSON,
    BOOT_SERVERS,
)
"""The files that a seed may have besides credentials, or the directories that hold them."""

_OWNER = re.compile(r"(0|[1-9][0-9]{0,8}):(0|[1-9][0-9]{0,8})")
_PATH: TypeAdapter[str] = TypeAdapter(SeedPath)
_MODE: TypeAdapter[str] = TypeAdapter(FileMode)


@dataclass(frozen=True)
class SeedCredential:
    """An opened credential: where it stands in the host's root, with which mode ("0600") and owner ("0:0")."""

    name: str
    version: int
    path: str
    mode: str
    secret: Secret
    owner: str = ROOT_OWNER


@dataclass(frozen=True)
class PhoneHomeId:
    """Where the booted host reports that it is up, and the id of the boot it reports."""

    url: str
    boot: str

    @property
    def alive_url(self) -> str:
        """Where it goes on saying so."""
        return f"{self.url.removesuffix('/up')}/alive"


@dataclass(frozen=True)
class PhoneHome(PhoneHomeId):
    """The same with its one-time key, of which the host sends the hex form, None on a general network, where others
    read it; and the key that it signs with after that, which it never sends."""

    key: Secret | None
    alive: Secret


@dataclass(frozen=True, order=True)
class BootServer:
    """Where a network's boot listeners are: the address, the HTTP port, the TFTP port and those of its transfers."""

    address: IPv4Address
    http: int
    tftp: int
    transfers: tuple[int, int]


@dataclass(frozen=True)
class EnvelopeSource:
    """Where a host whose seed has no secrets gets its envelope, and the public halves (Ed25519, hex) of the keys by one
    of which the site signs it."""

    url: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Seed:
    """A built seed: `data` is the archive, padded to 512 bytes; `revision` names it."""

    revision: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class File:
    """One file of the host's root: its bytes, its mode ("0600"), and its owner and group by number ("0:0")."""

    data: bytes = field(repr=False)
    mode: str = "0644"
    owner: str = ROOT_OWNER


def seed_revision(
    host: Host,
    site: Site,
    versions: Iterable[tuple[str, int]],
    phone_home: PhoneHomeId | None = None,
    servers: Sequence[BootServer] = (),
    owners: Mapping[str, str] | None = None,
    envelope: EnvelopeSource | None = None,
    enroll: str | None = None,
    signed: Sequence[str] = (),
) -> str:
    """The revision (hex SHA-256) of the seed that `build` makes of the same things; needs no secret.

    `versions` has (name, version) of each credential of the host, in any order; `owners` those that are not root's.
    `signed` is the label of the signer.
    """
    boot = [phone_home.url, phone_home.boot] if phone_home else None
    there = [[str(s.address), s.http, s.tftp, *s.transfers] for s in servers]
    parts = [FORMAT, RENDERING, host.revision, site.revision, sorted(map(list, versions)), boot, there]
    parts += [sorted(owners.items())] if owners else []
    parts += [["envelope", envelope.url, *envelope.keys]] if envelope else []
    parts += [["enroll", enroll]] if enroll else []
    parts += [["signed", *signed]] if signed else []
    return hashlib.sha256(_JSON.encode(parts).encode()).hexdigest()


def build(
    release: object,
    state: HostState,
    boot: Boot | Copy,
    site: Site,
    credentials: Sequence[SeedCredential],
    phone_home: PhoneHome | None,
    now: datetime,
    servers: Sequence[BootServer] = (),
    signer: Signer | None = None,
) -> Seed:
    """The seed of `state.host`, released by policy for this revision of it and this boot, and not expired at `now`.
    `servers` are the boot listeners that the host can reach; without a `signer` it is not signed.

    Raises Denied for any other release, and Invalid when two files would stand at one path or a value does not fit.
    """
    policy.require(release, state, boot, now, secret=bool(credentials) or phone_home is not None)
    return _build(state.host, site, credentials, phone_home, servers, None, signer)


def plain(
    host: Host,
    site: Site,
    servers: Sequence[BootServer] = (),
    envelope: EnvelopeSource | None = None,
    enroll: str | None = None,
    signer: Signer | None = None,
) -> Seed:
    """The seed without any secret of a host, which gets those by its envelope, and is to enrol its TPM at the URL
    `enroll`. It is no secret, so that this takes no release: it tells what the host's boot loader will measure. Raises
    Invalid as `build` does."""
    return _build(host, site, (), None, servers, envelope, signer, enroll)


def _build(
    host: Host,
    site: Site,
    credentials: Sequence[SeedCredential],
    phone_home: PhoneHome | None,
    servers: Sequence[BootServer],
    envelope: EnvelopeSource | None,
    signer: Signer | None,
    enroll: str | None = None,
) -> Seed:
    versions = [(c.name, c.version) for c in credentials]
    owners = {c.name: c.owner for c in credentials if c.owner != ROOT_OWNER}
    label = signer.label if signer else ()
    revision = seed_revision(host, site, versions, phone_home, servers, owners, envelope, enroll, label)
    tree = _generated(host, site)
    tree[HOST_JSON] = File(_host_json(host, site, revision, credentials, phone_home, envelope, enroll), "0600")
    if servers:
        tree[BOOT_SERVERS] = File(_boot_servers(servers))
    for credential in credentials:
        add(tree, host, credential)
    check_paths(tree, host)
    return Seed(revision, archive(host.name, revision, tree, signer))


def obstacle(host: Host, site: Site, path: str) -> str | None:
    """The file that the host's seed has anyway, and that leaves no room for a credential at `path`; None for none."""
    # Most credentials stand nowhere near, and then nothing is rendered.
    if not any(overlap(path, place) for place in PLACES):
        return None
    there = (*_generated(host, site), HOST_JSON, ALIVE_JSON, BOOT_SERVERS)
    return next((other for other in there if overlap(path, other)), None)


def contents(host: Host, site: Site) -> list[str]:
    """The paths that a seed of the host has besides those of credentials, sorted. A path is no secret."""
    return sorted((*_generated(host, site), HOST_JSON, BOOT_SERVERS))


def overlap(path: str, other: str) -> bool:
    """Whether two files cannot both stand there: at one path, or one in the other as its directory."""
    return path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")


def _generated(host: Host, site: Site) -> dict[str, File]:
    files = identity.files(host, site)
    files |= {f"{NETWORK_DIRECTORY}/{name}": data for name, data in networkd.files(host, site).items()}
    if options := networkd.module_options(host):
        files[MODULE_OPTIONS] = options
    certificates = [_certificate(host, pem) for pem in site.ca_certificates]
    files |= {f"{CA_DIRECTORY}/{number}.pem": pem for number, pem in enumerate(certificates, start=1)}
    if certificates:
        files[CA_BUNDLE] = b"".join(certificates)
    return {path: File(data) for path, data in files.items()}


def _certificate(host: Host, pem: str) -> bytes:
    # Parsed and written anew: text around the PEM block, or a private key in it, goes no further.
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.PEM)
    except ValueError:
        raise Invalid(
            host.name, "a CA certificate of the site is not a PEM certificate", "correct ca_certificates"
        ) from None


def add(tree: dict[str, File], host: Host, credential: SeedCredential) -> None:
    """Put a credential at its place. Raises Invalid."""
    subject = f"{host.name}: credential {credential.name}"
    try:
        path, mode = _PATH.validate_python(credential.path), _MODE.validate_python(credential.mode)
    except ValidationError:
        raise Invalid(subject, "its path or its mode is not one that a seed can hold", "set it again") from None
    if path in tree:
        raise Invalid(subject, f"another file of the seed stands at {path}", "set it again with another --path")
    if not _OWNER.fullmatch(credential.owner):
        raise Invalid(subject, "its owner is not a pair of numbers", "import the base image again")
    tree[path] = File(credential.secret.reveal(), mode, credential.owner)


def check_paths(tree: Mapping[str, File], host: Host) -> None:
    """Raise Invalid when one of the files cannot stand at its path."""
    for path in tree:
        try:
            _PATH.validate_python(path)
        except ValidationError:
            raise Invalid(host.name, "a name in it makes no path that a seed can hold", "apply it again") from None
        parent = path.rpartition("/")[0]
        while parent:
            if parent in tree:
                raise Invalid(host.name, f"{parent} would be both a file and the directory of {path}", "move one")
            parent = parent.rpartition("/")[0]


def archive(host: str, revision: str, tree: Mapping[str, File], signer: Signer | None = None) -> bytes:
    """The seed of a host's name with these files, by their paths below /etc. Who gives a host's own away needs a
    release of policy: this is what `build` makes of one, and what virtual machines get that are nobody's host."""
    entries = [cpio.file(f"{ROOT}{path}", file.data, int(file.mode, 8)) for path, file in tree.items()]
    members, manifest = cpio.tree([cpio.directory(DIRECTORY, 0o700), *entries]), _manifest(host, revision, tree)
    signature = [cpio.file(SIGNATURE, encode(manifest, signer), 0o600)] if signer else []
    return cpio.pack([*members, *signature, cpio.file(MANIFEST, manifest, 0o600)])


def _manifest(host: str, revision: str, tree: Mapping[str, File]) -> bytes:
    """One JSON document that a shell can read too: a header line, one line for each file, a closing line."""
    header = json.dumps({"format": FORMAT, "host": host, "revision": revision})
    # No mode and no path that a seed can hold has a character that JSON would have to quote.
    lines = [
        f'{{"mode": "{file.mode}", "owner": "{file.owner}", "path": "{path}", '
        f'"sha256": "{hashlib.sha256(file.data).hexdigest()}", "size": {len(file.data)}}}'
        for path, file in sorted(tree.items())
    ]
    return "".join((header[:-1], ', "files": [\n', ",\n".join(lines), "\n]}\n")).encode()


def _host_json(
    host: Host,
    site: Site,
    revision: str,
    credentials: Sequence[SeedCredential],
    phone_home: PhoneHome | None,
    envelope: EnvelopeSource | None,
    enroll: str | None,
) -> bytes:
    used = {interface.network for interface in host.interfaces.values()}
    document: dict[str, Any] = {
        "format": FORMAT,
        "host": host.name,
        "fqdn": f"{host.name}.{site.domain}",
        "domain": site.domain,
        "realm": site.realm,
        "revision": revision,
        "uuid": str(host.uuid) if host.uuid else None,
        "install": host.install.value,
        "storage": host.storage.value,
        **({"disk": host.disk.model_dump(exclude_defaults=True)} if host.disk else {}),
        **({"persist": [str(one) for one in host.persist]} if host.persist else {}),
        "labels": host.labels,
        "interfaces": {name: i.model_dump(mode="json", exclude_defaults=True) for name, i in host.interfaces.items()},
        "networks": {
            name: network.model_dump(mode="json", exclude_defaults=True, exclude={"pool"})
            for name, network in site.networks.items()
            if name in used
        },
        "servers": {
            name: _service(service, site)
            for name, service in (("management", site.servers.management), ("freeipa", site.servers.freeipa))
            if service is not None
        },
        "credentials": {c.name: {"path": c.path, "version": c.version} for c in credentials},
    }
    return to_json(document | _told(phone_home, envelope, enroll), indent=2) + b"\n"


def _told(phone_home: PhoneHome | None, envelope: EnvelopeSource | None, enroll: str | None) -> dict[str, Any]:
    """Where and how the host says that it is up, and that it goes on being so; where its envelope is, and where it
    enrols its TPM."""
    told: dict[str, Any] = {}
    if phone_home is not None and phone_home.key is not None:
        told["phone_home"] = {"url": phone_home.url, "key": phone_home.key.reveal().hex()}
    if phone_home is not None:
        told["alive"] = {"url": phone_home.alive_url, "boot": phone_home.boot, "key": phone_home.alive.reveal().hex()}
    if envelope is not None:
        told["envelope"] = {"url": envelope.url, "keys": list(envelope.keys)}
    if enroll is not None:
        told["enroll"] = {"url": enroll}
    return told


def _boot_servers(servers: Sequence[BootServer]) -> bytes:
    """The listeners as nft's variables: the addresses, their TCP ports, their UDP ports and ranges of these."""
    return render_common(
        "seed/boot-servers.nft.j2",
        addresses=tuple(sorted({server.address for server in servers})),
        tcp=tuple(sorted({server.http for server in servers})),
        udp=tuple(sorted({server.tftp for server in servers})),
        transfers=tuple(sorted({server.transfers for server in servers})),
    )


def _service(service: Service, site: Site) -> dict[str, Any]:
    document: dict[str, Any] = {"hosts": [server.model_dump(mode="json") for server in service.hosts]}
    if service.srv is not None:
        document["srv"] = f"{service.srv}.{site.domain}"
    return document
