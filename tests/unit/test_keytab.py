"""Keytabs as MIT Kerberos writes and reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision import proc
from provision.errors import Invalid
from provision.keytab import pack, parse
from provision.secret import Secret

KEY = bytes(range(32))


def counted(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def record(
    principal: str,
    kvno: int = 1,
    long_kvno: int | None = None,
    key: bytes = KEY,
    name_type: int = 1,
    time: int = 1_700_000_000,
) -> bytes:
    name, _, realm = principal.rpartition("@")
    parts = name.split("/")
    body = struct.pack(">H", len(parts)) + counted(realm.encode()) + b"".join(counted(p.encode()) for p in parts)
    body += struct.pack(">IIBH", name_type, time, kvno, 18) + counted(key)
    return body if long_kvno is None else body + struct.pack(">I", long_kvno)


def keytab(*records: bytes) -> bytes:
    """A keytab of these records, written after the format's description."""
    return b"\x05\x02" + b"".join(struct.pack(">i", len(r)) + r for r in records)


def test_entries() -> None:
    data = keytab(record("host/n1.example.org@EXAMPLE.ORG", 3), record("N1$@EXAMPLE.ORG", 4, 260))
    first, second = parse(Secret(data))
    assert (first.principal, first.kvno, first.enctype) == ("host/n1.example.org@EXAMPLE.ORG", 3, 18)
    assert (second.components, second.realm, second.kvno) == (("N1$",), "EXAMPLE.ORG", 260)


def test_a_keytab_of_one_key() -> None:
    made = pack("host/n1.example.org@EXAMPLE.ORG", Secret(KEY), 3)
    (entry,) = parse(made)
    assert (entry.principal, entry.kvno, entry.enctype) == ("host/n1.example.org@EXAMPLE.ORG", 3, 18)
    assert made.reveal() == keytab(record("host/n1.example.org@EXAMPLE.ORG", 3, name_type=3, time=0))


def test_a_long_number_of_zero_does_not_count() -> None:
    assert parse(Secret(keytab(record("a@B", 7, 0))))[0].kvno == 7


def test_holes_and_the_end() -> None:
    hole = struct.pack(">i", -9) + bytes(9)
    one = keytab(record("a@B"))
    assert len(parse(Secret(one[:2] + hole + one[2:] + hole))) == 1
    assert len(parse(Secret(one + bytes(4) + b"junk after the end"))) == 1


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "not a keytab"),
        (b"\x05", "not a keytab"),
        (b"-----BEGIN", "not a keytab"),
        (b"\x05\x01" + bytes(20), "old format 0x0501"),
        (b"\x05\x02", "holds no key"),
        (b"\x05\x02" + bytes(4), "holds no key"),
        (keytab(record("a@B"))[:-1], "cut short or damaged at offset 6"),
        (keytab(record("a@B")) + b"\0\0", "cut short"),
        (keytab(record("a@B")[:-1]), "cut short or damaged"),
        (keytab(record("a@B", key=b"")), "without a key"),
        (keytab(record("a b@B")), "no host's principal has"),
        (keytab(record("é@B")), "no host's principal has"),
        (keytab(record("a\n@B")), "no host's principal has"),
    ],
)
def test_what_is_no_keytab(data: bytes, fact: str) -> None:
    with pytest.raises(Invalid, match=fact):
        parse(Secret(data))


@given(st.binary(max_size=200).map(lambda b: b"\x05\x02" + b) | st.binary(max_size=50))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        assert parse(Secret(data))
    except Invalid as error:
        assert "\n" not in str(error)


@given(st.data())
def test_damaged_ones_are_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(keytab(record("host/n1.example.org@EXAMPLE.ORG"), record("N1$@EXAMPLE.ORG", 1, 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert parse(Secret(bytes(content)))
    except Invalid as error:
        assert KEY[4:].decode() not in str(error)


@pytest.mark.integration
def test_kerberos_reads_ours(tmp_path: Path) -> None:
    path = tmp_path / "our.keytab"
    path.write_bytes(keytab(record("host/n1.example.org@EXAMPLE.ORG", 3), record("N1$@EXAMPLE.ORG", 4, 260)))
    shown = proc.run(["klist", "-k", "-e", path], package="krb5-user").stdout.decode()
    assert "3 host/n1.example.org@EXAMPLE.ORG (aes256-cts-hmac-sha1-96)" in shown
    assert "260 N1$@EXAMPLE.ORG" in shown


@pytest.mark.integration
def test_we_read_kerberos(tmp_path: Path) -> None:
    path = tmp_path / "their.keytab"
    commands = "".join(
        f"add_entry -password -p {principal} -k {kvno} -e aes256-cts-hmac-sha1-96\npassword\n"
        for principal, kvno in (("host/n1.example.org@EXAMPLE.ORG", 2), ("HTTP/n1.example.org@EXAMPLE.ORG", 300))
    )
    proc.run(["ktutil"], package="krb5-user", stdin=f"{commands}write_kt {path}\nquit\n".encode())
    first, second = parse(Secret(path.read_bytes()))
    assert (first.principal, first.kvno, first.enctype) == ("host/n1.example.org@EXAMPLE.ORG", 2, 18)
    assert (second.principal, second.kvno) == ("HTTP/n1.example.org@EXAMPLE.ORG", 300)
