"""How a BMC is reached: its address, who logs in, and by what its certificate is known."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from provision.errors import Invalid
from provision.secret import Secret

MOST_PASSWORD, MOST_CA = 256, 32 << 10
"""Bytes of a password, and of the certificates of a CA."""

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]")
_USER = re.compile(r"[!-9;-~]{1,64}")  # printable ASCII; a colon ends the name (RFC 7617 section 2)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Pin:
    """By what a BMC's certificate is known: `ca` (PEM) signed it, or it has this `fingerprint` (hex SHA-256 of its
    DER). With neither, a CA of the server's own system must have signed it."""

    ca: str = field(default="", repr=False)
    fingerprint: str = ""

    def __str__(self) -> str:
        if self.fingerprint:
            return f"sha256 {self.fingerprint}"
        return "its own CA" if self.ca else "the system's CAs"


@dataclass(frozen=True)
class Access:
    """A BMC at https://`host`:`port`. `system` is the Redfish id of the machine when the BMC has several."""

    host: str
    port: int
    user: str
    password: Secret
    pin: Pin
    system: str = ""

    @property
    def url(self) -> str:
        """The address, as it is shown."""
        return f"https://{self.host}" + (f":{self.port}" if self.port != 443 else "")


def parse(url: str, user: str, password: Secret, pin: Pin, system: str = "") -> Access:
    """The access that was asked for; raises Invalid, with nothing of the password."""
    host, port = _address(url)
    if not _USER.fullmatch(user):
        raise Invalid("user", "is not a valid user name of a BMC", "use up to 64 printable characters without ':'")
    if not 1 <= len(password) <= MOST_PASSWORD or any(byte < 0x20 or byte == 0x7F for byte in password.reveal()):
        fact = f"must have 1 to {MOST_PASSWORD} bytes on one line"
        raise Invalid("password", fact, "write the password alone into the file")
    if system and not _SYSTEM.fullmatch(system):
        raise Invalid("system", "is not a valid Redfish id", "see 'Members' at /redfish/v1/Systems of the BMC")
    return Access(host, port, user, password, _checked(pin), system)


def _address(url: str) -> tuple[str, int]:
    remedy = "write it as https://ADDRESS or https://ADDRESS:PORT"
    try:
        if not (url.isascii() and url.isprintable()):
            raise ValueError  # urlsplit leaves out line ends
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise Invalid("url", "is not a valid URL", remedy) from None
    plain = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
    if parts.scheme != "https":
        raise Invalid("url", "is not an https:// URL, and passwords never go to a BMC in clear", remedy)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in url or not _HOST.fullmatch(plain):
        raise Invalid("url", "has more than an address and a port", remedy)
    return plain, port


def normalize(fingerprint: str) -> str:
    """A fingerprint in any usual spelling ("AB:CD:…", "sha256:abcd…") as 64 hex digits; raises Invalid."""
    found = fingerprint.lower().removeprefix("sha256").lstrip(":=").replace(":", "").replace(" ", "")
    if not _FINGERPRINT.fullmatch(found):
        remedy = "give the 64 hex digits that 'openssl x509 -noout -fingerprint -sha256' prints"
        raise Invalid("fingerprint", "is not a SHA-256", remedy)
    return found


def _checked(pin: Pin) -> Pin:
    if pin.ca and pin.fingerprint:
        raise Invalid("bmc", "is known by a CA or by a fingerprint", "give one of them")
    if pin.fingerprint:
        return Pin(fingerprint=normalize(pin.fingerprint))
    if pin.ca:
        context(pin)
    return pin


def context(pin: Pin) -> ssl.SSLContext:
    """TLS 1.2 or newer to a BMC that is known by `pin`; raises Invalid when its CA is not one.

    For one that is known by its fingerprint nothing is verified here: `Connection` compares before it sends anything.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if pin.fingerprint:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    elif pin.ca:
        try:
            made.load_verify_locations(cadata=pin.ca)
        except (ssl.SSLError, ValueError):
            raise Invalid("ca", "is not a certificate in PEM", "give the CA's certificate") from None
    else:
        made.load_default_certs()
    return made
