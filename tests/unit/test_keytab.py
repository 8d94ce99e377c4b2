"""Keytabs as the tools of Kerberos write and read them, and whose keys are a host's."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision import proc
from provision.credential import Validity, check
from provision.errors import Invalid
from provision.keytab import pack, parse
from provision.secret import Secret
from provision.site import CredentialKind, CredentialSpec, Site
from tests.helpers.store_samples import NOW, host, inventory

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
    assert first.written == second.written == 1_700_000_000


def test_a_keytab_of_one_key() -> None:
    made = pack("host/n1.example.org@EXAMPLE.ORG", Secret(KEY), 3)
    (entry,) = parse(made)
    assert (entry.principal, entry.kvno, entry.enctype) == ("host/n1.example.org@EXAMPLE.ORG", 3, 18)
    assert made.reveal() == keytab(record("host/n1.example.org@EXAMPLE.ORG", 3, name_type=3, time=0))
    assert parse(pack("host/n1@A", Secret(KEY), written=4711))[0].written == 4711


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


FIELD = {
    "adcli": [
        "HV1$",
        "host/HV1",
        "host/hv1.example.test",
        "RestrictedKrbHost/HV1",
        "RestrictedKrbHost/hv1.example.test",
    ],
    "msktutil": ["hv1$", "HV1$", "host/hv1", "host/hv1.example.test"],
    "samba": ["host/hv1.example.test", "host/HV1", "HV1$"],
    "ipa-getkeytab": ["host/hv1.example.test"],
    "kadmin ktadd": ["host/hv1.example.test", "libvirt/hv1.example.test", "nfs/hv1.example.test"],
    "heimdal ktutil": ["host/hv1.example.test", "HTTP/hv1.example.test:8080"],
}


def field_keytab(principals: Sequence[str], realm: str = "EXAMPLE.TEST") -> bytes:
    """Two encryption types and two key versions of each, as these tools leave them in a file they have renewed."""
    return keytab(*(record(f"{p}@{realm}", kvno, long) for p in principals for kvno, long in ((4, 4), (5, 261))))


def field_site(realm: str = "EXAMPLE.TEST", **fields: Any) -> Site:
    spec = CredentialSpec(kind=CredentialKind.KEYTAB, path="/etc/krb5.keytab", **fields)
    update = {"domain": "example.test", "realm": realm, "credentials": {"keytab": spec}}
    return inventory().site.model_copy(update=update)


def set_keytab(data: bytes, site: Site, name: str = "hv1") -> Validity:
    target = host(1, name=name, credentials=("keytab",))
    return check(CredentialKind.KEYTAB, "keytab", Secret(data), target, site, (), NOW)


@pytest.mark.parametrize("tool", FIELD)
def test_keytabs_as_the_tools_write_them(tool: str) -> None:
    assert set_keytab(field_keytab(FIELD[tool]), field_site())
    with pytest.raises(Invalid, match="is not hv2"):
        set_keytab(field_keytab(FIELD[tool]), field_site(), "hv2")
    with pytest.raises(Invalid, match=r"'qemu/vip\.example\.test@EXAMPLE\.TEST', which is not hv1; .* 'names'"):
        set_keytab(field_keytab([*FIELD[tool], "qemu/vip.example.test"]), field_site())


def test_a_name_that_active_directory_cut_needs_the_whole_one_beside_it() -> None:
    cut, whole = ["HYPERVISOR-NODE$", "host/HYPERVISOR-NODE"], "host/hypervisor-node-07.example.test"
    assert set_keytab(field_keytab([*cut, whole]), field_site(), "hypervisor-node-07")
    for principals in (cut, [*cut, "host/hypervisor-node-08.example.test"]):
        with pytest.raises(Invalid, match="is not hypervisor-node-07"):
            set_keytab(field_keytab(principals), field_site(), "hypervisor-node-07")


def test_a_shared_name_and_a_second_realm_count_when_the_inventory_says_so() -> None:
    shared = field_keytab(["host/hv1.example.test", "qemu/VIP.example.test:16514", "vip$"])
    assert set_keytab(shared, field_site(names=("vip.example.test", "vip")))
    with pytest.raises(Invalid, match=r"'vip\$@EXAMPLE\.TEST', which is not hv1"):
        set_keytab(shared, field_site(names=("vip.example.test",)))
    second = field_keytab(FIELD["samba"], "AD.EXAMPLE.TEST")
    assert set_keytab(second, field_site(realms=("AD.EXAMPLE.TEST",)))
    with pytest.raises(Invalid, match=r"realm 'AD\.EXAMPLE\.TEST'; the site's is EXAMPLE\.TEST; .*'realms'"):
        set_keytab(second, field_site())
    with pytest.raises(Invalid, match="is not hv2"):
        set_keytab(second, field_site(realms=("AD.EXAMPLE.TEST",)), "hv2")


def test_a_realm_in_lower_case() -> None:
    assert set_keytab(field_keytab(FIELD["samba"], "example.test"), field_site("example.test"))
