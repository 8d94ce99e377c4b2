"""The directory `tls` below the state directory: the internal CA, and this server's certificates by it.

Every file is 0600. A certificate is written beside the present one, then its key in place of the present one, and last
it takes its place. From the second step on the new pair counts: `finish` does the last one for whoever was killed. A
server that reads one of both keeps what it has until they match.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from provision import pem
from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.tls import authority
from provision.tls.authority import Identity, Kind, Names
from provision.writing import unwritable, write

DIRECTORY = "tls"
_NEXT = ".next"
"""How a certificate's file ends for as long as that has not taken its place."""
_NONE = "run 'provision init --ca'"
_AWAY = "bring it back from where it is kept; without it, this CA makes no certificate"


@dataclass(frozen=True)
class Chain:
    """Where the files of one chain are, by their names in the directory."""

    root: str
    root_key: str
    certificate: str
    key: str


CHAINS = {
    Kind.OPERATORS: Chain("ca.pem", "ca.key", "server.pem", "server.key"),
    Kind.FIRMWARE: Chain("firmware-ca.pem", "firmware-ca.key", "firmware.pem", "firmware.key"),
}


def create(state: Path, names: Names, now: datetime) -> None:
    """Make both chains, or what is missing of them: whoever was killed while making them does it again.

    Raises Conflict when there is a CA already, Invalid without names and for those that a root which is there may not
    vouch for, NotFound when that has no key, and Unavailable.
    """
    directory = state / DIRECTORY
    finished = [directory / name for chain in CHAINS.values() for name in (chain.root, chain.certificate)]
    if all(path.exists() for path in finished):
        raise Conflict(
            str(finished[0]), "there is a CA already", "for new certificates by it, run 'provision ca renew'"
        )
    roots = {kind: _root_there(state, kind) or authority.make_root(kind, names, now) for kind in Kind}
    leaves = {kind: authority.issue(root, kind, names, now) for kind, root in roots.items()}
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for kind, root in roots.items():
            write(directory / CHAINS[kind].root_key, root.key_pem().reveal())
            _write_leaf(directory, kind, leaves[kind], root.certificate)
            write(directory / CHAINS[kind].root, root.pem())
    except OSError as error:
        raise unwritable(directory, error) from None


def _root_there(state: Path, kind: Kind) -> Identity | None:
    """The root of a CA of which not all is there. Its certificate stands behind the server's, too: a file that was
    lost is no reason for a new root, which no client would know."""
    chain, directory = CHAINS[kind], state / DIRECTORY
    if (directory / chain.root).exists():
        return _root(state, kind)
    with suppress(OSError, Invalid, ValueError):
        _, root = pem.certificates((directory / chain.certificate).read_bytes())
        key = (directory / chain.root_key).read_bytes()
        return authority.identity(root.public_bytes(Encoding.PEM), key, str(directory / chain.root))
    return None


def renew(state: Path, names: Names | None, now: datetime) -> Names:
    """New keys and certificates of the same roots, for `names`, or those of the present certificate; returns which.

    Raises NotFound without a CA, Invalid, Unavailable.
    """
    roots = {kind: _root(state, kind) for kind in Kind}
    chosen = names or authority.names_of(read(state, Kind.OPERATORS)[1])
    leaves = {kind: authority.issue(root, kind, chosen, now) for kind, root in roots.items()}
    try:
        for kind, leaf in leaves.items():
            _write_leaf(state / DIRECTORY, kind, leaf, roots[kind].certificate)
    except OSError as error:
        raise unwritable(state / DIRECTORY, error) from None
    return chosen


def finish(state: Path) -> None:
    """Put certificates in their place whose keys are there already: the process that renewed them was killed. Raises
    nothing: whoever reads the files says what is wrong with them."""
    directory = state / DIRECTORY
    for chain in CHAINS.values():
        made = directory / f"{chain.certificate}{_NEXT}"
        with suppress(OSError, Invalid):
            certificate = pem.certificates(made.read_bytes())[0]
            if certificate.public_key() == pem.private_key((directory / chain.key).read_bytes()).public_key():
                made.replace(directory / chain.certificate)


def read(state: Path, kind: Kind) -> tuple[x509.Certificate, x509.Certificate]:
    """The root's and this server's certificate of a chain; raises NotFound without a CA, Invalid, Unavailable."""
    chain = CHAINS[kind]
    root, leaf = (_certificate(state / DIRECTORY / name) for name in (chain.root, chain.certificate))
    return root, leaf


def _certificate(path: Path) -> x509.Certificate:
    try:
        return pem.certificates(_content(path))[0]
    except Invalid as error:
        raise Invalid(str(path), error.fact, "restore it from the backup") from None


def _root(state: Path, kind: Kind) -> Identity:
    chain, directory = CHAINS[kind], state / DIRECTORY
    certificate = _content(directory / chain.root)
    key = _content(directory / chain.root_key, _AWAY)
    return authority.identity(certificate, key, str(directory / chain.root))


def _content(path: Path, missing: str = _NONE) -> bytes:
    """A file of the CA; raises NotFound, with the way out that `missing` is, and Unavailable."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(str(path), "is not there", missing) from None
    except OSError as error:
        raise Unavailable(str(path), f"cannot be read ({error.strerror})", "run it as the file's owner") from None


def _write_leaf(directory: Path, kind: Kind, leaf: Identity, root: x509.Certificate) -> None:
    # With its root behind it, so that a client can show whom it is about to trust.
    content = leaf.pem() + Identity(root, leaf.key).pem()
    chain = CHAINS[kind]
    made = directory / f"{chain.certificate}{_NEXT}"
    write(made, content)
    write(directory / chain.key, leaf.key_pem().reveal())
    with suppress(FileNotFoundError):  # a service that starts now has put it in its place
        made.replace(directory / chain.certificate)
