"""What a server must prove before it hears a token: a chain to the pinned CA, and the name that it was asked by."""

from __future__ import annotations

import socket
import ssl

from provision.cli.servers import Address
from provision.errors import Denied, Invalid, ProvisionError, Unavailable

SECONDS = 10.0
CHECK = "check address, port and network, and that the service runs there"
"""What to do about a server that does not answer."""
_NAME, _IP_ADDRESS = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
# It was only cut off. Python has no class for one case of that, since OpenSSL 3 gives an I/O error a reason of TLS's.
_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_NOT_YET, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


def context_of(ca: str | None) -> ssl.SSLContext:
    """TLS 1.2 and newer, with the name checked, by the certificates in `ca` (PEM) alone; by the system's without.

    A pinned certificate need not be a root. Nothing is read from the environment when one is. Raises Invalid.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9525 section 2
    if ca is None:
        context.load_default_certs()
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError, TypeError):
        raise Invalid("CA", "is not a PEM certificate", "give the file that the server's admin exported") from None
    return context


def require(address: Address, ca: str | None) -> None:
    """Raise why the server at `address` is not to be trusted by `ca`, if it is not."""
    try:
        with (
            socket.create_connection((address.host, address.port), SECONDS) as sock,
            context_of(ca).wrap_socket(sock, server_hostname=address.host),
        ):
            return
    except OSError as error:
        raise refusal(address.url, error) or unreachable(address.url, error) from None


def unreachable(url: str, error: OSError) -> Unavailable:
    """The error for a server that nobody can talk to."""
    return Unavailable(url, f"does not answer ({reason_of(error)})", CHECK)


def reason_of(error: BaseException) -> str:
    """Why a connection failed, as the system puts it; the kind of error when the system has no words for it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    return type(error).__name__


def refusal(url: str, error: BaseException) -> ProvisionError | None:
    """Why a server is refused, when a failed connection to it, with what it was caused by, says so."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, ssl.SSLError):
        found = found.__cause__ or found.__context__
    if found is None or isinstance(found, _CUT_OFF) or found.errno == ssl.SSL_ERROR_SYSCALL:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return _unverified(url, found)
    # Only errors of OpenSSL's own have a reason.
    fact = f"TLS 1.2 or newer fails there ({getattr(found, 'reason', None) or type(found).__name__})"
    return Unavailable(url, fact, "check the port, and what stands between")


def _unverified(url: str, error: ssl.SSLCertVerificationError) -> Denied:
    if error.verify_code in (_NAME, _IP_ADDRESS):
        fact, remedy = "its certificate is for other names", "use a name that is in it, or have this name added to it"
    elif error.verify_code in (_NOT_YET, _EXPIRED):
        when = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        fact, remedy = f"its certificate or its CA's {when}", "have it renewed, and check the clock here"
    else:
        fact = "its certificate was not issued by a CA that you trust for it"
        remedy = "log in with its CA by --ca if that was replaced; if not, somebody else answers in its place"
    return Denied(url, fact, remedy)
