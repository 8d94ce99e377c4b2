"""MIT keytab files, version 0x0502: which principals they hold keys for, and a keytab of one key.

Format: https://web.mit.edu/kerberos/krb5-latest/doc/formats/keytab_file_format.html. Reading skips the keys themselves.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from provision.errors import Invalid
from provision.secret import Secret

_SUBJECT = "keytab"
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,252}(?:\$|:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]{1,5}$")
_NETBIOS = 15
"""Characters of a machine's name in Active Directory ([MS-ADTS] section 3.1.1.1.4: sAMAccountName, and NetBIOS)."""
_NT_SRV_HST = 3  # RFC 4120 section 6.2
_REMEDY = "export it again, e.g. with ipa-getkeytab or kadmin's ktadd"


@dataclass(frozen=True)
class Entry:
    """One key's description: its principal's components and realm, its version number and encryption type, and when it
    was written into the keytab, in Unix time; 0 where the writer does not say."""

    components: tuple[str, ...]
    realm: str
    kvno: int
    enctype: int
    written: int = 0

    @property
    def principal(self) -> str:
        """As Kerberos tools write it, such as `host/node7.example.org@EXAMPLE.ORG`."""
        return f"{'/'.join(self.components)}@{self.realm}"


def parse(data: Secret) -> tuple[Entry, ...]:
    """The entries of a keytab, in its order, at least one; raises Invalid, which never shows any content."""
    content = data.reveal()
    if content[:2] == b"\x05\x01":
        raise Invalid(_SUBJECT, "has the old format 0x0501, whose byte order is the writer's", _REMEDY)
    if content[:2] != b"\x05\x02":
        raise Invalid(_SUBJECT, "is not a keytab (it does not begin with 0x0502)", _REMEDY)
    entries = tuple(_entry(record, offset) for offset, record in _records(content))
    if not entries:
        raise Invalid(_SUBJECT, "holds no key", _REMEDY)
    return entries


def stranger(entries: Iterable[Entry], host: str, domain: str, names: Collection[str] = ()) -> Entry | None:
    """The first entry that is for no name of the host: a service on it (`host/NAME`, with or without a port) or the
    machine (`NAME$`). Its names are its short and its full one in any case, and `names`; None when all are its own.

    A short name that Active Directory cut counts only beside an entry with an uncut one: it could be another host's.
    """
    known = {host, f"{host}.{domain}", *names}
    owners = [(entry, _owner(entry)) for entry in entries]
    if len(host) > _NETBIOS and any(owner in (host, f"{host}.{domain}") for _, owner in owners):
        known.add(host[:_NETBIOS])
    return next((entry for entry, owner in owners if owner not in known), None)


def _owner(entry: Entry) -> str:
    """Whose key it is, in lower case: a machine's name without the dollar, or where a service is; "" for neither."""
    match entry.components:
        case (machine,) if machine.endswith("$"):
            return machine[:-1].lower()
        case (_, place) if not place.endswith("$"):
            return _PORT.sub("", place).lower()
    return ""


def pack(principal: str, key: Secret, kvno: int = 1, enctype: int = 18, written: int = 0) -> Secret:
    """A keytab with one key of a host's principal (`host/NAME@REALM`), written at that Unix time.

    The enctype 18 is aes256-cts-hmac-sha1-96 (RFC 3962 section 7), whose keys have 32 bytes.
    """
    name, _, realm = principal.rpartition("@")
    components = name.split("/")
    counted = b"".join(struct.pack(">H", len(text)) + text.encode() for text in (realm, *components))
    record = struct.pack(">H", len(components)) + counted + struct.pack(">IIBH", _NT_SRV_HST, written, kvno, enctype)
    record += struct.pack(">H", len(key)) + key.reveal()
    return Secret(b"\x05\x02" + struct.pack(">i", len(record)) + record)


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Every record with its offset; records of negative length are holes, and a length of 0 ends the file."""
    offset = 2
    while offset < len(content):
        if offset + 4 > len(content):
            raise _cut(offset)
        (size,) = struct.unpack_from(">i", content, offset)
        if size == 0:
            return
        start, offset = offset + 4, offset + 4 + abs(size)
        if offset > len(content):
            raise _cut(start)
        if size > 0:
            yield start, content[start:offset]


class _Reader:
    """Reads the big-endian fields of one record."""

    def __init__(self, record: bytes, offset: int) -> None:
        self._record, self._offset, self._at = record, offset, 0

    @property
    def left(self) -> int:
        return len(self._record) - self._at

    def take(self, size: int) -> bytes:
        if self.left < size:
            raise _cut(self._offset + self._at)
        self._at += size
        return self._record[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> str:
        at = self._offset + self._at
        name = self.take(self.number(2))
        # Names are shown in errors: in a damaged file, what stands for a name may be a piece of a key.
        if not _NAME.fullmatch(name):
            raise Invalid(_SUBJECT, f"has a name at offset {at} that no host's principal has", _REMEDY)
        return name.decode("ascii")


def _entry(record: bytes, offset: int) -> Entry:
    reader = _Reader(record, offset)
    count = reader.number(2)
    realm = reader.text()
    components = tuple(reader.text() for _ in range(count))
    reader.take(4)  # The name type.
    written = reader.number(4)
    kvno, enctype = reader.number(1), reader.number(2)
    if not reader.take(reader.number(2)):
        raise Invalid(_SUBJECT, f"has an entry at offset {offset} without a key", _REMEDY)
    # A longer number may follow, for versions above 255; 0 means that the short one counts.
    if reader.left >= 4:
        kvno = reader.number(4) or kvno
    return Entry(components, realm, kvno, enctype, written)


def _cut(offset: int) -> Invalid:
    return Invalid(_SUBJECT, f"is cut short or damaged at offset {offset}", _REMEDY)
