"""What can be known of a credential when it is set: does it fit its host? Errors never show content."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from provision import keytab
from provision.errors import Invalid, Problem, Problems
from provision.host import Host
from provision.secret import Secret
from provision.site import CredentialKind, Inventory, Site

MAX_FILE = 1 << 20
MAX_TOKEN = 4096
_PAIR_SUFFIXES = ("-certificate", "-cert", "-crt", "-key")
_KEY_MARK = b" PRIVATE KEY-----"
_CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"


class Held(Protocol):
    """A credential that the host has already."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> CredentialKind:
        """Its kind."""

    @property
    def secret(self) -> Secret:
        """Its content."""


@dataclass(frozen=True)
class Checked:
    """What a check found out: when a certificate ends, None for everything else."""

    not_after: datetime | None = None


@dataclass(frozen=True)
class _Case:
    name: str
    data: Secret
    host: Host
    site: Site
    others: tuple[Held, ...]
    now: datetime

    @property
    def fqdn(self) -> str:
        return f"{self.host.name}.{self.site.domain}"

    def invalid(self, fact: str, remedy: str = "") -> Invalid:
        return Invalid(f"credential '{self.name}' of {self.host.name}", fact, remedy)


def check(
    kind: CredentialKind,
    name: str,
    data: Secret,
    host: Host,
    site: Site,
    others: Iterable[Held],
    now: datetime,
) -> Checked:
    """Check a credential against its kind, its host and the host's `others`; raises Invalid.

    A certificate and a key are a pair, and must fit, when their names are the same but for an ending `-cert`,
    `-crt`, `-certificate` or `-key` (`tls` and `tls-key`), or when the host names just one of each. Either may be
    set first: the second is checked.
    """
    case = _Case(name, data, host, site, tuple(other for other in others if other.name != name), now)
    if not len(data):
        raise case.invalid("the file is empty", "give the one that has the secret")
    if len(data) > MAX_FILE:
        raise case.invalid(f"has {len(data)} bytes, more than {MAX_FILE}", "put large files into the base image")
    return _CHECKS[kind](case)


def holds_key(data: Secret) -> bool:
    """Whether a private key is in it, whatever else is."""
    return _KEY_MARK in data.reveal()


def _check_keytab(case: _Case) -> Checked:
    if case.site.realm is None:
        raise case.invalid("the site has no Kerberos realm", "set site.realm and run 'provision apply'")
    try:
        entries = keytab.parse(case.data)
    except Invalid as error:
        raise case.invalid(error.fact, error.remedy) from None
    for entry in entries:
        if entry.realm != case.site.realm:
            raise case.invalid(f"holds a key for realm {entry.realm!r}; the site's is {case.site.realm}")
        first, *rest = entry.components or ("",)
        service = len(rest) == 1 and bool(first) and rest[0].lower() == case.fqdn
        machine = not rest and first.lower() == f"{case.host.name}$"
        if not (service or machine):
            fact = f"holds a key for {entry.principal!r}, which is not {case.host.name}"
            raise case.invalid(fact, f"use a principal such as host/{case.fqdn}@{case.site.realm}")
    return Checked()


def _check_certificate(case: _Case) -> Checked:
    certificate = _certificate(case)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if case.now >= end:
        raise case.invalid(f"the certificate expired at {end:%Y-%m-%d %H:%M} UTC", "renew it")
    if case.now < start:
        raise case.invalid(f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC", "check the clocks")
    names = _names(case, certificate)
    own = case.host.addresses & _addresses(certificate)
    if not own and not any(_matches(name, case.fqdn) for name in names):
        shown = ", ".join(repr(name) for name in names[:3]) or "no host name"
        raise case.invalid(f"the certificate is for {shown}, not for {case.fqdn}", "request one for the host's name")
    public = _public_key(case, certificate)
    if holds_key(case.data) and _spki(_private_key(case, case.data).public_key()) != _spki(public):
        raise case.invalid("the certificate does not fit the key in the same file")
    for other in _partners(case, CredentialKind.KEY):
        if _spki(_private_key(case, other.secret).public_key()) != _spki(public):
            raise case.invalid(f"the certificate does not fit the key '{other.name}'", "set the key that belongs to it")
    return Checked(end)


def _check_key(case: _Case) -> Checked:
    public = _spki(_private_key(case, case.data).public_key())
    if _CERTIFICATE_MARK in case.data.reveal() and _spki(_public_key(case, _certificate(case))) != public:
        raise case.invalid("the key does not fit the certificate in the same file")
    for other in _partners(case, CredentialKind.CERTIFICATE):
        partner = _Case(other.name, other.secret, case.host, case.site, (), case.now)
        if _spki(_public_key(partner, _certificate(partner))) != public:
            remedy = f"set the key that belongs to it, or remove '{other.name}' first"
            raise case.invalid(f"the key does not fit the certificate '{other.name}'", remedy)
    return Checked()


def _check_token(case: _Case) -> Checked:
    content = case.data.reveal()
    if len(content) > MAX_TOKEN:
        raise case.invalid(f"the token has {len(content)} bytes, more than {MAX_TOKEN}")
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not line.strip():
        raise case.invalid("the token is empty", "give one line")
    if any(byte in line for byte in b"\r\n\0"):
        raise case.invalid("the token has more than one line, or a zero byte", "give one line")
    return Checked()


def _check_file(case: _Case) -> Checked:
    return Checked()


_CHECKS: dict[CredentialKind, Callable[[_Case], Checked]] = {
    CredentialKind.KEYTAB: _check_keytab,
    CredentialKind.CERTIFICATE: _check_certificate,
    CredentialKind.KEY: _check_key,
    CredentialKind.TOKEN: _check_token,
    CredentialKind.FILE: _check_file,
}


def _certificate(case: _Case) -> x509.Certificate:
    """The host's own certificate: the first one of a chain."""
    try:
        return x509.load_pem_x509_certificates(case.data.reveal())[0]
    except (ValueError, IndexError):
        raise case.invalid("is not a PEM certificate", "give PEM ('-----BEGIN CERTIFICATE-----')") from None


def _names(case: _Case, certificate: x509.Certificate) -> list[str]:
    """The DNS names it is for; the common name counts only without a subjectAltName (RFC 9525 section 2)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [name.value for name in names if isinstance(name.value, str)]
    except ValueError:
        raise case.invalid("the certificate has a broken extension", "request it again") from None


def _addresses(certificate: x509.Certificate) -> set[IPv4Address | IPv6Address]:
    """The addresses it is for: those of the subjectAltName only (RFC 9525 section 6.4); prefixes are none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    given = found.get_values_for_type(x509.IPAddress)
    return {address for address in given if isinstance(address, IPv4Address | IPv6Address)}


def _matches(name: str, fqdn: str) -> bool:
    """Whether a certificate's name covers the host; `*` stands for its whole first label (RFC 9525 section 6.3)."""
    name = name.lower().removesuffix(".")
    return name == fqdn or (name.startswith("*.") and name[2:] == fqdn.partition(".")[2])


def _private_key(case: _Case, data: Secret) -> PrivateKeyTypes:
    remedy = "give an unencrypted PEM key ('openssl pkey -in KEY')"
    try:
        return load_pem_private_key(_key_part(data.reveal()), password=None)
    except TypeError:
        raise case.invalid("the private key is encrypted with a passphrase", remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        raise case.invalid("is not a PEM private key that can be read", remedy) from None


def _key_part(content: bytes) -> bytes:
    """The private key of a file that may hold certificates too."""
    mark = content.find(_KEY_MARK)
    return content if mark < 0 else content[max(0, content.rfind(b"-----BEGIN ", 0, mark)) :]


def _public_key(case: _Case, certificate: x509.Certificate) -> PublicKeyTypes:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise case.invalid("the certificate has a public key of an unknown kind") from None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _partners(case: _Case, kind: CredentialKind) -> list[Held]:
    """The host's credentials of `kind` that have to fit this one."""
    candidates = [other for other in case.others if other.kind is kind]
    by_name = [other for other in candidates if _stem(other.name) == _stem(case.name)]
    if by_name:
        return by_name
    declared = [case.site.credentials[name].kind for name in case.host.credentials if name in case.site.credentials]
    only = declared.count(CredentialKind.CERTIFICATE) == declared.count(CredentialKind.KEY) == 1
    return [other for other in candidates if only and {case.name, other.name} <= set(case.host.credentials)]


def _stem(name: str) -> str:
    for suffix in _PAIR_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


@dataclass(frozen=True, order=True)
class BulkItem:
    """One file of a directory to load: the host and the credential that it is for."""

    host: str
    name: str
    path: Path


class Misplaced(Problems):
    """What of a directory cannot be loaded; `items` is the rest of it."""

    def __init__(self, problems: Iterable[Problem], items: list[BulkItem]) -> None:
        super().__init__(problems, "credentials")
        self.items = items


def bulk(directory: Path, inventory: Inventory) -> list[BulkItem]:
    """The credentials in a directory laid out as `<directory>/<host>/<credential name>`, sorted.

    Raises Misplaced naming every file that has no place in the inventory; nothing is read.
    """
    hosts = {host.name: host for host in inventory.hosts}
    items: list[BulkItem] = []
    problems: list[Problem] = []
    for entry in _listing(directory, problems):
        if entry.name not in hosts:
            problems.append(Problem(str(entry), 0, "", "no host of this name is in the inventory", "rename or move it"))
            continue
        if entry.is_symlink() or not entry.is_dir():
            problems.append(Problem(str(entry), 0, "", "is not a directory", "put files into HOST/CREDENTIAL"))
            continue
        for file in _listing(entry, problems):
            fact = _misfit(file, hosts[entry.name], inventory.site)
            if fact:
                problems.append(Problem(str(file), 0, "", fact, "correct it, or the inventory"))
                continue
            items.append(BulkItem(entry.name, file.name, file))
    if not items and not problems:
        problems.append(Problem(str(directory), 0, "", "holds no credential", "put files into HOST/CREDENTIAL"))
    if problems:
        raise Misplaced(problems, sorted(items))
    return sorted(items)


def _listing(directory: Path, problems: list[Problem]) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        problems.append(Problem(str(directory), 0, "", f"cannot be read ({error.strerror})", "check path and mode"))
        return []


def _misfit(file: Path, host: Host, site: Site) -> str:
    """Why a file is no credential of the host; "" when it is one."""
    if file.name not in site.credentials:
        return "the site declares no credential of this name"
    if file.name not in host.credentials:
        return f"{host.name} does not name this credential"
    try:
        status = file.lstat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size > MAX_FILE:
        return f"has {status.st_size} bytes, more than {MAX_FILE}"
    return "" if status.st_size else "is empty"
