"""The servers that this user has logged in to: where each is, the CA that is pinned for it, and the token if any.

All of it stands in one file, which nobody else can read or write: who could, would be the operator.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provision import settings
from provision.errors import Denied, Invalid
from provision.model import Domain
from provision.secret import Secret
from provision.writing import unwritable, write

PORT = 8443
"""Where a server listens unless its settings say otherwise."""
FILE = "servers.json"
_MOST = 1 << 20
_DOMAIN = re.compile(get_args(Domain)[1].pattern)


@dataclass(frozen=True)
class Address:
    """Where a server is. `host` is a name or an IP address, as a certificate has it."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The server's URL, which always names the port."""
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True)
class Login:
    """A server, what it must prove (the CA as PEM; None: any that the system trusts), and who asks: by a token, or by a
    Kerberos ticket without one."""

    address: Address
    ca: str | None
    token: Secret | None


def parse(text: str) -> Address:
    """The address in https://HOST[:PORT]; raises Invalid for anything else. A password in it is not repeated."""
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _no_url() from None
    bare = text.isprintable() and parts.scheme == "https" and parts.username is None and parts.path in ("", "/")
    if not bare or parts.query or parts.fragment or port == 0 or not _is_host(host):
        raise _no_url()
    return Address(host, PORT if port is None else port)


def _no_url() -> Invalid:
    return Invalid("--server", "is not a valid server URL", "write it as https://HOST or https://HOST:PORT")


def _is_host(text: str) -> bool:
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return bool(_DOMAIN.fullmatch(text)) and len(text) <= 253


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ca: str | None
    token: str | None = Field(repr=False, min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: Literal[1] = 1
    servers: dict[str, _Row] = {}


def load() -> dict[str, Login]:
    """Every login by the server's URL; raises Denied when others could read or change the file, Invalid for garbage."""
    return _read(settings.user_directory() / FILE)


def find(address: Address) -> Login:
    """The login of a server; raises what `load` does, and Denied when there is none."""
    login = load().get(address.url)
    if login is None:
        raise Denied(address.url, "you are not logged in to it", f"run 'provision --server {address.url} login'")
    return login


def save(login: Login) -> None:
    """Remember a login, in the place of an earlier one of the same server; raises what `load` does, and Unavailable."""
    with _changing() as logins:
        logins[login.address.url] = login


def forget(address: Address) -> Login | None:
    """Forget the login of a server, and return it if there was one; raises as `save` does."""
    with _changing() as logins:
        return logins.pop(address.url, None)


@contextmanager
def _changing() -> Iterator[dict[str, Login]]:
    """All logins, to be changed; they are written when the block ends without an error. One process at a time."""
    directory = settings.user_directory()
    path = directory / FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            logins = _read(path)
            before = dict(logins)
            yield logins
            if logins != before:
                write(path, _written(logins))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(path, error) from None


def _written(logins: Mapping[str, Login]) -> bytes:
    rows = {url: _Row(ca=login.ca, token=_revealed(login.token)) for url, login in logins.items()}
    return _File(servers=rows).model_dump_json(indent=2).encode() + b"\n"


def _revealed(token: Secret | None) -> str | None:
    return token.reveal().decode("ascii") if token is not None else None


def _read(path: Path) -> dict[str, Login]:
    try:
        _require_private(path.parent, path.parent.stat(), 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Denied(str(path), f"cannot be read ({error.strerror})", "check its owner and mode") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _garbage(path)
        _require_private(path, status, 0o600)
        content = file.read(_MOST + 1)
    try:
        rows = _File.model_validate_json(content).servers
        logins = [Login(parse(url), row.ca, _secret(row.token)) for url, row in rows.items()]
    except (ValidationError, Invalid, UnicodeEncodeError):
        raise _garbage(path) from None
    return {login.address.url: login for login in logins}


def _secret(token: str | None) -> Secret | None:
    return Secret(token.encode("ascii")) if token is not None else None


def _garbage(path: Path) -> Invalid:
    return Invalid(str(path), "is not a list of logins that this release knows", "delete it, and log in again")


def _require_private(path: Path, status: os.stat_result, mode: int) -> None:
    if status.st_uid != os.geteuid():
        fact = f"belongs to the user {status.st_uid}, and you are {os.geteuid()}"
        raise Denied(str(path), fact, "use your own $XDG_CONFIG_HOME, or give it to yourself")
    if found := stat.S_IMODE(status.st_mode) & 0o077:
        fact = f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
        rest = "; have the tokens in it revoked if somebody else may have read them" if found & 0o044 else ""
        raise Denied(str(path), fact, f"run 'chmod {mode:o} {path}'{rest}")
