"""A TPM opens what the server has made for it, and no other TPM, and nothing when the policy does not hold."""

from __future__ import annotations

import pytest

from provision.errors import Invalid
from provision.secret import Secret
from provision.tpm import policies, public, wrapping
from provision.tpm.algorithms import Hash
from provision.tpm.public import Public
from provision.tpm.wrapping import Wrapped
from tests.helpers.tpm import AK_ATTRIBUTES, Tpm

CANARY = b"canary-8f1d2c-the-host's-own-key"
PCRS = {4: bytes(32), 8: bytes(32), 9: bytes(32)}
POLICY = policies.pcr(policies.START, PCRS)


@pytest.fixture(params=["rsa", "ecc"])
def key(tpm: Tpm, request: pytest.FixtureRequest) -> Public:
    """The TPM's endorsement key."""
    return public.parse(tpm.endorsement_key(request.param), "EK")


def deliver(tpm: Tpm, wrapped: Wrapped, ok: bool = True) -> bool:
    """Let a host import the object; whether its TPM takes it."""
    tpm.put("pub", wrapped.public), tpm.put("dup", wrapped.duplicate), tpm.put("seed", wrapped.seed)
    files = ("-u", "pub", "-i", "dup", "-s", "seed", "-r", "prv")
    done = tpm.by_endorsement("import", "-C", "ek.ctx", "-P", "session:ek.session", *files, ok=ok)
    if done:
        tpm.by_endorsement("load", "-C", "ek.ctx", "-P", "session:ek.session", "-u", "pub", "-r", "prv", "-c", "o.ctx")
    return done


def unseal(tpm: Tpm, ok: bool = True) -> str:
    """What the object has, when its policy is PolicyPCR; all that is said when it does not open."""
    tpm.run("startauthsession", "--policy-session", "-S", "p.session")
    tpm.run("policypcr", "-S", "p.session", "-l", "sha256:4,8,9")
    done = tpm.run("unseal", "-c", "o.ctx", "-p", "session:p.session", ok=ok)
    return done.stdout + done.stderr


def test_the_tpm_opens_it_while_the_policy_holds(tpm: Tpm, key: Public) -> None:
    wrapping.require_endorsement_key(key, "EK")
    wrapped = wrapping.wrap(key, Secret(CANARY), POLICY)
    assert not any(CANARY in part for part in (wrapped.public, wrapped.duplicate, wrapped.seed))
    assert deliver(tpm, wrapped)
    tpm.run("readpublic", "-c", "o.ctx", "-n", "o.name")
    assert tpm.get("o.name") == wrapped.name
    assert unseal(tpm) == CANARY.decode()
    tpm.run("pcrextend", f"8:sha256={'11' * 32}")
    assert "0x99D" in unseal(tpm, ok=False).upper().replace("X", "x"), "a policy check failed"


def test_another_tpm_does_not_take_it(tpm: Tpm, other_tpm: Tpm, key: Public) -> None:
    other_tpm.endorsement_key("rsa" if key.curve is None else "ecc")
    wrapped = wrapping.wrap(key, Secret(CANARY), POLICY)
    assert not deliver(other_tpm, wrapped, ok=False)
    assert deliver(tpm, wrapped)


def test_nothing_of_it_can_be_changed(tpm: Tpm, key: Public) -> None:
    wrapped = wrapping.wrap(key, Secret(CANARY), POLICY)
    weaker = public.sealed_object(Hash.SHA256, policies.pcr(policies.START, {4: bytes(32)}), wrapped.public[-32:])
    flipped = bytearray(wrapped.duplicate)
    flipped[-1] ^= 1
    for changed in (
        Wrapped(len(weaker).to_bytes(2, "big") + weaker, wrapped.duplicate, wrapped.seed),
        Wrapped(wrapped.public, bytes(flipped), wrapped.seed),
    ):
        assert not deliver(tpm, changed, ok=False)


@pytest.mark.parametrize("size", [1, wrapping.MOST_SEALED])
def test_sizes_at_the_limits(tpm: Tpm, key: Public, size: int) -> None:
    assert deliver(tpm, wrapping.wrap(key, Secret(b"x" * size), POLICY))
    assert unseal(tpm) == "x" * size


def test_a_challenge_is_answered_by_the_tpm_that_has_both_keys(tpm: Tpm, key: Public) -> None:
    tpm.run("createprimary", "-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-a", AK_ATTRIBUTES, "-c", "ak.ctx")
    tpm.run("readpublic", "-c", "ak.ctx", "-f", "tpmt", "-o", "ak.pub", "-n", "ak.name")
    attestation = public.parse(tpm.get("ak.pub"), "AK")
    assert attestation.name == tpm.get("ak.name")
    asked = wrapping.challenge(key, attestation.name)
    # As tpm2-tools write it: a magic number and a version first.
    tpm.put("credential", bytes.fromhex("badcc0de00000001") + asked.credential + asked.seed)
    argv = ("-c", "ak.ctx", "-C", "ek.ctx", "-i", "credential", "-o", "value", "-P", "session:ek.session")
    assert tpm.by_endorsement("activatecredential", *argv)
    assert tpm.get("value") == asked.value.reveal()
    tpm.run("createprimary", "-C", "o", "-G", "ecc256:ecdsa-sha256:null", "-a", AK_ATTRIBUTES, "-c", "ak.ctx")
    assert not tpm.by_endorsement("activatecredential", *argv, ok=False), "it is for another key's name"


def test_a_key_that_is_not_fixed_to_its_tpm_is_not_an_endorsement_key(tpm: Tpm) -> None:
    attributes = "sensitivedataorigin|userwithauth|restricted|decrypt"
    tpm.run(
        "createprimary", "-C", "e", "-G", "rsa2048:aes128cfb", "-a", f"fixedtpm|fixedparent|{attributes}", "-c", "a"
    )
    tpm.run("create", "-C", "a", "-G", "rsa2048:aes128cfb", "-a", attributes, "-u", "free.pub", "-r", "free.prv")
    free = public.parse(tpm.get("free.pub")[2:], "EK")
    with pytest.raises(Invalid, match="is not an endorsement key"):
        wrapping.require_endorsement_key(free, "EK")
