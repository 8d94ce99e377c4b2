"""The host image's own program and a TPM: it opens what the server has wrapped, and nothing of it is on the bus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision.secret import Secret
from provision.tpm import policies, public, quotes, wrapping
from provision.tpm.algorithms import Hash
from provision.tpm.policies import Index
from provision.tpm.wire import sized
from provision.tpm.wrapping import Wrapped
from tests.helpers.host_programs import Bus, load
from tests.helpers.tpm import Tpm

CANARY = b"canary-77aa-key-of-the-envelope!"
SITE = ec.derive_private_key(99, ec.SECP256R1())
REFERENCE = b"base" * 8
INDEX = Index(0x01800020, 0x00020002 | 0x00040000 | 0x02000000, 8)


HOST = load("tpm")


@pytest.fixture
def bus(tpm: Tpm) -> Bus:
    return Bus(tpm.port)


@pytest.fixture
def host(bus: Bus) -> Any:
    return HOST.Tpm(bus.exchange)


@contextmanager
def opened(host: Any, kind: str, policy: bytes) -> Iterator[tuple[Any, Any]]:
    """The endorsement key and the object with CANARY under that policy, both loaded."""
    with host.primary(HOST.ENDORSEMENT, HOST.endorsement_template(kind)) as ek:
        key = public.parse(ek.public, "EK")
        wrapping.require_endorsement_key(key, "EK")
        wrapped: Wrapped = wrapping.wrap(key, Secret(CANARY), policy)
        with host.endorsement_policy() as session:
            private = host.import_(ek, session, wrapped.public, wrapped.duplicate, wrapped.seed)
        with host.endorsement_policy() as session, host.loaded(ek, session, private, wrapped.public) as sealed:
            assert sealed.name == wrapped.name
            yield ek, sealed


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_it_opens_what_was_wrapped_and_a_probe_sees_nothing(host: Any, bus: Bus, kind: str) -> None:
    policy = policies.pcr(policies.START, {4: bytes(32), 11: bytes(32)})
    with opened(host, kind, policy) as (ek, sealed):
        with host.policy(ek) as session:
            host.policy_pcr(session, [4, 11])
            assert host.unseal(sealed, session) == CANARY
        assert not any(CANARY in seen or CANARY[:8] in seen for seen in bus.seen)
        with host.policy(ek) as session, pytest.raises(HOST.TpmError) as refused:
            host.policy_pcr(session, [4])
            host.unseal(sealed, session)
        assert refused.value.code == 0x99D


def test_an_answer_that_was_changed_on_the_bus_is_refused(host: Any, bus: Bus) -> None:
    with opened(host, "ecc", policies.pcr(policies.START, {11: bytes(32)})) as (ek, sealed), host.policy(ek) as session:
        host.policy_pcr(session, [11])
        bus.flips = True
        with pytest.raises(HOST.TpmError, match="0x15e"):
            host.unseal(sealed, session)
        bus.flips = False


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_it_proves_that_its_attestation_key_stands_beside_the_endorsement_key(host: Any, kind: str) -> None:
    with host.primary(HOST.ENDORSEMENT, HOST.attestation_template()) as ak:
        attestation = public.parse(ak.public, "AK")
        quotes.require_attestation_key(attestation, "AK")
        message, signature = host.quote(ak, b"nonce", [0, 4])
        quotes.verify(message, signature, attestation, b"nonce", {0: bytes(32), 4: bytes(32)}, "node1")
        with (
            host.primary(HOST.ENDORSEMENT, HOST.endorsement_template(kind)) as ek,
            host.endorsement_policy() as session,
        ):
            asked = wrapping.challenge(public.parse(ek.public, "EK"), attestation.name)
            assert host.activate(ak, ek, session, asked.credential, asked.seed) == asked.value.reveal()
    with host.primary(HOST.ENDORSEMENT, HOST.attestation_template()) as again:
        assert again.public == attestation.data, "nothing of it has to be stored"


def test_what_the_site_approved_opens_until_it_is_taken_back(host: Any, tpm: Tpm) -> None:
    handle = f"{INDEX.handle:#010x}"
    tpm.run("nvdefine", "-C", "o", handle, "-s", "8", "-a", "ownerwrite|ownerread|authread|no_da")
    tpm.run("nvwrite", "-C", "o", handle, "-i", tpm.put("version", (1).to_bytes(8, "big")))
    site_area = public.signing_key(SITE.public_key())
    policy = policies.authorized(public.name(Hash.SHA256, site_area), REFERENCE)

    def approval(version: int) -> tuple[bytes, bytes]:
        approved = policies.pcr(policies.at_least(policies.START, INDEX.name, version), {11: bytes(32)})
        signature = SITE.sign(approved + REFERENCE, ec.ECDSA(Hash.SHA256.primitive))
        return approved, policies.tpm_signature(signature, SITE.curve)

    def unseal(ek: Any, sealed: Any, version: int) -> bytes:
        approved, signature = approval(version)
        with host.external(sized(site_area)) as site, host.policy(ek) as session:
            host.policy_nv(session, INDEX.handle, version.to_bytes(8, "big"))
            host.policy_pcr(session, [11])
            host.policy_authorize(session, site, approved, REFERENCE, signature)
            return bytes(host.unseal(sealed, session))

    with opened(host, "ecc", policy) as (ek, sealed):
        assert unseal(ek, sealed, 3) == CANARY
    tpm.run("nvwrite", "-C", "o", handle, "-i", tpm.put("version", (5).to_bytes(8, "big")))
    with opened(host, "ecc", policy) as (ek, sealed), pytest.raises(HOST.TpmError, match="0x149"):
        unseal(ek, sealed, 3)


def test_an_index_is_read_whole(host: Any, tpm: Tpm, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4
    tpm.run("nvdefine", "-C", "o", "0x01800021", "-s", "1024", "-a", "ownerwrite|ownerread|authread|no_da")
    tpm.run("nvwrite", "-C", "o", "0x01800021", "-i", tpm.put("content", content))
    assert host.read_nv(0x01800021) == content
