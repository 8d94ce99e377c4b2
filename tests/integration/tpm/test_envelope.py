"""An envelope opens on the host that it is for, by the boot chain that was approved, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.secret import Secret
from provision.tpm import envelope, policies, public
from provision.tpm.algorithms import Hash
from provision.tpm.envelope import Approval, Authority
from tests.helpers.host_programs import Bus, load
from tests.helpers.tpm import Tpm

TPM = load("tpm")
LIBCRYPTO = load("libcrypto")
HOST = load("envelope")
CANARY = b'{"files": "canary-31c0ffee"}' * 20
SITE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SITE_KEY = SITE.public_key().public_bytes_raw()
APPROVER = ec.derive_private_key(5, ec.SECP256R1())
AREA = public.signing_key(APPROVER.public_key())
AUTHORITY = Authority(AREA, b"base" * 8)
NOW = {7: bytes(32), 11: bytes(32)}


def approve(values: Mapping[int, bytes], *others: bytes) -> Approval:
    """The site's approval of PCR values, or of any of several policies."""
    approved = policies.pcr(policies.START, values)
    branches: tuple[bytes, ...] = ()
    if others:
        branches = (approved, *others)
        approved = policies.any_of(branches)
    signature = APPROVER.sign(approved + AUTHORITY.reference, ec.ECDSA(Hash.SHA256.primitive))
    return Approval(None, tuple(sorted(values)), branches, approved, policies.tpm_signature(signature, APPROVER.curve))


@dataclass(frozen=True)
class Host:
    """A host with its TPM, and an envelope for it."""

    device: Any
    sealed: envelope.Envelope

    def open(
        self,
        *approvals: Approval,
        site: Ed25519PrivateKey = SITE,
        sealed: Any = None,
        authority: Authority = AUTHORITY,
    ) -> bytes:
        file = envelope.encode(sealed or self.sealed, authority, approvals, site)
        assert b"canary" not in file
        found = HOST.Envelope(file, [bytes(32), SITE_KEY])
        found.require("node1", 3)
        return bytes(found.open(self.device))


def booted(port: int) -> Host:
    device = TPM.Tpm(Bus(port).exchange)
    with device.primary(TPM.ENDORSEMENT, TPM.endorsement_template("ecc")) as ek:
        key = public.parse(ek.public, "EK")
    policy = policies.authorized(public.name(Hash.SHA256, AREA), AUTHORITY.reference)
    return Host(device, envelope.seal(("node1", "r" * 64, 3), key, Secret(CANARY), policy))


@pytest.fixture
def host(tpm: Tpm) -> Host:
    return booted(tpm.port)


def test_it_opens_by_whichever_approval_holds(host: Host) -> None:
    old = approve({7: bytes(32), 11: b"\1" * 32})
    assert host.open(approve(NOW)) == host.open(old, approve(NOW)) == CANARY
    assert host.open(approve(NOW, bytes(32))) == CANARY, "one of several values"


def test_a_chain_that_nobody_approved_opens_nothing(host: Host, tpm: Tpm) -> None:
    assert host.open(approve(NOW)) == CANARY
    tpm.run("pcrextend", f"11:sha256={'ab' * 32}")
    with pytest.raises(HOST.Refused, match=r"^no approved boot chain .*PCR 7\+11"):
        host.open(approve(NOW))
    with pytest.raises(HOST.Refused, match="none is approved"):
        host.open()


def test_an_approval_by_somebody_else_opens_nothing(host: Host) -> None:
    other = ec.derive_private_key(6, ec.SECP256R1())
    good = approve(NOW)
    forged = other.sign(good.approved + AUTHORITY.reference, ec.ECDSA(Hash.SHA256.primitive))
    with pytest.raises(HOST.Refused):
        host.open(replace(good, signature=policies.tpm_signature(forged, other.curve)))
    theirs = replace(AUTHORITY, public=public.signing_key(other.public_key()))
    with pytest.raises(HOST.Refused):
        host.open(
            replace(good, signature=policies.tpm_signature(forged, other.curve)),
            authority=theirs,
        )


def test_another_host_s_tpm_does_not_open_it(host: Host, other_tpm: Tpm) -> None:
    stranger = booted(other_tpm.port)
    with pytest.raises(HOST.Refused, match=r"^this TPM is not the one"):
        stranger.open(approve(NOW), sealed=host.sealed)


def test_an_envelope_of_another_site_host_or_number_is_refused(host: Host) -> None:
    with pytest.raises(HOST.Refused, match="not signed by this site"):
        host.open(approve(NOW), site=Ed25519PrivateKey.generate())
    with pytest.raises(HOST.Refused, match="is for node2, and this is node1"):
        host.open(approve(NOW), sealed=replace(host.sealed, host="node2"))
    with pytest.raises(HOST.Refused, match="has the number 2, and 3 was opened"):
        host.open(approve(NOW), sealed=replace(host.sealed, sequence=2))
    with pytest.raises(HOST.Refused, match="content is not what was sealed"):
        host.open(approve(NOW), sealed=replace(host.sealed, revision="s" * 64))
    with pytest.raises(HOST.Refused, match="content is not what was sealed"):
        host.open(approve(NOW), sealed=replace(host.sealed, sequence=4))


def test_no_byte_of_the_file_can_be_changed(host: Host) -> None:
    file = envelope.encode(host.sealed, AUTHORITY, [approve(NOW)], SITE)
    for at in range(0, len(file), 37):
        changed = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
        with pytest.raises(HOST.Refused):
            HOST.Envelope(changed, [SITE_KEY])
        with pytest.raises(HOST.Refused):
            HOST.Envelope(file[:at], [SITE_KEY])
