"""Every path that a booting machine may ask for: over HTTP, over TFTP, and in a tree that the operator serves.

One table says what there is; `parse` reads a path by it, and `path` makes one. A path over TFTP is relative. Over HTTP
it is the same below `/`, or below `/pxe/` where a loader looks for files beside itself. What is parsed is a claim: that
a MAC is the machine's own, and that a base image or a revision exists, is for others to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from provision.model import pxe_uuid

PXE = "/pxe/"
"""Where loaders find their files over HTTP (DHCP option 210, RFC 5071)."""
PXELINUX = "pxelinux.cfg/"
"""The directory of PXELINUX's configurations, beside the loader."""
GRUB = "grub/"
"""The directory of GRUB's configurations over TFTP: its `$prefix`."""
UP, ALIVE = "/up", "/alive"
"""Where a booted host says over HTTP that it is up, and that it stays so."""
ENROLL_BEGIN, ENROLL_LOG, ENROLL_PROVE = "/enroll/begin", "/enroll/log", "/enroll/prove"
"""Where a booted host shows its TPM over HTTP, gives its firmware's log in parts, and proves that it has that TPM."""

PROOF_BEGIN, PROOF_LOG, PROOF = "/proof/begin", "/proof/log", "/proof"
"""Where a host that has to prove each boot asks over HTTP for a nonce, gives its log in parts, and its quote."""

UPDATE, UPDATE_PART = "/update", "/update/part"
"""Where a host with two slots on its disk asks over HTTP what it is to run, and for that piece by piece."""


class Place(Enum):
    """Where a path is one: on this server's listeners, or in the operator's own tree."""

    HTTP = "http"
    TFTP = "tftp"
    TREE = "tree"


@dataclass(frozen=True)
class PxelinuxConfig:
    """PXELINUX's configuration for a NIC; `mac` has colons and lower case."""

    mac: str


@dataclass(frozen=True)
class PxelinuxByUuid:
    """PXELINUX's configuration for a machine, which asks for it first; `uuid` is as dmidecode shows it."""

    uuid: str


@dataclass(frozen=True)
class PxelinuxDefault:
    """PXELINUX's configuration for all that have none."""


@dataclass(frozen=True)
class GrubConfig:
    """GRUB's configuration."""


@dataclass(frozen=True)
class GrubByUuid:
    """By what GRUB tells the UUID of a machine that nobody knows."""

    uuid: str


@dataclass(frozen=True)
class GrubForMac:
    """GRUB's configuration for a NIC, in a tree that is not rendered for the machine that asks."""

    mac: str


@dataclass(frozen=True)
class Kernel:
    """The kernel of the base image with this id (64 hexadecimal digits)."""

    base: str


@dataclass(frozen=True)
class Initrd:
    """An initrd of a base image, counted from 0."""

    base: str
    number: int


@dataclass(frozen=True)
class SeedFile:
    """The seed of the machine that asks: of this revision, or of the present one (None)."""

    revision: str | None


@dataclass(frozen=True)
class BootIso:
    """The ISO of the machine that asks, for UEFI HTTP Boot."""


@dataclass(frozen=True)
class EnvelopeFile:
    """The envelope of the machine that asks: its secrets, such as only its own TPM opens."""


@dataclass(frozen=True)
class UnifiedKernel:
    """The signed unified kernel image of the machine that asks, for UEFI HTTP Boot."""


@dataclass(frozen=True)
class SignedSeed:
    """The seed without secrets of the machine that asks, signed for this request; `nonce` is 32 hexadecimal digits."""

    nonce: str


@dataclass(frozen=True)
class Loader:
    """A file of the boot loader set; `name` may be anything without a slash, and is only ever looked up in the set."""

    name: str


Request = (
    PxelinuxConfig
    | PxelinuxByUuid
    | PxelinuxDefault
    | GrubConfig
    | GrubByUuid
    | GrubForMac
    | Kernel
    | Initrd
    | SeedFile
    | BootIso
    | EnvelopeFile
    | UnifiedKernel
    | SignedSeed
    | Loader
)


@dataclass(frozen=True)
class _Kind:
    """How a value stands in a path: what it looks like there, and how it is read and written."""

    pattern: str
    read: Callable[[str], Any] = str.lower
    write: Callable[[Any], str] = str


_HEX = "[0-9a-fA-F]"
_UUID = f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
_ID = "[0-9a-f]{64}"
_KINDS = {
    "dashes": _Kind(
        f"{_HEX}{{2}}(?:-{_HEX}{{2}}){{5}}", lambda text: text.replace("-", ":").lower(), lambda m: m.replace(":", "-")
    ),
    "colons": _Kind(f"{_HEX}{{2}}(?::{_HEX}{{2}}){{5}}"),
    "smbios": _Kind(_UUID, pxe_uuid, pxe_uuid),
    "uuid": _Kind(_UUID),
    "id": _Kind(_ID),
    "nonce": _Kind("[0-9a-f]{32}"),
    "number": _Kind("[0-9]{1,2}", int),
    "revision": _Kind(
        f"{_ID}|current", lambda text: None if text == "current" else text, lambda revision: revision or "current"
    ),
    "name": _Kind("[^/]+", str),
}


class _Row:
    """One line of the table: a kind of request, and its path in every place that has it."""

    def __init__(
        self, kind: type[Request], relative: str, *, http: str = "", tftp: bool = False, tree: str = ""
    ) -> None:
        """`http` precedes the relative path over HTTP, where that has it; `tree` is the path in a tree."""
        self.kind = kind
        self.templates: dict[Place, str] = {}
        if http:
            self.templates[Place.HTTP] = http + relative
        if tftp:
            self.templates[Place.TFTP] = relative
        if tree:
            self.templates[Place.TREE] = tree
        self._parts = {place: _PARAMETER.split(template) for place, template in self.templates.items()}
        self._patterns = {place: re.compile(_pattern(parts)) for place, parts in self._parts.items()}

    def parse(self, place: Place, path: str) -> Request | None:
        """The request, when the path is one of these there."""
        pattern = self._patterns.get(place)
        found = pattern.fullmatch(path) if pattern else None
        if found is None:
            return None
        kinds = self._parts[place][2::3]
        return self.kind(*(_KINDS[kind].read(text) for kind, text in zip(kinds, found.groups(), strict=True)))

    def path(self, place: Place, request: Request) -> str:
        """The path of a request there."""
        first, *parts = self._parts[place]
        texts = [first]
        for field, kind, after in zip(*(iter(parts),) * 3, strict=True):
            texts += _KINDS[kind].write(getattr(request, field)), after
        return "".join(texts)


# {field:kind}, in the order of the request's fields.
_PARAMETER = re.compile(r"\{(\w+):(\w+)\}")


def _pattern(parts: list[str]) -> str:
    texts = [re.escape(part) for part in parts[::3]]
    texts[1:] = [f"({_KINDS[kind].pattern}){text}" for kind, text in zip(parts[2::3], texts[1:], strict=True)]
    return "".join(texts)


_TABLE = (
    _Row(PxelinuxConfig, PXELINUX + "01-{mac:dashes}", http=PXE, tftp=True, tree=PXELINUX + "01-{mac:dashes}"),
    _Row(PxelinuxByUuid, PXELINUX + "{uuid:smbios}", http=PXE, tftp=True),
    _Row(PxelinuxDefault, "", tree=PXELINUX + "default"),
    _Row(GrubConfig, GRUB + "grub.cfg", tftp=True, tree=GRUB + "grub.cfg"),
    _Row(GrubByUuid, GRUB + "uuid/{uuid:uuid}.cfg", tftp=True),
    _Row(GrubForMac, "", tree=GRUB + "host-{mac:colons}.cfg"),
    _Row(Kernel, "boot/{base:id}/kernel", http="/", tftp=True, tree="images/{base:id}/kernel"),
    _Row(
        Initrd,
        "boot/{base:id}/initrd/{number:number}",
        http="/",
        tftp=True,
        tree="images/{base:id}/initrd{number:number}",
    ),
    _Row(SeedFile, "boot/seed/{revision:revision}/seed.cpio", http="/", tftp=True),
    _Row(BootIso, "http-boot/boot.iso", http="/"),
    _Row(EnvelopeFile, "envelope", http="/"),
    _Row(UnifiedKernel, "http-boot/boot.efi", http="/"),
    _Row(SignedSeed, "boot/signed-seed/{nonce:nonce}", http="/"),
    _Row(Loader, "{name:name}", http=PXE, tftp=True, tree="{name:name}"),
)
_ROWS = {row.kind: row for row in _TABLE}


def parse(place: Place, path: str) -> Request | None:
    """What a path asks for, or None when it is not one of that place.

    Over HTTP it begins with a slash, and else it is relative; slashes are single, and nothing in it is percent-encoded.
    """
    for row in _TABLE:
        found = row.parse(place, path)
        if found is not None:
            return found
    return None


def path(place: Place, request: Request) -> str:
    """The path of a request in one place; raises KeyError when that place has none."""
    return _ROWS[type(request)].path(place, request)


def http(request: Request) -> str:
    """The path over HTTP, from its slash on. With the same path, GRUB asks for it over TFTP."""
    return path(Place.HTTP, request)


def route(kind: type[Request]) -> str:
    """The path of all requests of a kind over HTTP, its values as ``{name}``."""
    return _PARAMETER.sub(r"{\1}", _ROWS[kind].templates[Place.HTTP])


def kinds(place: Place) -> frozenset[type[Request]]:
    """The kinds of requests that a place has."""
    return frozenset(row.kind for row in _TABLE if place in row.templates)
