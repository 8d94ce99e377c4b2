"""Keytabs as they come from the field: which principals are the host's, and whose key stays refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from provision.credential import Checked, check
from provision.errors import Invalid
from provision.secret import Secret
from provision.site import CredentialKind, CredentialSpec, Site
from tests.helpers.store_samples import host, inventory
from tests.unit.test_credential import NOW
from tests.unit.test_keytab import keytab, record

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


def set_keytab(data: bytes, site: Site, name: str = "hv1") -> Checked:
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
