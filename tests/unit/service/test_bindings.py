"""What policy is told of a host whose TPM is enrolled, by the way in which it boots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provision.boot import Requester
from provision.errors import Denied
from provision.host import Chain
from provision.seed import Seed
from provision.service.origin import Origin
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, GENERAL, MAC1, uncharged
from tests.helpers.tpm import Tpm
from tests.helpers.tpm_samples import tpm
from tests.helpers.wrapped_site import Wrapped, wrapped

OFFICE = Origin(GENERAL, Requester(IPv4Address("10.1.0.11"), MAC1))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Wrapped]:
    """node1 on a general network, its TPM enrolled. No TPM is asked here."""
    with wrapped(tmp_path / "site", cast(Tpm, SimpleNamespace(port=1))) as found:
        found.here.service.core.store.tpms.put(tpm("node1"))
        yield found


def seed(host: Wrapped) -> Seed:
    return uncharged(host.here.service.netboot.seed(OFFICE, None))


def enrolled_with(host: Wrapped, firmware: str) -> None:
    """Enrol the TPM again, after a boot of that firmware."""
    host.here.service.core.store.tpms.remove("node1")
    host.here.service.core.store.tpms.put(tpm("node1", firmware=firmware))


def test_grub_gets_a_seed_without_secrets_that_says_where_the_envelope_is(host: Wrapped) -> None:
    config = host.here.service.netboot.grub_config(OFFICE)
    made = seed(host)
    assert f"/boot/seed/{made.revision}/seed.cpio".encode() in config
    assert CANARY not in made.data and b"phone_home" not in made.data
    [key] = host.here.service.core.store.site_keys.of(host.here.service.site_keys.listing()[0].use)
    assert b'"url": "http://10.1.0.1/envelope"' in made.data and key.public.hex().encode() in made.data


def test_its_seed_changes_with_no_credential(host: Wrapped) -> None:
    before = seed(host).data
    host.here.secret("node1", b"another one")
    assert seed(host).data == before, "else its measurements would be others"


def test_bios_gets_nothing(host: Wrapped) -> None:
    config = host.here.service.netboot.pxelinux_config(OFFICE, MAC1)
    assert b"node1 boots by BIOS" in config
    assert host.here.audit("decision")[-1]["rule"] == "chain-not-bound"


def test_an_iso_that_grub_reads_is_not_bound(host: Wrapped) -> None:
    host.here.service.netboot.http_boot(OFFICE, 0)
    [entry] = host.here.audit("decision")
    assert (entry["rule"], "in an order that is not computed" in entry["reason"]) == ("chain-not-bound", True)


@pytest.mark.parametrize("firmware", ["UEFI, Secure Boot off, version 9.1", "no Secure Boot"])
def test_grub_without_secure_boot_gets_nothing(host: Wrapped, firmware: str) -> None:
    """Policy says no to its seed and to its envelope, and every explanation says why and what to do."""
    service, words = host.here.service, "node1 did not have Secure Boot on"
    enrolled_with(host, firmware)
    assert words.encode() in service.netboot.grub_config(OFFICE)
    assert service.netboot.envelopes is not None
    with pytest.raises(Denied) as refused:
        service.netboot.envelopes.give(OFFICE)
    assert (refused.value.rule, words in refused.value.fact) == ("chain-not-bound", True)
    assert "'provision tpm remove node1', then 'provision enroll node1'" in refused.value.remedy
    by_name = {one.network: one for one in service.tpm_explanations.explain("node1", ROOT).networks}
    assert words in (by_name["office"].missing or "") and by_name["office"].chains == ()
    enrolled_with(host, "UEFI, Secure Boot on")
    assert seed(host), "enrolled anew with Secure Boot, it is served"


def test_a_unified_kernel_is_bound_without_secure_boot(host: Wrapped) -> None:
    """Its hash says all that is booted, whoever checks it."""
    enrolled_with(host, "UEFI, Secure Boot off")
    state = host.here.service.core.state("node1")
    state = replace(state, host=state.host.model_copy(update={"chain": Chain.UKI}))
    unbound = host.here.service.bindings.chains(state, GENERAL).unbound
    assert unbound is not None and "Secure Boot on" not in unbound[0], "and only the signed image is missing"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"signing": "not for Secure Boot: the kernel"}, "are not for Secure Boot: the kernel"),
        ({"chain": Chain.UKI}, "nobody has signed a unified kernel of base image 'base'"),
    ],
)
def test_what_cannot_be_bound_is_said(host: Wrapped, changed: dict[str, Any], said: str) -> None:
    core = host.here.service.core
    state = core.state("node1")
    if "chain" in changed:
        state = replace(state, host=state.host.model_copy(update=changed))
    else:
        core._bases[host.here.base.id] = replace(host.here.base, **changed)
    found = host.here.service.bindings.chains(state, GENERAL)
    assert found.bindings == () and found.unbound is not None and said.lower() in found.unbound[0].lower()


def test_a_revoked_image_is_not_approved(host: Wrapped) -> None:
    service = host.here.service
    seed(host)
    assert [row.model_dump()["revoked"] for row in service.images.listing()] == [False]
    done = service.envelopes.revoke("base", ROOT)
    assert (done.version, done.least) == (1, 2)
    assert [row.model_dump()["revoked"] for row in service.images.listing()] == [True]
    with pytest.raises(Denied) as refused:
        seed(host)
    assert refused.value.rule == "chain-not-approved" and "versions below 2 are revoked" in refused.value.fact
    [entry] = host.here.audit("approval-revoked")
    assert (entry["image"], entry["version"], entry["operator"]) == ("base", 1, ROOT.name)


def test_a_tpm_that_waits_is_none_yet(host: Wrapped) -> None:
    store = host.here.service.core.store
    store.tpms.remove("node1")
    with pytest.raises(Denied) as refused:
        seed(host)
    assert refused.value.rule == "secrets-on-general"
    store.tpms.put(tpm("node1", known=""))
    with pytest.raises(Denied) as refused:
        seed(host)
    assert refused.value.rule == "tpm-pending"
