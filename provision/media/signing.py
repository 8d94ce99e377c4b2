"""Whether a boot chain is signed for Secure Boot: shim carries the key that GRUB and the kernel must be signed with."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pefile
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import NameOID

from provision import proc

_PKCS7 = 2
_CERTIFICATE_TABLE = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_SECURITY"]
_NOT_PE = (pefile.PEFormatError, IndexError, ValueError, struct.error)
_X509_LIST = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")


def describe_signing(shim: Path, grubs: list[Path], kernel: Path, scratch: Path) -> str:
    """One line: that shim, GRUB and kernel are signed for one another, or which of them is not.

    `grubs` are all GRUB images of the loader set; `scratch` is an existing directory for a temporary certificate.
    """
    try:
        certificates = vendor_certificates(shim)
    except _NOT_PE:
        certificates = []
    if not certificates:
        return "not for Secure Boot: shim carries no vendor certificate"
    names = ", ".join(_common_name(c) for c in certificates)
    unsigned = [
        label
        for label, file in [*((f"GRUB ({g.name})", g) for g in grubs), ("the kernel", kernel)]
        if not any(_verifies(file, certificate, scratch) for certificate in certificates)
    ]
    if unsigned:
        return f"not for Secure Boot: {', '.join(unsigned)} not signed for shim's certificate ({names})"
    return f"shim, GRUB and kernel are signed for one another ({names})"


def vendor_certificates(shim: Path) -> list[x509.Certificate]:
    """The certificates in shim's ``.vendor_cert`` section (shim's cert.S: two sizes, two offsets, then the lists).

    The authorised list is one DER certificate, or EFI signature lists (UEFI 2.10, section 32.4.1). Raises
    one of _NOT_PE when the file is not such a PE image.
    """
    section = _section(shim.read_bytes(), ".vendor_cert")
    size, _, start, _ = struct.unpack_from("<4I", section)
    table = section[start : start + size]
    if table[:1] == b"\x30":
        return [x509.load_der_x509_certificate(table)]
    found = []
    while len(table) >= 28:
        kind, list_size, header, item = table[:16], *struct.unpack_from("<3I", table, 16)
        if kind == _X509_LIST and item > 16:
            body = table[28 + header : list_size]
            found += [x509.load_der_x509_certificate(body[i + 16 : i + item]) for i in range(0, len(body), item)]
        if not 28 <= list_size <= len(table):
            break
        table = table[list_size:]
    return found


def _parsed(image: bytes) -> Any:
    """The headers of a PE image, no more. Raises PEFormatError."""
    return pefile.PE(data=image, fast_load=True)  # type: ignore[no-untyped-call]


def _section(image: bytes, wanted: str) -> bytes:
    """One section of a PE image. Names of more than 8 bytes are "/" and a place in the string table, which is behind
    the symbols (Microsoft's PE format, "section table"); pefile leaves them so."""
    pe = _parsed(image)
    strings = pe.FILE_HEADER.PointerToSymbolTable + 18 * pe.FILE_HEADER.NumberOfSymbols
    for section in pe.sections:
        name = section.Name.rstrip(b"\0").decode("latin-1")
        if name[:1] == "/" and name[1:].isdigit():
            start = strings + int(name[1:])
            name = image[start : image.index(b"\0", start)].decode("latin-1")
        if name == wanted:
            return image[section.PointerToRawData :][: section.SizeOfRawData]
    raise ValueError(f"no section {wanted}")


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return " ".join(str(names[0].value).split()) if names else "no name"


def _verifies(image: Path, certificate: x509.Certificate, scratch: Path) -> bool:
    """Whether the image carries a good signature by the certificate, or by one that it issued.

    sbverify proves the image's hash and its signature, but accepts any issuer when the signature brings its own
    (measured with 0.9.4 on shim itself), so who issued the signer's certificate is looked at here.
    """
    try:
        signers = _embedded(image.read_bytes())
    except _NOT_PE:
        return False
    if not any(signer == certificate or _issued(signer, certificate) for signer in signers):
        return False
    pem = scratch / "vendor.pem"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    try:
        # 1 is sbverify's answer for an image that is unsigned, or signed by someone else.
        done = proc.run(["sbverify", "--cert", pem, image], package="sbsigntool", ok=(0, 1))
    finally:
        pem.unlink()
    return done.returncode == 0


def _issued(signer: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        signer.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _embedded(image: bytes) -> list[x509.Certificate]:
    """The certificates in an image's signatures (PE format, "attribute certificate table")."""
    headers = _parsed(image).OPTIONAL_HEADER
    place = headers.DATA_DIRECTORY[_CERTIFICATE_TABLE]  # here alone the "virtual address" is a place in the file
    table, found = image[place.VirtualAddress :][: place.Size], []
    while len(table) >= 8:
        length, _, kind = struct.unpack_from("<IHH", table)
        if not 16 <= length <= len(table):
            break
        if kind == _PKCS7:
            found += load_der_pkcs7_certificates(_without_padding(table[8:length]))
        table = table[-(-length // 8) * 8 :]
    return found


def _without_padding(der: bytes) -> bytes:
    """The first DER value of `der` (X.690 section 8.1.3); signatures are padded to 8 bytes."""
    octets = der[1] & 0x7F if der[1] & 0x80 else 0
    length = int.from_bytes(der[2 : 2 + octets], "big") if octets else der[1]
    return der[: 2 + octets + length]
