"""Credentials checked when they are set: do they fit the host, and one another?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from provision.credential import MAX_FILE, MAX_TOKEN, Held, Validity, check
from provision.errors import Invalid
from provision.host import Interface
from provision.secret import Secret
from provision.site import CredentialKind, CredentialSpec, Site
from tests.helpers.store_samples import NOW, host, inventory
from tests.unit.test_keytab import keytab, record

DAY = timedelta(days=1)
KINDS = {"tls": "certificate", "tls-key": "key", "krb5": "keytab", "enrol": "token", "motd": "file"}


def site(**kinds: str) -> Site:
    specs = {n.replace("_", "-"): CredentialSpec(kind=CredentialKind(k), path=f"/etc/{n}") for n, k in kinds.items()}
    return inventory().site.model_copy(update={"credentials": specs})


SITE = site(**KINDS)
HOST = host(1, credentials=tuple(KINDS))


@dataclass(frozen=True)
class Other:
    """A credential that the host has."""

    name: str
    kind: CredentialKind
    secret: Secret


def looked_at(
    kind: str, data: bytes, others: Sequence[Held] = (), name: str = "tls", site: Site = SITE, **fields: Any
) -> Validity:
    target = HOST.model_copy(update=fields)
    return check(CredentialKind(kind), name, Secret(data), target, site, others, NOW)


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(private: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return bytes(private.private_bytes(Encoding.PEM, form, NoEncryption()))


def certificate(
    private: CertificateIssuerPrivateKeyTypes,
    names: Sequence[str] | None = ("n1.example.org",),
    common: str = "whatever",
    start: datetime = NOW - DAY,
    end: datetime = NOW + DAY,
    addresses: Sequence[str] = (),
) -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
    builder = x509.CertificateBuilder(subject, subject, private.public_key(), 1, start, end)
    if names is not None:
        own = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(a)) for a in addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(own), critical=False)
    algorithm = None if isinstance(private, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(private, algorithm).public_bytes(Encoding.PEM)


# Keytabs


@pytest.mark.parametrize(
    "principal",
    [
        "host/n1.example.org",
        "HTTP/n1.example.org",
        "N1$",
        "n1$",
        "host/N1.Example.org",
        "host/N1",
        "RestrictedKrbHost/n1",
        "HTTP/n1.example.org:8443",
        "MSSQLSvc/N1:1433",
    ],
)
def test_fitting_keytabs(principal: str) -> None:
    assert looked_at("keytab", keytab(record(f"{principal}@EXAMPLE.ORG"))) == Validity(None)


@pytest.mark.parametrize(
    ("principal", "fact"),
    [
        ("host/n2.example.org@EXAMPLE.ORG", "is not n1; use a principal such as host/n1.example.org@EXAMPLE.ORG"),
        ("host/n2@EXAMPLE.ORG", "is not n1"),
        ("host/n2.example.org:88@EXAMPLE.ORG", "is not n1"),
        ("host/n1$@EXAMPLE.ORG", "is not n1"),
        ("host/n1.example.net@EXAMPLE.ORG", "is not n1"),
        ("n1@EXAMPLE.ORG", "is not n1"),
        ("host/vip.example.org@EXAMPLE.ORG", "is not n1"),
        ("host/n1.example.org@example.org", "realms differ by case"),
        ("n1.example.org@EXAMPLE.ORG", "is not n1"),
        ("N2$@EXAMPLE.ORG", "is not n1"),
        ("host/n1.example.org/x@EXAMPLE.ORG", "is not n1"),
        ("admin@EXAMPLE.ORG", "is not n1"),
        ("host/n1.example.org@OTHER.ORG", "realm 'OTHER.ORG'; the site's is EXAMPLE.ORG"),
    ],
)
def test_keytabs_of_others(principal: str, fact: str) -> None:
    good = record("host/n1.example.org@EXAMPLE.ORG")
    with pytest.raises(Invalid, match=f"credential 'krb5' of n1: .*{fact}"):
        looked_at("keytab", keytab(good, record(principal)), name="krb5")


def test_a_keytab_needs_a_realm() -> None:
    with pytest.raises(Invalid, match=r"set site\.realm"):
        looked_at("keytab", keytab(record("host/n1.example.org@A")), site=SITE.model_copy(update={"realm": None}))


def test_a_broken_keytab() -> None:
    with pytest.raises(Invalid, match="credential 'krb5' of n1: is not a keytab"):
        looked_at("keytab", b"canary", name="krb5")


# Certificates and keys


@pytest.mark.parametrize("names", [["n1.example.org"], ["x", "N1.example.ORG"], ["*.example.org"]])
def test_fitting_certificates(names: list[str]) -> None:
    assert looked_at("certificate", certificate(key(1), names)) == Validity(NOW + DAY)


def test_the_common_name_counts_alone_only() -> None:
    assert looked_at("certificate", certificate(key(1), None, "n1.example.org")).not_after
    with pytest.raises(Invalid, match=r"is for 'n2\.example\.org', not for n1\.example\.org"):
        looked_at("certificate", certificate(key(1), ["n2.example.org"], "n1.example.org"))


@pytest.mark.parametrize("names", [["n2.example.org"], ["*.org"], ["example.org"], ["*.n1.example.org"], [], ["n1"]])
def test_certificates_of_others(names: list[str]) -> None:
    with pytest.raises(Invalid, match=r"not for n1\.example\.org"):
        looked_at("certificate", certificate(key(1), names))


def test_a_certificate_for_a_shared_name() -> None:
    spec = CredentialSpec(kind=CredentialKind.CERTIFICATE, path="/etc/tls", names=("vip.example.org",))
    shared = SITE.model_copy(update={"credentials": {"tls": spec}})
    assert looked_at("certificate", certificate(key(1), ["vip.example.org"]), site=shared)


@pytest.mark.parametrize(
    ("addresses", "fact"),
    [
        (["192.0.2.11"], ""),
        (["2001:db8::11"], ""),
        (["192.0.2.9", "192.0.2.14"], ""),
        (["192.0.2.12"], r"is for 192\.0\.2\.12, not for n1\.example\.org"),
    ],
)
def test_a_certificate_for_an_address_of_the_host(addresses: list[str], fact: str) -> None:
    first = {"macs": ("52:54:00:00:00:01",), "network": "mgmt", "addressing": "static", "ipv4": "192.0.2.11"}
    second = {"macs": ("52:54:00:00:00:02",), "network": "mgmt", "addressing": "dhcp", "reservation": "192.0.2.14"}
    interfaces = {
        "a": Interface.model_validate(first | {"ipv6": "2001:db8::11"}),
        "b": Interface.model_validate(second),
    }
    data = certificate(key(1), [], addresses=addresses)
    if not fact:
        assert looked_at("certificate", data, interfaces=interfaces) == Validity(NOW + DAY)
        return
    with pytest.raises(Invalid, match=fact):
        looked_at("certificate", data, interfaces=interfaces)


def test_a_name_in_the_sites_domain_says_more_than_an_address_that_two_scopes_may_have() -> None:
    interface = {"macs": ("52:54:00:00:00:01",), "network": "mgmt", "addressing": "static", "ipv4": "192.0.2.11"}
    interfaces = {"a": Interface.model_validate(interface)}
    at = partial(certificate, key(1), addresses=["192.0.2.11"])
    for data in (at(["n2.Example.org"]), at([], "n2.example.org")):
        with pytest.raises(Invalid, match=r"is for .*192\.0\.2\.11, not for n1"):
            looked_at("certificate", data, interfaces=interfaces)
    for data in (at(["a.example.net"]), at([], "N1.example.org")):
        assert looked_at("certificate", data, interfaces=interfaces)


def test_an_address_as_a_dns_or_common_name_is_none() -> None:
    interface = {"macs": ("52:54:00:00:00:01",), "network": "mgmt", "addressing": "static", "ipv4": "192.0.2.11"}
    interfaces = {"a": Interface.model_validate(interface)}
    for data in (certificate(key(1), ["192.0.2.11"]), certificate(key(1), None, "192.0.2.11")):
        with pytest.raises(Invalid, match=r"is for '192\.0\.2\.11', not for n1"):
            looked_at("certificate", data, interfaces=interfaces)


def test_only_the_first_of_a_chain_is_the_hosts() -> None:
    own, authority = certificate(key(1)), certificate(key(2), ["ca.example.org"])
    assert looked_at("certificate", own + authority)
    with pytest.raises(Invalid, match=r"the host's own certificate is not the first one in the file; put it first"):
        looked_at("certificate", authority + own)
    with pytest.raises(Invalid, match=r"is for 'ca\.example\.org', not for n1\.example\.org"):
        looked_at("certificate", authority)


def test_times() -> None:
    with pytest.raises(Invalid, match="expired at 2026-03-01 12:00 UTC"):
        looked_at("certificate", certificate(key(1), end=NOW))
    with pytest.raises(Invalid, match="not valid before 2026-03-01 12:00 UTC; check the clocks"):
        looked_at("certificate", certificate(key(1), start=NOW + timedelta(seconds=1), end=NOW + DAY))
    assert looked_at("certificate", certificate(key(1), start=NOW, end=NOW + DAY))


@pytest.mark.parametrize(
    "private",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["ec", "ed25519", "rsa"],
)
def test_a_certificate_fits_its_key_in_either_order(private: CertificateIssuerPrivateKeyTypes) -> None:
    mine, his = Other("tls-key", CredentialKind.KEY, Secret(pem(private))), pem(key(2))
    assert looked_at("certificate", certificate(private), [mine]) == Validity(NOW + DAY)
    with pytest.raises(Invalid, match="credential 'tls' of n1: the certificate does not match the key 'tls-key'"):
        looked_at("certificate", certificate(key(2)), [mine])
    held = Other("tls", CredentialKind.CERTIFICATE, Secret(certificate(private)))
    assert looked_at("key", pem(private), [held], "tls-key") == Validity()
    with pytest.raises(Invalid, match="credential 'tls-key' of n1: the key does not match the certificate 'tls'"):
        looked_at("key", his, [held], "tls-key")


def test_a_new_version_is_not_held_against_the_old() -> None:
    assert looked_at("certificate", certificate(key(2)), [Other("tls", CredentialKind.KEY, Secret(pem(key(1))))])


def test_pairs_by_name() -> None:
    names = {"web_cert": "certificate", "web_key": "key", "vpn": "certificate", "vpn_key": "key"}
    many, credentials = site(**names, ldap="certificate"), tuple(name.replace("_", "-") for name in names)
    web, vpn = (Other(f"{n}-key", CredentialKind.KEY, Secret(pem(key(i)))) for i, n in enumerate(("web", "vpn")))
    for name, number in (("web-cert", 0), ("vpn", 1)):
        data = certificate(key(number))
        assert looked_at("certificate", data, [web, vpn], name, many, credentials=credentials)
        with pytest.raises(Invalid, match="does not match"):
            looked_at("certificate", certificate(key(1 - number)), [web, vpn], name, many, credentials=credentials)
    other = "ldap"
    assert looked_at("certificate", certificate(key(9)), [web, vpn], other, many, credentials=(*credentials, other))


def test_the_only_two_are_a_pair_whatever_their_names() -> None:
    two, credentials = site(public="certificate", secret="key"), ("public", "secret")
    held = Other("secret", CredentialKind.KEY, Secret(pem(key(1))))
    assert looked_at("certificate", certificate(key(1)), [held], "public", two, credentials=credentials)
    with pytest.raises(Invalid, match="does not match the key 'secret'"):
        looked_at("certificate", certificate(key(2)), [held], "public", two, credentials=credentials)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("kind", ["certificate", "key"])
def test_both_in_one_file(kind: str, form: PrivateFormat) -> None:
    for first, second in ((pem(key(1), form), certificate(key(1))), (certificate(key(1)), pem(key(1), form))):
        assert looked_at(kind, first + second)
    with pytest.raises(Invalid, match="in the same file"):
        looked_at(kind, pem(key(2), form) + certificate(key(1)))


@pytest.mark.parametrize("kind", ["certificate", "key"])
@pytest.mark.parametrize(
    "data", [b"canary", b"\xff\x00\xfe", b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n"]
)
def test_broken_pem(kind: str, data: bytes) -> None:
    with pytest.raises(Invalid, match="credential 'tls' of n1: is not a PEM") as caught:
        looked_at(kind, data)
    assert "canary" not in str(caught.value) and caught.value.__suppress_context__


def test_a_key_below_etc_ssh_is_read_by_openssh_and_is_no_part_of_a_pair() -> None:
    openssh = pem(key(1), PrivateFormat.OpenSSH)
    two = site(cert="certificate", key="key")
    specs = two.credentials | {"key": CredentialSpec(kind=CredentialKind.KEY, path="/etc/ssh/ssh_host_ecdsa_key")}
    beside, credentials = two.model_copy(update={"credentials": specs}), ("cert", "key")
    held = Other("cert", CredentialKind.CERTIFICATE, Secret(certificate(key(2))))
    assert looked_at("key", openssh, [held], "key", beside, credentials=credentials)
    other = Other("key", CredentialKind.KEY, Secret(openssh))
    assert looked_at("certificate", certificate(key(2)), [other], "cert", beside, credentials=credentials)
    with pytest.raises(Invalid, match=r"credential 'key' of n1: is an OpenSSH key, which .*; declare it with a path"):
        looked_at("key", openssh, [held], "key", two, credentials=credentials)
    subject = HOST.model_copy(update={"credentials": credentials})
    elsewhere = check(CredentialKind.KEY, "key", Secret(openssh), subject, two, (), NOW, "/etc/ssh/ssh_host_ecdsa_key")
    assert elsewhere == Validity(), "a --path counts"


def test_an_encrypted_key() -> None:
    locked = key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary"))
    with pytest.raises(Invalid, match="encrypted with a passphrase; give an unencrypted"):
        looked_at("key", locked)


# Tokens and files


@pytest.mark.parametrize("data", [b"x", b"x y\n", b"x\r\n", b"x" * MAX_TOKEN])
def test_tokens(data: bytes) -> None:
    assert looked_at("token", data) == Validity()


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "the file is empty"),
        (b"\n", "the token is empty"),
        (b"  \n", "the token is empty"),
        (b"canary\ncanary", "more than one line"),
        (b"canary\n\n", "more than one line"),
        (b"canary\0", "zero byte"),
        (b"canary" * 1000, "has 6000 bytes, more than 4096"),
    ],
)
def test_no_tokens(data: bytes, fact: str) -> None:
    with pytest.raises(Invalid, match=fact) as caught:
        looked_at("token", data, name="enrol")
    assert "canary" not in str(caught.value)


def test_files() -> None:
    assert looked_at("file", bytes(MAX_FILE)) == Validity()
    with pytest.raises(Invalid, match="more than 1048576"):
        looked_at("file", bytes(MAX_FILE + 1))
    with pytest.raises(Invalid, match="is empty"):
        looked_at("file", b"")
