"""The certificates of TPM makers' CAs that the operator has put into a directory: a self-issued one is believed, and
others only lead to one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from provision.errors import Invalid, Unavailable
from provision.settings import Settings

_MOST_FILES, _LARGEST = 256, 1 << 20
_NONE = "put the PEM or DER certificates of its makers' CAs there, or take [tpm] out of provision.toml"


@dataclass(frozen=True)
class Roots:
    """CAs that are believed, and those that may be between them and a TPM's certificate."""

    trusted: tuple[x509.Certificate, ...] = ()
    others: tuple[x509.Certificate, ...] = ()


def load(settings: Settings) -> Roots:
    """What the directory holds now; nothing when the settings name none. Raises Invalid and Unavailable."""
    if settings.tpm is None:
        return Roots()
    directory = settings.state / settings.tpm.roots
    try:
        files = sorted(path for path in directory.iterdir() if path.is_file())
        if len(files) > _MOST_FILES:
            raise Invalid(str(directory), f"has more than {_MOST_FILES} files", "join certificates to PEM files")
        found = [certificate for path in files for certificate in _certificates(path)]
    except OSError as error:
        raise Unavailable(str(directory), f"cannot be read ({error.strerror})", _NONE) from None
    trusted = tuple(one for one in found if one.issuer == one.subject)
    return Roots(trusted, tuple(one for one in found if one not in trusted))


def _certificates(path: Path) -> Iterator[x509.Certificate]:
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    try:
        if b"-----BEGIN" in content:
            yield from x509.load_pem_x509_certificates(content)
        else:
            yield x509.load_der_x509_certificate(content)
    except (ValueError, x509.InvalidVersion):
        raise Invalid(str(path), "is not a certificate in PEM or DER", "remove it from the directory") from None
