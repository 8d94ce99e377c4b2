"""Names and URLs that settings may have: what a server is called, and who receives its events."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def host_name(value: str) -> str:
    """A host name (RFC 1123 section 2.1) in lower case, without a final dot; raises ValueError."""
    name = value.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("is not a valid host name; write it without a port")
    return name


def served_name(value: str) -> str:
    """A name as a request's Host is compared with it: an address as Python writes it, or a host name; raises
    ValueError."""
    try:
        return str(ip_address(value))
    except ValueError:
        return host_name(value)


def is_address(name: str) -> bool:
    """Whether it is an IPv4 or IPv6 address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_receiver(url: str) -> bool:
    """Whether events may go there: by https, or by http to this machine itself."""
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment or not url.isascii() or not port_is_right:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
