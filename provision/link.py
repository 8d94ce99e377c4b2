"""The secret of a link, and the path that it stands in: short enough for a BMC's form, too long to be guessed."""

from __future__ import annotations

import re
import secrets

from provision.secret import Secret

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32, in lower case: no letter in it is taken for another letter or a digit."""

DIRECTORY = "/b/"
MOST_CHARACTERS = 60
"""What the form of every BMC takes of a URL."""

SUFFIXES = ("iso", "img", "qcow2", "zst")
"""How links end: an ISO's, and one for each format of a disk."""

_LENGTH = 26  # 130 bits
_PATH = re.compile(rf"/b/([{ALPHABET}]{{{_LENGTH}}})\.({'|'.join(SUFFIXES)})")


def new() -> Secret:
    """A secret that nobody has seen."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(_LENGTH)).encode())


def path(secret: Secret, suffix: str) -> str:
    """The path of the link with that secret; `suffix` is one of SUFFIXES."""
    return f"{DIRECTORY}{secret.reveal().decode()}.{suffix}"


def https_url(host: str, port: int) -> str:
    """The URL, without a path, of a server by a host name or an address (RFC 3986 section 3.2.2)."""
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def characters(base: str) -> int:
    """How many characters the URL of a link has; `base` is the URL of the server, without a path."""
    return len(f"{base}{DIRECTORY}") + _LENGTH + len(".iso")


def parse(text: str) -> tuple[Secret, str] | None:
    """Secret and suffix of a path; None when it is not a link's."""
    found = _PATH.fullmatch(text)
    return (Secret(found[1].encode()), found[2]) if found else None
