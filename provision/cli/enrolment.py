"""What a login takes: a CA that somebody has compared, a token, and the server's word on whose it is."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import ssl
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision import token
from provision.api.tokens import WhoAmI
from provision.cli import chain, output, servers, trust
from provision.cli.client import over_tls
from provision.cli.servers import Address, Login
from provision.errors import Denied, Invalid, ProvisionError, Unavailable
from provision.secret import Secret

_DIGEST = re.compile(r"(?:sha256:)?((?:[0-9a-f]{2}:){31}[0-9a-f]{2}|[0-9a-f]{64})", re.IGNORECASE)
_COMPARE = "compare its fingerprint with the one that the server's admin gave you"


@dataclass(frozen=True)
class _Certificate:
    """A certificate that a server has shown."""

    der: bytes

    @property
    def fingerprint(self) -> str:
        """Its SHA-256, as OpenSSL writes it."""
        return hashlib.sha256(self.der).digest().hex(":").upper()

    @property
    def pem(self) -> str:
        """The certificate as a file."""
        return ssl.DER_cert_to_PEM_cert(self.der)

    def names(self) -> tuple[str, str]:
        """Whose it is, and who has signed it; raises ValueError when it is none."""
        from cryptography import x509

        try:
            parsed = x509.load_der_x509_certificate(self.der)
        except x509.InvalidVersion as error:
            raise ValueError(str(error)) from None
        return parsed.subject.rfc4514_string(), parsed.issuer.rfc4514_string()


@dataclass(frozen=True)
class Wanted:
    """Which CA to pin, as the command line says it: by its fingerprint, in a file, or none but the system's."""

    fingerprint: str | None = None
    ca: Path | None = None
    system: bool = False


def enter(address: Address, wanted: Wanted, token_file: Path | None, *, by_ticket: bool = False) -> WhoAmI:
    """Log in to a server, and remember it. Raises what is wrong with the server, its CA, and the token or ticket."""
    before = servers.load().get(address.url)  # first: what cannot be kept later is not asked for
    pinned = None if wanted.system else _pinned(address, wanted, before)
    trust.require(address, pinned)
    # Only now: nobody types a token for a server that is not the right one.
    found = Login(address, pinned, None if by_ticket else _token(token_file))
    with over_tls(address.url, trust.context_of(pinned), found.token) as client:
        who = client.call(WhoAmI, "GET", "/v1/principal")
    servers.save(found)
    return who


def _pinned(address: Address, wanted: Wanted, before: Login | None) -> str | None:
    """The CA to pin, as PEM; None when the user has chosen those that the system trusts, now or in the login before."""
    if wanted.ca is not None:
        return _certificates_of(wanted.ca)
    if wanted.fingerprint is not None:
        digest = _digest(wanted.fingerprint)
        for certificate in _shown(address):
            if certificate.fingerprint == digest:
                return certificate.pem
        fact = "it shows no certificate with that fingerprint"
        raise Denied(address.url, fact, "check the digits; or ask the server's admin for its CA file, and use --ca")
    return before.ca if before is not None else _chosen(address)


def _certificates_of(path: Path) -> str:
    from provision.pem import certificates

    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check path and mode") from None
    try:
        certificates(content)
        return content.decode("ascii")
    except (Invalid, UnicodeDecodeError):
        raise Invalid(str(path), "is not a PEM file of certificates", "have the server's admin export its CA") from None


def _digest(text: str) -> str:
    found = _DIGEST.fullmatch(text.strip())
    if found is None:
        raise Invalid("--fingerprint", "is not a valid SHA-256", "give its 64 hexadecimal digits")
    return bytes.fromhex(found[1].replace(":", "")).hex(":").upper()


def _shown(address: Address) -> list[_Certificate]:
    """The certificates that the server shows; raises Unavailable."""
    try:
        return [_Certificate(der) for der in chain.shown(address)]
    except (ssl.SSLError, ValueError):
        fact = "it does not show its certificates over TLS 1.2"
        raise Unavailable(address.url, fact, "check the port; or use --ca or --system-ca") from None
    except OSError as error:
        raise trust.unreachable(address.url, error) from None


def _chosen(address: Address) -> str | None:
    """What the user decides to trust of what the server shows; raises Denied when it is nothing."""
    shown = _shown(address)
    try:
        named = [(certificate, *certificate.names()) for certificate in shown]
    except ValueError:
        raise Unavailable(address.url, "what it shows is not a certificate", "check address and port") from None
    root = next((row for row in reversed(named) if row[1] == row[2]), None)
    known = _is_known(address)
    told = [f"the server at {address.url} shows a certificate of '{named[0][1]}'" if named else ""]
    if root is not None:
        told += [f"its CA is '{root[1]}', with the SHA-256 fingerprint", f"  {root[0].fingerprint}"]
    if known:
        told.append("this system trusts the CA of that certificate")
    if not sys.stdin.isatty():
        fact = f"its CA has the SHA-256 fingerprint {root[0].fingerprint}" if root else "it does not show its CA"
        raise Denied(address.url, fact, f"{_COMPARE}, and log in with --fingerprint; or use --ca or --system-ca")
    sys.stderr.write("".join(output.plain(line) + "\n" for line in told))
    answer = _answer(root is not None, known)
    if answer == "pin" and root is not None:
        return root[0].pem
    if answer == "system" and known:
        return None
    raise Denied(address.url, "you have not confirmed its CA", f"{_COMPARE}; or use --ca FILE")


def _is_known(address: Address) -> bool:
    """Whether the system's CAs vouch for the server."""
    with suppress(ProvisionError):
        trust.require(address, None)
        return True
    return False


def _answer(can_pin: bool, known: bool) -> str:
    choices = [*(["pin"] if can_pin else []), *(["system"] if known else []), "no"]
    what = {
        "pin": "'pin' if this is the fingerprint that the server's admin gave you",
        "system": "'system' to trust every CA that this system trusts",
        "no": "'no' to stop",
    }
    question = f"Type {', '.join(what[choice] for choice in choices)}"
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _token(file: Path | None) -> Secret:
    """The token, from a file that others cannot read, from standard input, or typed without an echo; raises Invalid."""
    if file is not None and str(file) != "-":
        data, source = _read(file), str(file)
    elif file is None and sys.stdin.isatty():
        data, source = getpass.getpass("Token: ").encode(), "token"
    else:
        data, source = sys.stdin.buffer.read(4096), "standard input"
    found = token.parse(data.strip())
    if found is None:
        raise Invalid(source, "is not a valid token", "give it alone, on one line, as it was shown when it was made")
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                fact = f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
                raise Denied(
                    str(path), fact, "run 'chmod 600' on it, and have the token revoked if others could read it"
                )
            return file.read(4096)
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "check path and mode") from None
