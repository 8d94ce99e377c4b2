"""Policy digests as a TPM has them, and what the site's signature approves and takes back."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provision.secret import Secret
from provision.tpm import policies, public, wrapping
from provision.tpm.algorithms import Hash
from provision.tpm.policies import Index
from provision.tpm.wire import sized
from tests.helpers.tpm import Tpm

CANARY = b"canary-41ab-sealed"
REFERENCE = hashlib.sha256(b"base").digest()
SITE = ec.derive_private_key(0x1234567, ec.SECP256R1())
INDEX = Index(0x01800020, 0x00020002 | 0x00040000 | 0x02000000, 8)
"""Owner writes; owner and anybody read; no lockout."""


def trial(tpm: Tpm, *commands: tuple[str, ...]) -> bytes:
    """The digest that the TPM has after these policy commands."""
    tpm.run("startauthsession", "-S", "t.session")
    for command, *arguments in commands:
        tpm.run(command, "-S", "t.session", "-L", "digest", *arguments)
    tpm.run("flushcontext", "t.session")
    return tpm.get("digest")


def values(tpm: Tpm, *numbers: int) -> dict[int, bytes]:
    """The PCRs as they are."""
    tpm.run("pcrread", f"sha256:{','.join(map(str, numbers))}", "-o", "values")
    content = tpm.get("values")
    return {number: content[32 * at : 32 * at + 32] for at, number in enumerate(numbers)}


def test_pcrs_and_branches(tpm: Tpm) -> None:
    tpm.run("pcrextend", f"11:sha256={'ab' * 32}")
    now = values(tpm, 4, 11)
    one = policies.pcr(policies.START, now)
    assert trial(tpm, ("policypcr", "-l", "sha256:4,11")) == one
    tpm.put("one", one), tpm.put("two", bytes(32))
    branches = policies.any_of([one, bytes(32)])
    assert trial(tpm, ("policypcr", "-l", "sha256:4,11"), ("policyor", "sha256:one,two")) == branches


def test_a_selection_has_pcrs() -> None:
    for numbers in ((), (24,)):
        with pytest.raises(ValueError, match="PCRs 0 to 23"):
            policies.selection(numbers)
    with pytest.raises(ValueError, match="2 to 8"):
        policies.any_of([bytes(32)])


def set_version(tpm: Tpm, version: int, *, new: bool) -> None:
    """Write the lowest version that is allowed."""
    handle = f"{INDEX.handle:#010x}"
    if new:
        tpm.run("nvdefine", "-C", "o", handle, "-s", "8", "-a", "ownerwrite|ownerread|authread|no_da")
    tpm.put("version", version.to_bytes(8, "big"))
    tpm.run("nvwrite", "-C", "o", handle, "-i", "version")


def approve(tpm: Tpm, approved: bytes) -> None:
    """Give the host the site's key and signature, as files."""
    tpm.put("site.pub", sized(public.signing_key(SITE.public_key())))
    tpm.put("approved", approved), tpm.put("ref", REFERENCE)
    signature = SITE.sign(approved + REFERENCE, ec.ECDSA(Hash.SHA256.primitive))
    tpm.put("sig", policies.tpm_signature(signature, SITE.curve))


def unseal(tpm: Tpm, version: int) -> str:
    """Open the object by the approved policy "the version is allowed, and PCR 11 is as it is"."""
    tpm.run("loadexternal", "-C", "o", "-u", "site.pub", "-c", "site.ctx", "-n", "site.name")
    argv = ("-c", "site.ctx", "-g", "sha256", "-m", "message", "-s", "sig", "-t", "ticket")
    tpm.put("message", tpm.get("approved") + tpm.get("ref"))
    tpm.run("verifysignature", *argv)
    tpm.run("startauthsession", "--policy-session", "-S", "p.session")
    tpm.put("operand", version.to_bytes(8, "big"))
    steps = (
        ("policynv", "-S", "p.session", "-C", f"{INDEX.handle:#010x}", "-i", "operand", f"{INDEX.handle:#010x}", "ule"),
        ("policypcr", "-S", "p.session", "-l", "sha256:11"),
        ("policyauthorize", "-S", "p.session", "-i", "approved", "-n", "site.name", "-q", "ref", "-t", "ticket"),
        ("unseal", "-c", "o.ctx", "-p", "session:p.session"),
    )
    for command, *arguments in steps:
        done = tpm.run(command, *arguments, ok=False)
        if done.returncode:
            return f"{command} refused"
    return done.stdout


def test_what_the_site_approves_opens_until_it_is_taken_back(tpm: Tpm) -> None:
    key = public.parse(tpm.endorsement_key("ecc"), "EK")
    set_version(tpm, 1, new=True)
    tpm.run("nvreadpublic", f"{INDEX.handle:#010x}")
    site_name = public.name(Hash.SHA256, public.signing_key(SITE.public_key()))
    wrapped = wrapping.wrap(key, Secret(CANARY), policies.authorized(site_name, REFERENCE))
    for name, data in (("pub", wrapped.public), ("dup", wrapped.duplicate), ("seed", wrapped.seed)):
        tpm.put(name, data)
    files = ("-u", "pub", "-i", "dup", "-s", "seed", "-r", "prv")
    assert tpm.by_endorsement("import", "-C", "ek.ctx", "-P", "session:ek.session", *files)
    assert tpm.by_endorsement(
        "load", "-C", "ek.ctx", "-P", "session:ek.session", "-u", "pub", "-r", "prv", "-c", "o.ctx"
    )

    def approved(version: int) -> bytes:
        return policies.pcr(policies.at_least(policies.START, INDEX.name, version), values(tpm, 11))

    approve(tpm, approved(3))
    assert unseal(tpm, 3) == CANARY.decode()
    assert tpm.get("site.name") == site_name
    tpm.run("pcrextend", f"11:sha256={'cd' * 32}")
    assert unseal(tpm, 3) == "policyauthorize refused", "another image, which nobody has approved"
    approve(tpm, approved(4))
    assert unseal(tpm, 4) == CANARY.decode(), "nothing is wrapped anew for a new image"
    set_version(tpm, 5, new=False)
    assert unseal(tpm, 4) == "policynv refused", "a version that was taken back"
