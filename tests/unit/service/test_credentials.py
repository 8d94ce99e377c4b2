"""Credentials as they are set: where they may stand, with which mode, and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from provision.boot import Medium
from provision.errors import Invalid, Problems
from provision.secret import Secret
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, NOW, Site, site

MORE = """\
    token: {kind: token, path: /etc/token}
    file: {kind: file, path: /etc/file}
    cert: {kind: certificate, path: /etc/cert.pem, mode: "0644"}
    key: {kind: key, path: /etc/key.pem}
"""
CREDENTIALS = INVENTORY.replace("    token: {kind: token, path: /etc/token}\n", MORE).replace(
    "  node1:\n    credentials: [token]", "  node1:\n    credentials: [token, file, cert, key]"
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, CREDENTIALS) as opened:
        yield opened


def put(here: Site, name: str, data: bytes = b"x", path: str | None = None, mode: str | None = None) -> None:
    here.service.credentials.put("node1", name, Secret(data), path, mode, ROOT)


def pair() -> tuple[bytes, bytes]:
    """A certificate for node1 and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1.example.test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW.replace(year=NOW.year + 1))
    certificate = dated.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/etc/hostname", "the seed has /etc/hostname anyway"),
        ("/etc/hosts/x", "the seed has /etc/hosts anyway"),
        ("/etc/systemd", "the seed has /etc/systemd/network/"),
        ("/etc/provision/host.json", "the seed has /etc/provision/host.json anyway"),
        ("/etc/token", "beside 'token' at /etc/token"),
        ("/etc/cert.pem", "beside 'cert' at /etc/cert.pem"),
        ("/etc/cert.pem/file", "beside 'cert' at /etc/cert.pem"),
        ("", "its path is not one below /etc"),
    ],
)
def test_a_path_that_another_file_of_the_seed_has_is_refused(here: Site, path: str, other: str) -> None:
    with pytest.raises(Invalid, match="^node1/file: .*" + other):
        put(here, "file", path=path)
    assert len(here.service.credentials.listing("node1", ROOT)) == 1


@pytest.mark.parametrize("path", ["/etc/krb5.conf", "/etc/systemd/network/90-own.network", "/etc/provision/file"])
def test_a_path_that_this_hosts_seed_leaves_free_is_taken(here: Site, path: str) -> None:
    certificate, key = pair()
    put(here, "cert", certificate)
    put(here, "key", key)
    put(here, "file", path=path)
    assert here.service.media.plan("node1", Medium.ISO, ROOT).size


@pytest.mark.parametrize("mode", ["0604", "0777", "0601"])
def test_a_secret_is_for_nobody_else_on_the_host(here: Site, mode: str) -> None:
    certificate, key = pair()
    with pytest.raises(Invalid, match=f"node1/token: every user of the host could read a token with mode {mode}"):
        put(here, "token", mode=mode)
    with pytest.raises(Invalid, match="could read a key with mode"):
        put(here, "key", key, mode=mode)
    put(here, "file", mode=mode)
    put(here, "cert", certificate, mode=mode)


def test_a_certificate_with_its_key_is_kept_like_a_key(here: Site) -> None:
    both = b"".join(pair())
    with pytest.raises(Invalid, match=r"node1/cert: holds a private key: every user .* seal the key by itself"):
        put(here, "cert", both)
    put(here, "cert", both, mode="0640")


def test_what_the_host_does_not_name_is_refused(here: Site) -> None:
    with pytest.raises(Invalid, match=r"node3/token: node3 does not name this credential, .*; add it to the host's"):
        here.service.credentials.put("node3", "token", Secret(b"x"), None, None, ROOT)


def test_a_load_replaces_a_pair_and_swaps_places(here: Site) -> None:
    old, new = pair(), pair()
    for certificate, key in (old, new):
        items = [("node1", "cert", Secret(certificate)), ("node1", "key", Secret(key))]
        here.service.credentials.put_many(items, ROOT)
    here.apply(CREDENTIALS.replace("/etc/cert.pem", "/etc/other").replace("/etc/key.pem", "/etc/cert.pem"))
    here.service.credentials.put_many([items[1], items[0]], ROOT)
    rows = {row.name: row.path for row in here.service.credentials.listing("node1", ROOT)}
    assert (rows["cert"], rows["key"]) == ("/etc/other", "/etc/cert.pem")


def test_what_would_be_sealed_can_be_asked(here: Site) -> None:
    good, bad = ("node1", "token", Secret(b"new")), ("node1", "file", Secret(b""))
    assert len(here.service.credentials.fitting([good], ROOT)) == 1
    with pytest.raises(Problems, match="the file is empty"):
        here.service.credentials.fitting([good, bad], ROOT)
    assert [row.version for row in here.service.credentials.listing("node1", ROOT)] == [1]


def test_the_same_again_is_the_same_version_and_no_act(here: Site) -> None:
    put, told = here.service.credentials.put, len(here.audit())
    revision = here.service.core.state("node1").revision
    assert put("node1", "token", Secret(CANARY), None, None, ROOT).version == 1
    many = [("node1", "token", Secret(CANARY)), ("node2", "token", Secret(b"another"))]
    assert [row.version for row in here.service.credentials.put_many(many, ROOT)] == [1, 2]
    assert [row.version for row in here.service.credentials.put_many(many, ROOT)] == [1, 2]
    assert [e["host"] for e in here.audit()[told:] if e["event"] == "credential-set"] == ["node2"]
    assert here.service.core.state("node1").revision == revision
    assert put("node1", "token", Secret(CANARY), None, "0400", ROOT).version == 2, "its mode is another"
    assert put("node1", "token", Secret(CANARY + b"x"), None, "0400", ROOT).version == 3
