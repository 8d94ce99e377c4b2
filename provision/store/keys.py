"""The master key: 32 random bytes that seal the store, chain the audit log and derive the phone-home keys.

It is kept outside the database, as hex in `<state>/key` (0600) or as the systemd credential `provision-key`
(systemd.exec(5), LoadCredential=), and is never replaced by this program.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import stat
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from provision.below import sync_directory
from provision.errors import Conflict, Unavailable
from provision.secret import Secret
from provision.writing import create

SIZE = 32
DATABASE = "provision.db"
_FILE = "key"
_CREDENTIAL = "provision-key"
_RESTORE = "restore the key from the backup that belongs to this state directory"


class Purpose(StrEnum):
    """What a sub-key is for; each gets a key of its own, so that no use can answer for another."""

    SEALING = "sealing"
    AUDIT = "audit"
    PHONE_HOME = "phone-home"
    CHECK = "check"
    STORE = "store"
    LINKS = "links"
    TOKENS = "tokens"
    BMCS = "bmcs"
    EXPOSURES = "exposures"
    TPMS = "tpms"
    SITE_KEYS = "site-keys"


class MasterKey:
    """The key itself, and the sub-keys derived from it (HKDF-SHA256, RFC 5869)."""

    def __init__(self, value: Secret) -> None:
        if len(value) != SIZE:
            raise Unavailable("master key", f"has {len(value)} bytes instead of {SIZE}", _RESTORE)
        self._value = value
        self._subkeys = {purpose: self._derive(purpose) for purpose in Purpose}

    def subkey(self, purpose: Purpose) -> Secret:
        """32 bytes for one purpose."""
        return self._subkeys[purpose]

    def _derive(self, purpose: Purpose) -> Secret:
        hkdf = HKDF(algorithm=SHA256(), length=SIZE, salt=None, info=f"provision {purpose}".encode())
        return Secret(hkdf.derive(self._value.reveal()))


def create_key(state: Path) -> MasterKey:
    """Make `<state>/key` and return it; it is on disk when this returns.

    Raises Conflict when a key, or a database that another key has sealed, is there already; Unavailable when the
    directory cannot be written.
    """
    path = state / _FILE
    if (state / DATABASE).exists():
        raise Conflict(str(path), "the database beside it was sealed with another key", _RESTORE)
    value = secrets.token_bytes(SIZE)
    try:
        create(path, value.hex().encode() + b"\n")
    except FileExistsError:
        raise Conflict(str(path), "there is a key already", "keep it: everything stored depends on it") from None
    except OSError as error:
        raise Unavailable(str(path), f"cannot be created ({error.strerror})", "look at the state directory") from None
    try:
        sync_directory(state)
    except OSError as error:
        # A key that may be gone after a crash must not be used.
        path.unlink(missing_ok=True)
        raise Unavailable(str(path), f"cannot be written ({error.strerror})", "look at the state directory") from None
    return MasterKey(Secret(value))


def load_key(state: Path, environ: Mapping[str, str] = os.environ) -> MasterKey:
    """The key of a state directory: systemd's credential when there is one, else `<state>/key`.

    Raises Unavailable when it is missing, malformed, or readable or owned by someone else. Nothing is changed.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory and (Path(directory) / _CREDENTIAL).exists():
        # systemd gives the service access by an ACL, whose mask shows as the group's bits, and may keep root as owner.
        return _read(Path(directory) / _CREDENTIAL, forbidden=0o037, owners={0, os.geteuid()})
    path = state / _FILE
    if not path.exists():
        if (state / DATABASE).exists():
            raise Unavailable(str(path), "the master key is missing, and the database is sealed with it", _RESTORE)
        raise Unavailable(str(path), "there is no master key yet", "run 'provision init'")
    return _read(path, forbidden=0o077, owners={os.geteuid()})


def _read(path: Path, forbidden: int, owners: set[int]) -> MasterKey:
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            content = file.read(4 * SIZE)
    except PermissionError as error:
        fact = f"the master key cannot be read ({error.strerror})"
        raise Unavailable(str(path), fact, _by_owner(path)) from None
    except OSError as error:
        raise Unavailable(str(path), f"the master key cannot be read ({error.strerror})", _RESTORE) from None
    if not stat.S_ISREG(status.st_mode):
        raise Unavailable(str(path), "the master key is not a regular file", _RESTORE)
    if status.st_uid not in owners:
        raise Unavailable(str(path), f"the master key belongs to user id {status.st_uid}", _by_owner(path))
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        raise Unavailable(str(path), f"others may read the master key (mode {mode:04o})", f"chmod 600 {path}")
    if not re.fullmatch(rb"[0-9a-fA-F]{%d}\n?" % (2 * SIZE), content):
        raise Unavailable(str(path), f"the master key is not {SIZE} bytes in hex on one line", _RESTORE)
    return MasterKey(Secret(bytes.fromhex(content.decode())))


def _by_owner(path: Path) -> str:
    """What to do about a key of somebody else. To give it to the caller would take it from the service."""
    state = path.parent
    try:
        owner = state.stat().st_uid
        if path.lstat().st_uid != owner:
            return f"let root run 'chown --reference={state} {path}'"
        name = pwd.getpwuid(owner).pw_name
    except (OSError, KeyError):
        return f"be the owner of {state}"
    return f"run it as its owner; root does so by 'runuser -u {name} -- provision ...'"


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
