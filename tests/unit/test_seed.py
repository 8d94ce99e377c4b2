"""Seeds: what they hold, who gets one, and that the same input gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from provision import cpio, policy
from provision.boot import OPERATOR, Boot, Copy, Medium
from provision.errors import Denied, Invalid
from provision.host import Host
from provision.proc import run
from provision.secret import Secret
from provision.seed import (
    PLACES,
    BootServer,
    PhoneHome,
    PhoneHomeId,
    Seed,
    SeedCredential,
    build,
    obstacle,
    seed_revision,
)
from provision.site import Site
from tests.helpers.rendering import HOSTS, NOW, SITE, golden, host, nic, released

KEYTAB = SeedCredential("keytab", 3, "/etc/krb5.keytab", "0600", Secret(b"\x05\x02canary-keytab"))
KEY = SeedCredential("tls-key", 1, "/etc/ssl/private/node.key", "0640", Secret(b"canary-key"))
BOOT = Boot(1, "node7", "52:54:00:00:00:07", Medium.PXE, "mgmt", NOW)
COPY = Copy("node7", Medium.ISO, "0" * 32)
HOME = PhoneHome("http://10.20.0.4/up", "17", Secret(bytes(range(16))), Secret(bytes(range(32, 64))))


SERVER = BootServer(IPv4Address("10.20.0.4"), 80, 69, (20000, 20255))


def built(
    subject: Host = HOSTS["static"], site: Site = SITE, *extra: SeedCredential, home: PhoneHome | None = HOME
) -> Seed:
    state, release = released(subject, site)
    return build(release, state, COPY, site, (KEYTAB, *extra), home, NOW)


def members(seed: Seed) -> dict[str, cpio.Member]:
    return {member.path: member for member in cpio.read(io.BytesIO(seed.data))}


def manifest(seed: Seed) -> Any:
    return json.loads(members(seed)["provision-seed/manifest.json"].data)


def test_the_archive_has_the_tree_and_the_manifest_last() -> None:
    seed = built(HOSTS["static"], SITE, KEY)
    found = members(seed)
    assert next(iter(found)) == "provision-seed"
    assert list(found)[-1] == "provision-seed/manifest.json"
    assert len(seed.data) % 512 == 0
    assert {(m.uid, m.gid, m.links, m.mtime) for m in found.values()} == {(0, 0, 1, 0)}
    assert stat.S_IMODE(found["provision-seed"].mode) == 0o700
    assert {stat.S_IMODE(m.mode) for p, m in found.items() if m.is_directory and p != "provision-seed"} == {0o755}
    assert found["provision-seed/root/etc/krb5.keytab"].data == b"\x05\x02canary-keytab"
    assert stat.S_IMODE(found["provision-seed/root/etc/krb5.keytab"].mode) == 0o600
    assert stat.S_IMODE(found["provision-seed/root/etc/ssl/private/node.key"].mode) == 0o640
    assert stat.S_IMODE(found["provision-seed/root/etc/provision/host.json"].mode) == 0o600
    assert stat.S_IMODE(found["provision-seed/root/etc/systemd/network/10-mgmt.network"].mode) == 0o644


def test_the_manifest_has_every_file_as_it_is() -> None:
    seed = built()
    document = manifest(seed)
    assert (document["format"], document["host"], document["revision"]) == (1, "node7", seed.revision)
    files = {p.removeprefix("provision-seed/root"): m for p, m in members(seed).items() if not m.is_directory}
    del files["provision-seed/manifest.json"]
    assert [entry["path"] for entry in document["files"]] == sorted(files)
    for entry in document["files"]:
        member = files[entry["path"]]
        assert entry == {
            "mode": f"{stat.S_IMODE(member.mode):04o}",
            "owner": "0:0",
            "path": entry["path"],
            "sha256": hashlib.sha256(member.data).hexdigest(),
            "size": len(member.data),
        }


def test_a_shell_can_read_the_manifest_line_by_line() -> None:
    lines = members(built())["provision-seed/manifest.json"].data.decode().splitlines()
    assert re.fullmatch(r'\{"format": 1, "host": "node7", "revision": "[0-9a-f]{64}", "files": \[', lines[0])
    assert lines[-1] == "]}"
    shape = r'\{"mode": "0[0-7]{3}", "owner": "0:0", "path": "/etc/[^"\\]+", "sha256": "[0-9a-f]{64}", "size": \d+\}'
    assert all(re.fullmatch(shape + ",", line) for line in lines[1:-2])
    assert re.fullmatch(shape, lines[-2])


def test_host_json() -> None:
    text = members(built())["provision-seed/root/etc/provision/host.json"].data
    golden("seed/host.json", text)
    document = json.loads(text)
    assert document["phone_home"] == {"url": "http://10.20.0.4/up", "key": bytes(range(16)).hex()}
    assert document["alive"] == {"url": "http://10.20.0.4/alive", "boot": "17", "key": bytes(range(32, 64)).hex()}
    assert document["servers"]["management"]["srv"] == "_provision-mgmt._tcp.example.org"
    without = json.loads(members(built(home=None))["provision-seed/root/etc/provision/host.json"].data)
    assert "phone_home" not in without and "alive" not in without
    unsent = replace(HOME, key=None)
    general = json.loads(members(built(home=unsent))["provision-seed/root/etc/provision/host.json"].data)
    assert "phone_home" not in general and general["alive"] == document["alive"]


def test_the_boot_servers_are_variables_of_nft() -> None:
    state, release = released(HOSTS["static"], SITE)
    other = BootServer(IPv4Address("10.9.0.4"), 8080, 69, (30000, 30255))
    seed = build(release, state, COPY, SITE, (KEYTAB,), HOME, NOW, (SERVER, other))
    golden("seed/boot-servers.nft", members(seed)["provision-seed/root/etc/provision/boot-servers.nft"].data)
    assert "provision-seed/root/etc/provision/boot-servers.nft" not in members(built()), "an empty set is no set of nft"


def test_the_same_input_gives_the_same_bytes_and_other_bytes_need_another_rendering_number() -> None:
    digests = {name: hashlib.sha256(built(subject).data).hexdigest() for name, subject in HOSTS.items()}
    assert digests == {name: hashlib.sha256(built(subject).data).hexdigest() for name, subject in HOSTS.items()}
    # When this golden file changes, raise provision.seed.RENDERING.
    golden("seed/digests.json", (json.dumps(digests, indent=2) + "\n").encode())


def test_the_revision_needs_no_secret_and_holds_no_key() -> None:
    seed = built()
    home = PhoneHomeId(HOME.url, HOME.boot)
    assert seed.revision == seed_revision(HOSTS["static"], SITE, [("keytab", 3)], home)
    assert built(home=replace(HOME, key=Secret(b"other"))).revision == seed.revision


def test_the_revision_changes_with_everything_that_the_seed_is_made_of() -> None:
    subject, versions, home = HOSTS["static"], [("keytab", 3), ("token", 1)], PhoneHomeId("http://a/up", "1")
    revisions = [
        seed_revision(subject, SITE, versions, home),
        seed_revision(HOSTS["dhcp"], SITE, versions, home),
        seed_revision(subject, SITE.model_copy(update={"domain": "example.net"}), versions, home),
        seed_revision(subject, SITE, [("keytab", 4), ("token", 1)], home),
        seed_revision(subject, SITE, [("keytab", 3)], home),
        seed_revision(subject, SITE, versions, PhoneHomeId("http://b/up", "1")),
        seed_revision(subject, SITE, versions, PhoneHomeId("http://a/up", "2")),
        seed_revision(subject, SITE, versions),
        seed_revision(subject, SITE, versions, home, [SERVER]),
        seed_revision(subject, SITE, versions, home, [replace(SERVER, http=8080)]),
        seed_revision(subject, SITE, versions, home, [replace(SERVER, transfers=(20000, 20001))]),
    ]
    assert len(set(revisions)) == len(revisions)
    assert seed_revision(subject, SITE, versions[::-1], home) == revisions[0]
    assert all(re.fullmatch(r"[0-9a-f]{64}", revision) for revision in revisions)


@pytest.mark.parametrize(
    ("path", "fact"),
    [
        ("/etc/hostname", "another file of the seed stands at /etc/hostname"),
        ("/etc/provision/host.json", "another file of the seed stands at"),
        ("/etc/krb5.keytab", "another file of the seed stands at"),
        ("/etc/systemd", "/etc/systemd would be both a file and the directory of /etc/systemd/"),
        ("/etc/hostname/x", "/etc/hostname would be both a file and the directory of"),
        ("/etc/../root/x", "its path or its mode"),
        ("/root/.ssh/id", "its path or its mode"),
        ("/etc/a\nb", "its path or its mode"),
    ],
)
def test_a_credential_that_cannot_stand_there_is_named(path: str, fact: str) -> None:
    with pytest.raises(Invalid, match=fact) as caught:
        built(HOSTS["static"], SITE, SeedCredential("token", 1, path, "0600", Secret(b"canary")))
    assert "canary" not in str(caught.value)


def test_a_credential_belongs_to_the_account_that_it_is_given_to() -> None:
    key = SeedCredential("key", 1, "/etc/pki/qemu/server-key.pem", "0640", Secret(b"x"), "0:64055")
    owners = {entry["path"]: entry["owner"] for entry in manifest(built(HOSTS["static"], SITE, key))["files"]}
    assert owners.pop("/etc/pki/qemu/server-key.pem") == "0:64055"
    assert set(owners.values()) == {"0:0"}
    with pytest.raises(Invalid, match="credential key: its owner is not a pair of numbers"):
        built(HOSTS["static"], SITE, replace(key, owner="0:kvm"))


def test_whose_a_credential_is_makes_another_revision() -> None:
    owned = {owner: {"key": owner} for owner in ("0:1", "1:0")}
    revisions = [seed_revision(HOSTS["static"], SITE, [("key", 1)], owners=o) for o in (None, *owned.values())]
    assert len(set(revisions)) == 3
    assert seed_revision(HOSTS["static"], SITE, [("key", 1)], owners={}) == revisions[0]
    key = SeedCredential("key", 1, "/etc/key", "0640", Secret(b"x"), "0:1")
    state, release = released(HOSTS["static"])
    assert build(release, state, COPY, SITE, (key,), None, NOW).revision == revisions[1]


@pytest.mark.parametrize("mode", ["4755", "0999", "600", "0600 "])
def test_a_mode_that_a_seed_cannot_hold_is_refused(mode: str) -> None:
    with pytest.raises(Invalid, match="credential token: its path or its mode"):
        built(HOSTS["static"], SITE, SeedCredential("token", 1, "/etc/token", mode, Secret(b"x")))


def test_a_host_name_that_would_leave_the_tree_is_refused() -> None:
    subject = host(mgmt=HOSTS["dhcp"].primary)
    evil = subject.model_copy(update={"interfaces": {"../../../root/x": subject.primary}})
    with pytest.raises(Invalid):
        built(evil)


def certificate(subject: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


def test_ca_certificates_stand_alone_and_in_one_bundle() -> None:
    pems = [certificate(name).public_bytes(Encoding.PEM).decode() for name in ("one", "two")]
    site = SITE.model_copy(update={"ca_certificates": ("a comment\n" + pems[0], pems[1])})
    found = members(built(HOSTS["dhcp"], site))
    assert found["provision-seed/root/etc/provision/ca/1.pem"].data.decode() == pems[0]
    assert found["provision-seed/root/etc/provision/ca/2.pem"].data.decode() == pems[1]
    assert found["provision-seed/root/etc/ssl/certs/provision-ca.pem"].data.decode() == "".join(pems)
    with pytest.raises(Invalid, match="node7: a CA certificate of the site is not a PEM certificate"):
        built(HOSTS["dhcp"], SITE.model_copy(update={"ca_certificates": ("-----BEGIN CERTIFICATE-----\nx",)}))


class LooksRight:
    """Everything a Release has, without having been issued."""

    def __init__(self, subject: Host) -> None:
        self.host, self.revision, self.medium, self.channel = subject.name, subject.revision, Medium.ISO, OPERATOR
        self.expires = datetime(2100, 1, 1, tzinfo=UTC)


class Unopenable(Secret):
    """A secret that fails the test when it is opened."""

    def reveal(self) -> bytes:
        raise AssertionError("opened without a release")


def test_only_a_release_by_policy_opens_anything() -> None:
    state, release = released(HOSTS["static"])
    other, foreign = released(host("node8", mgmt={"macs": (nic(8),), "network": "mgmt", "addressing": "dhcp"}))
    forged = object.__new__(policy.Release)
    forged.__dict__.update(release.__dict__)
    locked = (replace(KEYTAB, secret=Unopenable(b"")),)
    for fake in (None, True, LooksRight(state.host), forged, foreign, state):
        with pytest.raises(Denied):
            build(fake, state, COPY, SITE, locked, None, NOW)
    with pytest.raises(Denied, match="earlier revision"):
        build(release, replace(state, revision="0" * 64), COPY, SITE, locked, None, NOW)
    with pytest.raises(Denied, match="expired"):
        build(release, state, COPY, SITE, locked, None, release.expires)
    for wrong in (replace(COPY, host="node8"), replace(COPY, medium=Medium.DISK), BOOT):
        with pytest.raises(Denied, match="the release is for node7's iso on operator"):
            build(release, state, wrong, SITE, locked, None, NOW)
    with pytest.raises(Denied):
        build(release, other, COPY, SITE, locked, None, NOW)


def test_a_seed_does_not_show_its_secrets() -> None:
    assert "canary" not in f"{built()!r}{KEYTAB!r}{HOME!r}"


@pytest.mark.integration
def test_gnu_cpio_extracts_it_with_its_modes(tmp_path: Path) -> None:
    seed = built(HOSTS["hypervisor"], SITE, KEY)
    run(["cpio", "-idm", "--quiet"], package="cpio", stdin=seed.data, cwd=tmp_path)
    root = tmp_path / "provision-seed/root"
    for entry in manifest(seed)["files"]:
        path = root / entry["path"].lstrip("/")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        assert f"{stat.S_IMODE(path.stat().st_mode):04o}" == entry["mode"]


@pytest.mark.parametrize("name", HOSTS)
def test_what_a_seed_has_anyway_stands_in_the_places_that_are_named(name: str) -> None:
    paths = [entry["path"] for entry in manifest(built(HOSTS[name]))["files"] if entry["path"] != KEYTAB.path]
    assert all(any(path == place or path.startswith(f"{place}/") for place in PLACES) for path in paths)
    assert [obstacle(HOSTS[name], SITE, path) for path in paths] == paths
    assert obstacle(HOSTS[name], SITE, KEYTAB.path) is None
