"""The base of the domain's types and the value types that they share.

Every string that can reach a rendered file is held to a pattern here that has no white space, quote, variable,
comment or option character, so that no value can add a line or an option to any configuration.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

_Six = TypeVar("_Six", IPv6Address, IPv6Network)


class Model(BaseModel):
    """A frozen value; unknown keys are errors, and nothing is coerced silently from another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def canonical(self) -> bytes:
        """JSON without white space, fields in declared order, mappings in theirs (a host's first interface counts)."""
        return self.model_dump_json().encode()

    @cached_property
    def revision(self) -> str:
        """Hex SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @classmethod
    def from_canonical(cls, document: str, revision: str) -> Self:
        """The value that was written as `document`, with the revision that it had; raises ValueError for any other."""
        if hashlib.sha256(document.encode()).hexdigest() != revision:
            raise ValueError("is not the document of its revision")
        value = cls.model_validate_json(document)
        value.__dict__["revision"] = revision
        return value

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, unchecked; its revision, and whatever else is derived, is its own."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[derived]
        return copied


_HEX = "[0-9a-f]"
_MAC_SPELLINGS = re.compile(
    rf"{_HEX}{{2}}(?P<by_two>[:.-])({_HEX}{{2}}(?P=by_two)){{4}}{_HEX}{{2}}"
    rf"|{_HEX}{{4}}(?P<by_four>[:.-]){_HEX}{{4}}(?P=by_four){_HEX}{{4}}"
    rf"|{_HEX}{{6}}[:.-]?{_HEX}{{6}}"
)
"""Twelve digits in equal groups of two, four or six with one separator throughout, or without any."""


def normalize_mac(value: str) -> str:
    """A MAC-48 in any usual spelling (``:``, ``-``, ``.`` or none) as lower case with colons; raises ValueError.

    Separators in other places are refused: a digit may be missing on one side and doubled on the other.
    """
    if not _MAC_SPELLINGS.fullmatch(value.lower()):
        raise ValueError(f"is not a MAC address; {_meant_mac(value.lower())}")
    digits = re.sub(r"[:.-]", "", value).lower()
    if int(digits[1], 16) & 1 or digits == "0" * 12:
        raise ValueError("is not the address of one interface (multicast, broadcast or all zeros)")
    return _colons(digits)


def _colons(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def nic_address(value: str) -> str:
    """The link-layer address of a NIC: a MAC-48, or the 20 bytes of an InfiniBand port (RFC 4391 section 9.1.1), as
    lower case with colons; raises ValueError."""
    if re.fullmatch(r"([0-9a-fA-F]{2}[:-]){19}[0-9a-fA-F]{2}", value):
        return value.lower().replace("-", ":")
    if re.fullmatch(r"([0-9a-fA-F]{2}[:-]){7,8}[0-9a-fA-F]{2}", value):
        # The queue pair's number, which stands before it, is in no GUID; and hosts are not found by a part.
        raise ValueError("is only a part of an InfiniBand port's address; give the 20 bytes that 'ip link' shows")
    return normalize_mac(value)


def is_infiniband(address: str) -> bool:
    """Whether the address of a NIC is an InfiniBand port's."""
    return len(address) == 20 * 3 - 1


def _meant_mac(value: str) -> str:
    groups = re.split(r"[:.\- ]+", value.strip())
    if len(groups) == 6 and all(re.fullmatch(rf"{_HEX}{{1,2}}", group) for group in groups):
        return f"did you mean {':'.join(group.zfill(2) for group in groups)}?"
    digits = "".join(groups).removeprefix("0x")
    if re.fullmatch(rf"{_HEX}{{12}}", digits):
        return f"did you mean {_colons(digits)}?"
    return "write it as 52:54:00:12:34:56"


def pxe_uuid(value: str) -> str:
    """A UUID as PXELINUX writes it, in the usual form, as dmidecode shows it; raises ValueError for what is none.

    PXELINUX writes the 16 bytes of the SMBIOS table (DSP0134 section 7.2.1: three little-endian numbers first) in the
    order in which they stand there. GRUB puts them in order.
    """
    return str(UUID(bytes_le=UUID(value).bytes))


def unscoped(value: _Six) -> _Six:
    """The address or prefix itself; raises ValueError when it has a zone (RFC 4007), which may hold any character, or
    is an IPv4 address in IPv6 form (RFC 4291 section 2.5.5), which no interface has."""
    if "%" in str(value):
        raise ValueError("must not have a zone (%...); leave it out, and give a server a global address")
    address = value if isinstance(value, IPv6Address) else value.network_address
    if address.ipv4_mapped is not None:
        raise ValueError(f"must not be IPv4 in IPv6 form; the IPv4 address is {address.ipv4_mapped}")
    return value


def with_length(value: Any) -> Any:
    """The text of a prefix that has its length, or its netmask; anything else that is not text is left to the type.

    Raises ValueError for a bare address, which would be a prefix of that one address, and for a wildcard mask.
    """
    if not isinstance(value, str):
        return value
    address, slash, mask = value.partition("/")
    if not slash:
        if meant := _whole_network(address):
            raise ValueError(f"must have a length; did you mean {meant}?")
    elif "." in mask and _is_wildcard(mask):
        raise ValueError(f"must have a length; did you mean {IPv4Network(value, strict=False)}?")
    return value


def _is_wildcard(mask: str) -> bool:
    try:
        return str(IPv4Network(f"0.0.0.0/{mask}").netmask) != mask
    except ValueError:
        return False


def _whole_network(text: str) -> IPv4Network | IPv6Network | None:
    """The prefix that a bare address probably means: as long as its octets that are not zero, else itself."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        bits = 64 if not int(address) & (1 << 64) - 1 else 128
        return IPv6Network((int(address), bits))
    return IPv4Network((int(address), 32 - 8 * (4 - len(address.packed.rstrip(b"\0")))))


def whole(value: Any) -> Any:
    """Text of decimal digits as a number, for values that come from YAML; anything else is left to the type."""
    if isinstance(value, str):
        if not re.fullmatch(r"0|[1-9][0-9]{0,8}", value):
            raise ValueError("is not a whole number")
        return int(value)
    return value


def flag(value: Any) -> Any:
    """The words ``true`` and ``false`` as what they say, for values that come from YAML; no other word is one."""
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError("is neither true nor false")
        return value == "true"
    return value


def vlan_range(value: str) -> str:
    """One VLAN ("100") or a range of them, both ends included ("100-139"); raises ValueError for any other text."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}(-[1-9][0-9]{0,3})?", value):
        raise ValueError("is neither a VLAN nor a range of them; write 100 or 100-139")
    first, _, last = value.partition("-")
    if not 1 <= int(first) <= int(last or first) <= 4094:
        raise ValueError("is not a range of VLANs; the numbers go from 1 to 4094, the lower one first")
    return value


def in_order(value: dict[str, Any]) -> dict[str, Any]:
    """The mapping sorted by key, for mappings whose order in the file means nothing."""
    return dict(sorted(value.items()))


def _text(value: Any) -> Any:
    # A YAML 1.1 reader makes 52:54:00:12:34:56 a base-60 number; the inventory's own reader keeps it as text.
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")
    return value


def _printable(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value)


IPv6 = Annotated[IPv6Address, AfterValidator(unscoped)]
IPv4Prefix = Annotated[IPv4Network, BeforeValidator(with_length)]
IPv6Prefix = Annotated[IPv6Network, BeforeValidator(with_length), AfterValidator(unscoped)]
Whole = Annotated[int, BeforeValidator(whole)]
Flag = Annotated[bool, BeforeValidator(flag)]

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

Mac = Annotated[str, BeforeValidator(_text), AfterValidator(normalize_mac)]
NicAddress = Annotated[str, BeforeValidator(_text), AfterValidator(nic_address)]
"""A MAC, or the address of an InfiniBand port."""
Name = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}$")]
"""A host, network, group, credential or base image name: one DNS label, lower case (RFC 1123)."""
Domain = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$", max_length=253)]
Realm = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$")]
"""A Kerberos realm; case counts (RFC 4120 section 6.1), and lower case is unusual, not wrong."""
InterfaceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,14}$")]
"""A network interface name as the kernel takes it (at most 15 bytes)."""
VlanRange = Annotated[str, BeforeValidator(_text), AfterValidator(vlan_range)]
"""A VLAN or a range of them."""
_INK = r"!#-&(-\[\]-~"  # printable ASCII without space, quotes and backslash
_BARE = rf"(?:[{_INK}]|\\\\)"
_BLANK = rf"(?:[{_INK}]|\\[\\'])*"
KERNEL_ARGUMENT = (
    rf"^((?:{_BARE}|\\'{_BARE}*\\'|\\\"{_BARE}*\\\")+"
    rf'|(?:[!#-&(-<>-\[\]-~]+=)?"(?:{_BARE}+|{_BLANK}(?: {_BLANK})+)")$'
)


def kernel_argument(value: Any) -> Any:
    """The value itself; raises ValueError for a text that cannot arrive on every kernel's command line as it is."""
    if isinstance(value, str) and not re.fullmatch(KERNEL_ARGUMENT, value):
        fact, remedy = _argument_fault(value)
        raise ValueError(f"{fact}; {_meant_argument(value) or remedy}")
    return value


def _argument_fault(text: str) -> tuple[str, str]:
    """What is wrong with a text that is not a kernel argument, and the way out."""
    single = text.replace("\\\\", "")
    if not text or re.search(r"[^ -~]", text):
        return "is not a kernel argument, which is printable ASCII", "leave the rest out"
    if re.search(r"\\(?![\"'])", single):
        return "has a single backslash, which GRUB doubles", r"leave it out, or write \\ to have two on the host"
    if re.search(r"(?<!\\)'", single):
        return "has a single quote, before which GRUB puts a backslash", r"leave it out, or write \'...\' to have both"
    if " " in re.sub(r'"[^"]*"', "", text):
        return "has a space outside of double quotes", 'write name="a b", or several arguments'
    if re.search(r'(?<!\\)"', single):
        return "has double quotes that are neither around the whole nor around the value", 'write name="a b"'
    return "has a quote without its partner, which systemd looks for in the next arguments", r"write \'...\' or \"...\""


def _meant_argument(text: str) -> str:
    """A question that names the argument which was probably meant; "" for nothing."""
    name, equals, rest = text.strip().partition("=")
    bare = rest.replace('"', "")
    for guess in (text.replace("'", '"'), f"{name}{equals}{bare}", f'{name}{equals}"{bare}"'):
        if equals and re.fullmatch(KERNEL_ARGUMENT, guess):
            return f"did you mean {guess}?"
    return ""


KernelArgument = Annotated[
    str, StringConstraints(pattern=KERNEL_ARGUMENT, max_length=256), BeforeValidator(kernel_argument)
]
"""One argument as the kernel reads it (next_arg() of lib/cmdline.c): a word, or ``name="with spaces"``.

GRUB puts a backslash before each backslash and quote (grub_create_loader_cmdline() of grub-core/lib/cmdline.c), so of
these only pairs of a backslash and one of them can arrive as they are written. Quotes have partners: the kernel (of the
double ones) and systemd (of both kinds) would take the next arguments for a part of this one.
"""
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
SrvName = Annotated[str, StringConstraints(pattern=r"^_[a-z0-9-]{1,15}\._(tcp|udp)$")]
SeedPath = Annotated[str, StringConstraints(pattern=r"^/etc(/[A-Za-z0-9_@%+][A-Za-z0-9_.@%+-]*)+$", max_length=200)]
"""Where a file stands in the host's final root: below /etc, no dot segments."""
UploadId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""What an upload is called, by which an import names it."""
ContentId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A base image's id, or a seed's revision: a SHA-256."""
LOADER_NAME = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
LoaderName = Annotated[str, StringConstraints(pattern=LOADER_NAME)]
"""A file of a loader set, in its directory or in one below it."""
TypedPath = Annotated[str, StringConstraints(min_length=1, max_length=4096), AfterValidator(_printable)]
"""A path as an operator typed it, for messages only: nothing is opened by it, and nothing in it is invisible."""
AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
"""A user or group of an image, as Debian names them (adduser(8))."""
FileMode = Annotated[str, StringConstraints(pattern=r"^0[0-7]{3}$")]
"""An octal mode of four digits, such as ``0600``."""
