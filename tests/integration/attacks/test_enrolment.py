"""TPMs that are not the host's, and proofs that are none: nothing of it is enrolled, and each refusal says why.

Most attackers here have all that an attacker can have: a genuine TPM, its maker's certificate, the host's place on the
LAN, and the image's own program.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from provision.api.tpms import ImportTpms
from provision.service.unfinished import LIFETIME
from provision.tpm.quoted_log import MOST as MOST_LOG
from tests.helpers.enrolment import HOST, LOG_OF, PROGRAM, Machine, Vendor, machine
from tests.helpers.enrolment_site import NODE, Front
from tests.helpers.firmware_log import LOG, enforced, event, header
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, IP, MAC1, MAC2, MANAGEMENT, STRANGER, leaks, request, secret_forms, site

BEGIN, LOG_PART, PROVE = "/enroll/begin", "/enroll/log", "/enroll/prove"


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with site(tmp_path) as here:
        front = Front(here)
        front.open()
        yield front


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Vendor:
    return Vendor(tmp_path_factory.mktemp("vendor"))


@pytest.fixture(scope="module")
def evil(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine whose TPM a vendor has certified who is known everywhere."""
    with machine(tmp_path_factory.mktemp("evil") / "machine", vendor) as one:
        yield one


def enrolled(front: Front) -> bool:
    return front.store.tpms.get(NODE) is not None


def test_an_impostor_has_a_tpm_and_a_certificate_of_his_own(
    front: Front, vendor: Vendor, evil: Machine, tmp_path: Path
) -> None:
    front.believe(vendor)
    # On a general network everybody can take the host's address and MAC.
    assert "waits to be accepted" in evil.enroll(front.post(channel=GENERAL))
    # The operator looks at the host's own console, where another fingerprint stands.
    with machine(tmp_path / "host") as host:
        host.enroll(front.post(channel=GENERAL))
        front.here.service.tpms.accept(NODE, host.fingerprint, ROOT)
        own = front.store.tpms.get(NODE)
        assert own is not None and own.fingerprint == host.fingerprint != evil.fingerprint
    # And nothing of him is left, nor taken afterwards.
    assert front.store.tpms.pending(NODE) == ()
    with pytest.raises(PROGRAM.Refused, match="A TPM is enrolled for node1 already"):
        evil.enroll(front.post())


def test_a_machine_that_does_not_answer_by_arp_is_not_believed_by_its_certificate(
    front: Front, vendor: Vendor, evil: Machine
) -> None:
    front.believe(vendor)
    assert f"{MAC1} did not answer by ARP that it has {IP[MAC1]}" in evil.enroll(front.post(off=[IP[MAC1]]))
    assert not enrolled(front)


def test_another_tpm_than_the_imported_one_is_refused_whatever_its_certificate(
    front: Front, vendor: Vendor, evil: Machine
) -> None:
    front.believe(vendor)
    content = f"host,fingerprint\n{NODE},{'ab' * 32}\n".encode()
    front.here.service.tpms.take(ImportTpms.model_construct(content=content, file="eks.csv"), ROOT)
    said = front.refused(evil, "tpm-other")
    assert "This is not the TPM that was imported for node1" in said
    assert front.store.tpms.pending(NODE) == ()


def test_a_certificate_of_a_root_that_nobody_configured_is_none(
    front: Front, vendor: Vendor, evil: Machine, tmp_path: Path
) -> None:
    assert "no configured root vouches" in evil.enroll(front.post())
    other = Vendor(tmp_path / "other")
    other.make(tmp_path / "other/first")
    front.believe(other)
    # What is between a root and a TPM is no root itself.
    (front.here.state / "makers/another.pem").write_bytes((vendor.directory / "ca/issuer.pem").read_bytes())
    front.here.clock.advance(minutes=1)
    front.open()
    assert "no configured root vouches" in evil.enroll(front.post())
    assert not enrolled(front) and len(front.store.tpms.pending(NODE)) == 1


def test_no_boot_is_taken_for_one_of_the_site_by_what_was_measured_after_the_firmware(
    front: Front, tmp_path: Path
) -> None:
    """Somebody's own system on the host, with Secure Boot off, by BIOS or by another certificate: it measures all that
    a firmware with Secure Boot on measures of the site's image, and could do so again before it asks the TPM."""
    behind = enforced(b"the site's certificate")
    for number, first in enumerate((enforced(secure=b"\0"), [(7, 4, b"\0\0\0\0")], enforced(b"another certificate"))):
        with machine(tmp_path / str(number), measured=(*first, *behind)) as found:
            found.enroll(front.post())
    waiting = front.store.tpms.pending(NODE)
    assert len(waiting) == 3 and {one.loader for one in waiting} == {""}


def test_a_certificate_of_another_tpm_is_none(front: Front, vendor: Vendor, evil: Machine, tmp_path: Path) -> None:
    front.believe(vendor)
    stolen = b64encode(PROGRAM.key_kind(evil.host)[1]).decode()

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"certificate": stolen} if path == BEGIN else body

    with machine(tmp_path / "mine") as mine:
        assert "endorsement certificate is for another key" in mine.enroll(front.post(change=change))
    # Nor is the key that it is of, to whom does not have that TPM.
    with evil.host.primary(HOST.ENDORSEMENT, HOST.endorsement_template("rsa")) as ek:
        public = ek.public.hex()

    def claims(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"certificate": stolen, "endorsement": public} if path == BEGIN else body

    with machine(tmp_path / "again") as mine, pytest.raises(HOST.TpmError):
        mine.enroll(front.post(change=claims))
    assert not enrolled(front)


ATTRIBUTES = {
    "not restricted": 0x00040072,
    "not fixed to its TPM": 0x00050060,
    "not made in its TPM": 0x00050052,
    "decrypts too": 0x00070072,
    "signs nothing": 0x00020072,
}


@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_a_key_that_signs_what_the_tpm_has_not_said_is_refused(front: Front, evil: Machine, attributes: int) -> None:
    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        area = body.get("attestation", "")
        return body | {"attestation": area[:8] + f"{attributes:08x}" + area[16:]} if path == BEGIN else body

    assert "is not an attestation key" in front.refused(evil, "tpm-keys", change=change)


def test_a_key_that_lies_about_itself_has_another_name(front: Front, evil: Machine) -> None:
    """The TPM itself refuses the challenge: it is for a key that it does not have."""

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        area = body.get("attestation", "")
        return body | {"attestation": area[:8] + "00050072" + area[16:]} if path == BEGIN else body

    with patch.object(HOST, "_AK_ATTRIBUTES", 0x00040072), pytest.raises(HOST.TpmError, match="0x147"):
        evil.enroll(front.post(change=change))
    assert not enrolled(front)


def test_an_endorsement_key_that_is_none_is_refused(front: Front, evil: Machine) -> None:
    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"endorsement": body["attestation"]} if path == BEGIN else body

    assert "is not an endorsement key" in front.refused(evil, "tpm-keys", change=change)


def test_a_proof_is_good_once_and_for_what_was_asked_last(front: Front, evil: Machine) -> None:
    proofs: list[dict[str, Any]] = []

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PROVE:
            proofs.append(body)
        return body

    evil.enroll(front.post(change=change))
    app = front.app()

    def rule(path: str, body: dict[str, Any]) -> str:
        reply = request(app, "POST", path, body=json.dumps(body).encode(), peer=IP[MAC1])
        return str(reply.problem["rule"])

    assert rule(PROVE, proofs[0]) == "tpm-not-begun"

    def replayed(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return proofs[0] if path == PROVE else body

    front.refused(evil, "tpm-challenge", change=replayed)
    # The value of now, with the quote of before.
    front.refused(evil, "tpm-quote", change=lambda path, body: proofs[0] | body | _quote(proofs[0], path))
    assert len(front.store.tpms.pending(NODE)) == 1


def _quote(proof: dict[str, Any], path: str) -> dict[str, Any]:
    return {name: proof[name] for name in ("message", "signature")} if path == PROVE else {}


def test_a_quote_for_another_nonce_or_of_other_pcrs_is_refused(front: Front, evil: Machine) -> None:
    quote = HOST.Tpm.quote
    with patch.object(HOST.Tpm, "quote", lambda tpm, key, nonce, numbers: quote(tpm, key, bytes(32), numbers)):
        assert "is not for the nonce" in front.refused(evil, "tpm-quote")
    for others in ([0, 7], [*range(9)], [*range(8, 16)]):
        with patch.object(HOST.Tpm, "quote", lambda tpm, key, nonce, numbers, o=others: quote(tpm, key, nonce, o)):
            assert "is of other PCRs" in front.refused(evil, "tpm-quote")


def test_values_that_were_not_quoted_are_refused(front: Front, evil: Machine) -> None:
    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"pcrs": body["pcrs"] | {"7": "ab" * 32}} if path == PROVE else body

    assert "is of other PCR values" in front.refused(evil, "tpm-quote", change=change)


LOGS = {
    "one event less": header() + b"".join(event(*one) for one in ((0, 8, b"x"),)),
    "an event more": LOG + event(7, 0x80000001, b"more"),
    "nothing": b"",
    "cut": LOG[:-3],
    "garbage": b"\x5a" * 5000,
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_a_log_that_does_not_give_what_was_quoted_is_refused(front: Front, evil: Machine, log: bytes) -> None:
    with patch.object(LOG_OF, "short", lambda _: log):
        assert "log" in front.refused(evil, "tpm-log")


def test_a_log_has_a_size_and_no_gaps(front: Front, evil: Machine) -> None:
    for change in ({"at": 1}, {"at": MOST_LOG, "part": b64encode(b"x").decode()}):

        def changed(path: str, body: dict[str, Any], change: dict[str, Any] = change) -> dict[str, Any]:
            return body | change if path == LOG_PART else body

        assert "has a gap, or more than 32 KiB" in front.refused(evil, "tpm-log", change=changed)

    def again(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == LOG_PART:
            reply = request(front.app(), "POST", path, body=json.dumps(body).encode(), peer=IP[MAC1])
            assert reply.status == 204
        return body

    assert "waits to be accepted" in evil.enroll(front.post(change=again)), "a part that comes twice is one"


def test_two_at_once_end_with_the_one_that_has_begun_last(front: Front, evil: Machine, tmp_path: Path) -> None:
    with machine(tmp_path / "host") as host:
        said: list[str] = []

        def meanwhile(path: str, body: dict[str, Any]) -> dict[str, Any]:
            if path == PROVE and not said:
                said.append(host.enroll(front.post()))
            return body

        front.refused(evil, "tpm-not-begun", change=meanwhile)
        assert "waits to be accepted" in said[0]
        assert [one.fingerprint for one in front.store.tpms.pending(NODE)] == [host.fingerprint]

        front.here.clock.advance(minutes=1)
        front.open()
        # Whoever only guesses takes nothing from the host that is about to answer.
        app = front.app()

        def guess(path: str, body: dict[str, Any]) -> dict[str, Any]:
            if path == PROVE:
                wrong = json.dumps(body | {"value": "00" * 32}).encode()
                assert request(app, "POST", PROVE, body=wrong, peer=IP[MAC1]).problem["rule"] == "tpm-challenge"
            return body

        assert "waits to be accepted" in host.enroll(front.post(change=guess))


def test_without_a_window_nothing_is_taken_and_one_that_ends_ends_what_has_begun(front: Front, evil: Machine) -> None:
    def late(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PROVE:
            front.here.service.tpms.close(NODE, ROOT)
        return body

    front.refused(evil, "enrolment-closed", change=late)
    assert "provision enroll node1" in front.refused(evil, "enrolment-closed")
    front.open()
    front.here.clock.advance(minutes=30)
    front.refused(evil, "enrolment-closed")
    front.open()

    def slow(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PROVE:
            front.here.clock.now += LIFETIME
        return body

    front.refused(evil, "tpm-not-begun", change=slow)


def test_who_asks_is_known_by_the_kernel_alone(front: Front, evil: Machine) -> None:
    front.refused(evil, "unknown-host", mac=STRANGER)
    front.refused(evil, "enrolment-closed", mac=MAC2)
    # What one machine has begun no other one ends, and what a body says of itself is nothing.
    front.open("node2")
    begun: list[dict[str, Any]] = []

    def elsewhere(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PROVE:
            begun.append(body)
        return body | {"host": NODE, "mac": MAC1, "address": IP[MAC1]}

    evil.enroll(front.post(MAC2, change=elsewhere))
    reply = request(front.app(), "POST", PROVE, body=json.dumps(begun[0]).encode(), peer=IP[MAC1])
    assert reply.problem["rule"] == "tpm-not-begun"
    assert [one.host for one in front.store.tpms.all()] == ["node2"]
    for peer, rule in (("10.0.0.1", "local-peer"), ("192.0.2.7", "off-prefix"), ("10.0.0.50", "no-neighbour")):
        body = {"endorsement": "", "attestation": "", "certificate": ""}
        reply = request(front.app(), "POST", BEGIN, body=json.dumps(body).encode(), peer=peer)
        assert (reply.status, reply.problem["rule"]) == (403, rule)


def test_garbage_is_refused_without_being_repeated(front: Front) -> None:
    chance, app = random.Random(12), front.app()
    canary = "zqxj-marker"
    claim: dict[str, Any] = {"endorsement": "00", "attestation": "00", "certificate": ""}
    part = {"at": 0, "part": ""}
    proof: dict[str, Any] = dict.fromkeys(("value", "message", "signature"), "00")
    proof |= {"pcrs": {str(number): "00" * 32 for number in range(8)}}
    wrong: list[Any] = [None, 7, canary, canary * 100, [], {}, "0", "0g", "é" * 8, "00" * 5000, True, [canary], -1.5]
    bodies = [b"", b"[", b"null", b"[" * 50_000, canary.encode(), b"\xff\xfe", b'{"a":' * 3000]
    for path, good in ((BEGIN, claim), (LOG_PART, part), (PROVE, proof)):
        members = [good | {name: value} for name in good for value in wrong]
        members += [{name: good[name] for name in good if name != left} for left in good]
        members += [proof | {"pcrs": proof["pcrs"] | {number: canary}} for number in ("0", "8", canary)]
        data = [json.dumps(member).encode() for member in members]
        flipped = [bytes(byte ^ (chance.random() < 0.02) for byte in one) for one in data for _ in range(3)]
        for body in (*bodies, *data, *flipped):
            reply = request(app, "POST", path, body=body, peer=IP[MAC1])
            assert reply.status in (403, 422), (reply, body[:200])
            assert canary not in reply.body.decode() and reply.problem["remedy"]
    assert not front.store.tpms.holds(NODE)
    assert not leaks([canary.encode()], *front.here.audit())


def test_nothing_secret_is_answered_recorded_or_logged(
    front: Front, evil: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    values: list[bytes] = []

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == PROVE:
            values.append(bytes.fromhex(body["value"]))
        return body

    evil.enroll(front.post(change=change))
    front.refused(evil, "tpm-challenge", change=lambda path, body: change(path, body) | {"value": "00"})
    assert len(set(values)) == 2
    forms = [*secret_forms(front.here), *values, *(value.hex().encode() for value in values)]
    assert leaks(forms, *front.answers, *front.here.audit(), caplog.text) == []


@pytest.mark.parametrize("channel", [MANAGEMENT, GENERAL])
def test_refusals_are_bounded(front: Front, channel: Any) -> None:
    front.here.service.tpms.close(NODE, ROOT)
    app = front.app(channel)
    peer = IP[MAC1] if channel is MANAGEMENT else IP[MAC1].replace("10.0.0.", "10.1.0.")
    body = json.dumps({"endorsement": "", "attestation": "", "certificate": ""}).encode()
    before = len(front.here.audit())
    for _ in range(200):
        assert request(app, "POST", BEGIN, body=body, peer=peer).status == 403
    entries = front.here.audit()
    assert len(entries) - before <= 3, "the same again and again is one entry and a count"
