"""The secret of a link, and the path that it stands in: short enough for a BMC's form, too long to be guessed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from provision.secret import Secret

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32, in lower case: no letter in it is taken for another letter or a digit."""

DIRECTORY = "/b/"
MOST_CHARACTERS = 60
"""What the form of every BMC takes of a URL."""

SUFFIXES = ("iso", "img", "qcow2", "zst")
"""How links end: an ISO's, and one for each format of a disk."""

_LENGTH, _LEAST = 26, 24  # 130 and 120 bits
SECRET = rf"[{ALPHABET}]{{{_LEAST},{_LENGTH}}}"
"""The pattern of a secret."""
_PATH = re.compile(rf"/b/({SECRET})\.({'|'.join(SUFFIXES)})")


def new(bases: Iterable[str] = ()) -> Secret:
    """A secret that nobody has seen, for URLs of servers that begin so. It is one or two characters shorter when a URL
    fits by that which would not otherwise, as that of the longest IPv4 addresses with a port."""
    over = (characters(base) - MOST_CHARACTERS for base in bases)
    less = max((one for one in over if 0 < one <= _LENGTH - _LEAST), default=0)
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(_LENGTH - less)).encode())


def path(secret: Secret, suffix: str) -> str:
    """The path of the link with that secret; `suffix` is one of SUFFIXES."""
    return f"{DIRECTORY}{secret.reveal().decode()}.{suffix}"


def https_url(host: str, port: int) -> str:
    """The URL, without a path, of a server by a host name or an address (RFC 3986 section 3.2.2)."""
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def characters(base: str) -> int:
    """How many characters the URL of a link has whose secret has the usual length; `base` is the URL of the server,
    without a path."""
    return len(f"{base}{DIRECTORY}") + _LENGTH + len(".iso")


def excess(base: str) -> int:
    """By how many characters the URL of a link is too long however short its secret is; 0 when it fits."""
    return max(0, characters(base) - (_LENGTH - _LEAST) - MOST_CHARACTERS)


def parse(text: str) -> tuple[Secret, str] | None:
    """Secret and suffix of a path; None when it is not a link's."""
    found = _PATH.fullmatch(text)
    return (Secret(found[1].encode()), found[2]) if found else None
