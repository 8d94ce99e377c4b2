"""What can be known of a credential when it is set: does it fit its host? Errors never show content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from provision import keytab, pem
from provision.errors import Invalid
from provision.host import Host
from provision.secret import Secret
from provision.site import CredentialKind, CredentialSpec, Site

MAX_FILE = 1 << 20
MAX_TOKEN = 4096
_PAIR_SUFFIXES = ("-certificate", "-cert", "-crt", "-key")
_SSH = "/etc/ssh/"
_T = TypeVar("_T")


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
class Validity:
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
    path: str

    @property
    def fqdn(self) -> str:
        return f"{self.host.name}.{self.site.domain}"

    @property
    def spec(self) -> CredentialSpec:
        """What the site says of it."""
        return self.site.credentials[self.name]

    def read(self, reader: Callable[[bytes], _T]) -> _T:
        """What `reader` makes of the content; what it objects to is said of this credential."""
        try:
            return reader(self.data.reveal())
        except Invalid as error:
            raise self.invalid(error.fact, error.remedy) from None

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
    path: str = "",
) -> Validity:
    """Check a credential against its kind, its host and the host's `others`; raises Invalid.

    `path` is where it will stand, when that is not where the site says: a key below /etc/ssh is read by OpenSSH, any
    other by OpenSSL or GnuTLS.

    A certificate and a key are a pair, and must fit, when their names are the same but for an ending `-cert`,
    `-crt`, `-certificate` or `-key` (`tls` and `tls-key`), or when the host names just one of each. Either may be
    set first: the second is checked.
    """
    case = _Case(name, data, host, site, tuple(other for other in others if other.name != name), now, path)
    if not len(data):
        raise case.invalid("the file is empty", "give the one that has the secret")
    if len(data) > MAX_FILE:
        raise case.invalid(f"has {len(data)} bytes, more than {MAX_FILE}", "put large files into the base image")
    return _CHECKS[kind](case)


def holds_key(data: Secret) -> bool:
    """Whether a private key is in it, whatever else is."""
    return pem.KEY_MARK in data.reveal()


def _check_keytab(case: _Case) -> Validity:
    if case.site.realm is None:
        raise case.invalid("the site has no Kerberos realm", "set site.realm and run 'provision apply'")
    entries = case.read(lambda content: keytab.parse(Secret(content)))
    for entry in entries:
        if entry.realm not in (case.site.realm, *case.spec.realms):
            raise case.invalid(*_other_realm(entry.realm, case.site.realm))
    if other := keytab.stranger(entries, case.host.name, case.site.domain, case.spec.names):
        remedy = (
            f"use a principal such as host/{case.fqdn}@{case.site.realm}; 'names' of the credential has shared ones"
        )
        raise case.invalid(f"holds a key for {other.principal!r}, which is not {case.host.name}", remedy)
    return Validity()


def _other_realm(realm: str, own: str) -> tuple[str, str]:
    fact = f"holds a key for realm {realm!r}; the site's is {own}"
    if realm.lower() == own.lower():
        return fact, "realms differ by case: correct site.realm, or export the keytab again"
    return fact, f"export a keytab of {own}, or list the realm in 'realms' of the credential"


def _check_certificate(case: _Case) -> Validity:
    case.read(pem.require_tls_certificates)
    chain = case.read(pem.certificates)
    certificate = chain[0]
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if case.now >= end:
        raise case.invalid(f"the certificate expired at {end:%Y-%m-%d %H:%M} UTC", "renew it")
    if case.now < start:
        raise case.invalid(f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC", "check the clocks")
    _require_own(case, chain)
    if holds_key(case.data) and case.read(_key_spki) != case.read(_certificate_spki):
        raise case.invalid("the certificate does not match the key in the same file")
    for other in _partners(case, CredentialKind.KEY):
        if replace(case, name=other.name, data=other.secret).read(_key_spki) != case.read(_certificate_spki):
            raise case.invalid(
                f"the certificate does not match the key '{other.name}'", "set the key that belongs to it"
            )
    return Validity(end)


def _require_own(case: _Case, chain: Sequence[x509.Certificate]) -> None:
    """Raise Invalid when the first certificate of a file is for none of the host's names and addresses."""
    if _is_own(case, chain[0]):
        return
    if any(_is_own(case, other) for other in chain[1:]):
        fact = "the host's own certificate is not the first one in the file"
        raise case.invalid(fact, "put it first, and those of the CAs that signed it after it")
    names, addresses = _names(case, chain[0])
    shown = ", ".join([*map(repr, names), *addresses][:3]) or "no host name and no address"
    raise case.invalid(f"the certificate is for {shown}, not for {case.fqdn}", "request one for the host's name")


def _is_own(case: _Case, certificate: x509.Certificate) -> bool:
    names, addresses = _names(case, certificate)
    own = (case.fqdn, *case.spec.names)
    if any(_matches(name, wanted) for name in names for wanted in own):
        return True
    # In another scope its addresses may be another host's, who is named in the site's domain then.
    said = {name.lower().removesuffix(".") for name in (*names, *_common_names(certificate))} - {case.fqdn}
    others = any(name.endswith(f".{case.site.domain}") for name in said)
    return not others and not _addresses(case.host).isdisjoint(addresses)


def _check_key(case: _Case) -> Validity:
    if _is_ssh(case.path or case.spec.path):
        case.read(pem.require_ssh_key)
        return Validity()
    case.read(pem.require_tls_key)
    public = case.read(_key_spki)
    if pem.CERTIFICATE_MARK in case.data.reveal() and case.read(_certificate_spki) != public:
        raise case.invalid("the key does not match the certificate in the same file")
    for other in _partners(case, CredentialKind.CERTIFICATE):
        if replace(case, name=other.name, data=other.secret).read(_certificate_spki) != public:
            remedy = f"set the key that belongs to it, or remove '{other.name}' first"
            raise case.invalid(f"the key does not match the certificate '{other.name}'", remedy)
    return Validity()


def _check_token(case: _Case) -> Validity:
    content = case.data.reveal()
    if len(content) > MAX_TOKEN:
        raise case.invalid(f"the token has {len(content)} bytes, more than {MAX_TOKEN}")
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    if not line.strip():
        raise case.invalid("the token is empty", "give one line")
    if any(byte in line for byte in b"\r\n\0"):
        raise case.invalid("the token has more than one line, or a zero byte", "give one line")
    return Validity()


def _check_file(case: _Case) -> Validity:
    return Validity()


_CHECKS: dict[CredentialKind, Callable[[_Case], Validity]] = {
    CredentialKind.KEYTAB: _check_keytab,
    CredentialKind.CERTIFICATE: _check_certificate,
    CredentialKind.KEY: _check_key,
    CredentialKind.TOKEN: _check_token,
    CredentialKind.FILE: _check_file,
}


def _names(case: _Case, certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """The DNS names, and the addresses, it is for; the common name counts only without a subjectAltName, and as a DNS
    name (RFC 9525 section 2)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return found.get_values_for_type(x509.DNSName), [str(a) for a in found.get_values_for_type(x509.IPAddress)]
    except x509.ExtensionNotFound:
        return _common_names(certificate), []
    except ValueError:
        raise case.invalid("the certificate has a broken extension", "request it again") from None


def _common_names(certificate: x509.Certificate) -> list[str]:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [name.value for name in names if isinstance(name.value, str)]


def _matches(name: str, fqdn: str) -> bool:
    """Whether a certificate's name covers the host's; `*` stands for its whole first label (RFC 9525 section 6.3)."""
    name = name.lower().removesuffix(".")
    return name == fqdn or (name.startswith("*.") and name[2:] == fqdn.partition(".")[2])


def _addresses(host: Host) -> set[str]:
    """The addresses that the inventory gives the host."""
    given = ((i.ipv4, i.ipv6, i.reservation) for i in host.interfaces.values())
    return {str(address) for three in given for address in three if address is not None}


def _certificate_spki(content: bytes) -> bytes:
    return _spki(pem.public_key(pem.certificates(content)[0]))


def _key_spki(content: bytes) -> bytes:
    return _spki(pem.private_key(content).public_key())


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _partners(case: _Case, kind: CredentialKind) -> list[Held]:
    """The host's credentials of `kind` that have to fit this one."""
    candidates = [o for o in case.others if o.kind is kind and not _is_ssh(_place(case.site, o.name))]
    by_name = [other for other in candidates if _stem(other.name) == _stem(case.name)]
    if by_name:
        return by_name
    named = [name for name in case.host.credentials if name in case.site.credentials]
    declared = [case.site.credentials[name].kind for name in named if not _is_ssh(_place(case.site, name))]
    only = declared.count(CredentialKind.CERTIFICATE) == declared.count(CredentialKind.KEY) == 1
    return [other for other in candidates if only and {case.name, other.name} <= set(case.host.credentials)]


def _is_ssh(path: str) -> bool:
    return path.startswith(_SSH)


def _place(site: Site, name: str) -> str:
    """Where a credential usually stands; "" for one that is declared no more."""
    return site.credentials[name].path if name in site.credentials else ""


def _stem(name: str) -> str:
    for suffix in _PAIR_SUFFIXES:
        name = name.removesuffix(suffix)
    return name
