"""Enrolment from end to end: the host image's program, a TPM in software, and the boot application."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from provision.api.tpms import ImportTpms
from provision.enrolled_tpm import KeyKind
from provision.errors import Conflict, NotFound, Problems
from provision.service.service import Service
from provision.store.tpms import MOST_PENDING
from tests.helpers.enrolment import Machine, Vendor, machine
from tests.helpers.enrolment_site import NODE, Front
from tests.helpers.firmware_log import BOOT, FIRMWARE, enforced
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, MAC2, settings, site


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with site(tmp_path) as here:
        yield Front(here)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Machine]:
    """A machine whose TPM has no certificate."""
    with machine(tmp_path / "machine") as one:
        yield one


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor(tmp_path_factory.mktemp("vendor"))


def listed(host: str, fingerprint: str) -> ImportTpms:
    content = f"host,fingerprint\n{host},{fingerprint}\n".encode()
    return ImportTpms.model_construct(content=content, file="eks.csv")


def test_a_certificate_of_a_configured_root_enrols_on_a_management_network(
    front: Front, vendor: Vendor, tmp_path: Path
) -> None:
    with machine(tmp_path / "machine", vendor) as found:
        front.believe(vendor)
        front.open()
        said = found.enroll(front.post())
        own = front.store.tpms.get(NODE)
        assert own is not None and own.fingerprint == found.fingerprint
        assert (own.kind, own.firmware, own.actor) == (KeyKind.RSA, FIRMWARE, ROOT.name)
        assert own.pcr7.hex() == found.values([7])["7"] and own.pcr7 != bytes(32)
        assert own.known.startswith("certificate id:00001014 swtpm ") and "CN=swtpm-localca-rootca" in own.known
        assert "is enrolled: certificate" in said and own.fingerprint[:8] in said
        assert front.store.enrolments.window(NODE, front.here.clock()) is None, "it ends when it is done"
        [entry] = front.here.audit("tpm-enrolled")
        assert (entry["host"], entry["sha256"], entry["reason"]) == (NODE, own.fingerprint, own.known)
        with pytest.raises(Conflict, match="provision tpm remove node1"):
            front.open()


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_without_a_certificate_somebody_has_to_look(front: Front, tmp_path: Path, kind: str) -> None:
    tpms = front.here.service.tpms
    with machine(tmp_path / "machine", kind=kind) as found:
        front.open()
        said = found.enroll(front.post())
        assert "waits to be accepted: its TPM has no certificate" in said
        assert f"provision tpm accept HOST {found.fingerprint}" in said
        [waiting] = front.store.tpms.pending(NODE)
        assert waiting.fingerprint == found.fingerprint and front.store.tpms.get(NODE) is None
        for wrong in (found.fingerprint[:-1] + "g", found.fingerprint[:32], ""):
            with pytest.raises(NotFound, match="compare all of it"):
                tpms.accept(NODE, wrong, ROOT)
        alerts = {alert.event: alert.text for alert in front.here.service.reports.status(ROOT, NODE).hosts[0].alerts}
        assert found.fingerprint in alerts["tpm-pending"] and "enrolment-open" in alerts
        assert front.here.service.inventories.host(NODE, ROOT).tpm_standing.startswith(
            "1 to be accepted, may be enrolled until"
        )
        own = tpms.accept(NODE, found.fingerprint, ROOT)
        assert (own.enrolled, own.known, own.kind) == (True, "accepted uid=0", "p256" if kind == "ecc" else "rsa")
        assert front.store.enrolments.window(NODE, front.here.clock()) is None
        assert tpms.of(NODE, ROOT).tpms == (own,) and tpms.listing(ROOT) == [own]
        assert front.here.service.inventories.host(NODE, ROOT).tpm_standing == "enrolled (accepted uid=0)"


def test_the_certificate_is_known_by_which_the_firmware_took_the_site_s_image(front: Front, tmp_path: Path) -> None:
    measured = (*enforced(b"certificate" * 100), *BOOT[3:])
    with machine(tmp_path / "machine", measured=measured) as found:
        front.open()
        found.enroll(front.post(channel=GENERAL))
        own = front.here.service.tpms.accept(NODE, found.fingerprint, ROOT)
        assert own.loader == sha256(b"certificate" * 100).hexdigest() and own.firmware == FIRMWARE
        assert own.pcr7 == found.values([7])["7"]


def test_on_a_general_network_a_certificate_is_not_enough(front: Front, vendor: Vendor, tmp_path: Path) -> None:
    with machine(tmp_path / "machine", vendor) as found:
        front.believe(vendor)
        front.open()
        assert "network 'office' is general" in found.enroll(front.post(channel=GENERAL))
        assert front.store.tpms.get(NODE) is None and len(front.store.tpms.pending(NODE)) == 1


def test_an_imported_fingerprint_needs_no_look(front: Front, bare: Machine) -> None:
    tpms = front.here.service.tpms
    tpms.take(listed(NODE, bare.fingerprint.upper()), ROOT)
    front.open()
    assert "is enrolled: imported" in bare.enroll(front.post(channel=GENERAL))
    own = front.store.tpms.get(NODE)
    assert own is not None and own.known == "imported"
    with pytest.raises(Problems, match="another TPM is enrolled"):
        tpms.take(listed(NODE, "ab" * 32), ROOT)
    tpms.remove(NODE, imported=True, principal=ROOT)
    assert tpms.of(NODE, ROOT).imported is None and tpms.of(NODE, ROOT).tpms == ()
    with pytest.raises(Problems, match="no host of this name"):
        tpms.take(listed("node9", "ab" * 32), ROOT)
    assert [entry["event"] for entry in front.here.audit() if entry["event"].startswith("tpm-")] == [
        "tpm-imported",
        "tpm-enrolled",
        "tpm-removed",
    ]


def test_the_keys_are_the_same_at_the_next_boot_and_enrol_again_after_a_removal(front: Front, bare: Machine) -> None:
    tpms = front.here.service.tpms
    front.open()
    bare.enroll(front.post())
    first = front.store.tpms.pending(NODE)
    bare.enroll(front.post())
    assert front.store.tpms.pending(NODE) == first, "whoever repeats himself writes nothing"
    assert len(front.here.audit("tpm-pending")) == 1
    tpms.accept(NODE, bare.fingerprint, ROOT)
    tpms.remove(NODE, imported=False, principal=ROOT)
    front.open()
    bare.enroll(front.post())
    assert [one.attestation for one in front.store.tpms.pending(NODE)] == [first[0].attestation]
    tpms.reject(NODE, bare.fingerprint, ROOT)
    assert front.store.tpms.pending(NODE) == ()


def test_only_a_few_wait_and_one_that_is_refused_costs_no_more(front: Front, tmp_path: Path) -> None:
    front.open()
    for number in range(MOST_PENDING):
        with machine(tmp_path / str(number)) as one:
            one.enroll(front.post())
    with machine(tmp_path / "more") as one:
        assert "4 wait to be accepted already" in front.refused(one, "tpm-taken")
    begun = [entry["subject"] for entry in front.here.audit("begun")]
    assert begun.count("tpm-pending") == len(front.here.audit("tpm-pending")) == MOST_PENDING


def test_a_tpm_of_one_host_is_not_another_s(front: Front, bare: Machine) -> None:
    tpms = front.here.service.tpms
    for host, mac in ((NODE, None), ("node2", MAC2)):
        front.open(host)
        bare.enroll(front.post() if mac is None else front.post(mac))
    tpms.accept(NODE, bare.fingerprint, ROOT)
    with pytest.raises(Conflict, match="enrolled as that of node1"):
        tpms.accept("node2", bare.fingerprint, ROOT)


def test_what_is_enrolled_outlives_the_process(front: Front, bare: Machine) -> None:
    front.open()
    bare.enroll(front.post())
    front.here.service.tpms.accept(NODE, bare.fingerprint, ROOT)
    before = front.store.tpms.all()
    front.here.service.close()
    again = Service.open(settings(front.here.state), front.here.clock)
    try:
        assert again.core.store.tpms.all() == before and not again.core.store.database.distrust
    finally:
        again.close()


def test_a_host_that_was_declared_compromised_has_to_enrol_anew(front: Front, bare: Machine) -> None:
    front.open()
    bare.enroll(front.post())
    front.here.service.tpms.accept(NODE, bare.fingerprint, ROOT)
    done = front.here.service.compromises.declare(NODE, ROOT)
    assert done.tpm and front.store.tpms.get(NODE) is None
    front.refused(bare, "enrolment-closed")


def test_a_new_nic_says_what_becomes_of_the_tpm(front: Front, bare: Machine) -> None:
    front.open()
    bare.enroll(front.post())
    replace = front.here.service.inventories.replacement
    assert not any("TPM" in note for note in replace(NODE, "mgmt", "52:54:00:00:00:77", ROOT).changes.notes)
    front.here.service.tpms.accept(NODE, bare.fingerprint, ROOT)
    notes = replace(NODE, "mgmt", "52:54:00:00:00:77", ROOT).changes.notes
    assert any("provision tpm remove node1" in note for note in notes)
