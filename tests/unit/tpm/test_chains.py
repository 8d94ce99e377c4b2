"""Bindings and approvals; that TPMs agree is proved in tests/integration/tpm."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from provision.tpm import boot_chain, chains, policies
from provision.tpm.boot_chain import application_events
from provision.tpm.chains import Binding, Chain, UnifiedKernel
from provision.tpm.event_log import Event, EventType

IMAGE = UnifiedKernel(b"u" * 32, b"k" * 32, {".linux": b"l" * 32, ".cmdline": b"c" * 32, ".initrd": b"i" * 32})
KEY = ec.derive_private_key(5, ec.SECP256R1())
REFERENCE = b"base" * 8


def test_a_unified_kernel_is_bound_by_its_hash_whatever_failed_before() -> None:
    with_secure_boot, without = chains.unified(IMAGE)
    for binding, programs in ((with_secure_boot, (IMAGE.digest,)), (without, (IMAGE.digest, IMAGE.kernel))):
        assert binding.pcrs == (4, 11, 12) and binding.chain is Chain.UNIFIED
        for failures, values in enumerate(binding.branches):
            assert values[4] == boot_chain.applications(*programs, failures=failures)
            assert values[11] == boot_chain.unified_kernel(IMAGE.sections)
            assert values[12] == bytes(32), "nothing came beside it"
        assert len(binding.branches) == 8
    assert not {v[4] for v in with_secure_boot.branches} & {v[4] for v in without.branches}


def test_the_key_store_takes_the_place_of_the_hash_when_it_names_the_site() -> None:
    [binding] = chains.unified(IMAGE, b"7" * 32)
    [values] = binding.branches
    assert binding.chain is Chain.UNIFIED
    assert values == {7: b"7" * 32, 11: boot_chain.unified_kernel(IMAGE.sections), 12: bytes(32)}


def test_no_binding_is_to_the_key_store_or_the_loaders_alone() -> None:
    grub = chains.by_grub((*application_events(b"s" * 32), *(Event(n, EventType.IPL, b"x" * 32, b"") for n in (8, 9))))
    assert grub.pcrs == (4, 8, 9)
    for binding in (*chains.unified(IMAGE), *chains.unified(IMAGE, bytes(32)), grub):
        assert set(binding.pcrs) - {4, 7} and {8, 11} & set(binding.pcrs)


def test_an_approval_is_signed_over_version_and_values_and_reference() -> None:
    binding = Binding(Chain.UNIFIED, ({11: bytes(32)},))
    found = chains.approve(binding, 3, KEY, REFERENCE)
    policy = policies.pcr(policies.at_least(policies.START, chains.VERSION.name, 3), {11: bytes(32)})
    assert (found.version, found.pcrs, found.branches, found.approved) == (3, (11,), (), policy)
    first, second = (int.from_bytes(found.signature[at : at + 32], "big") for at in (6, 40))
    KEY.public_key().verify(encode_dss_signature(first, second), policy + REFERENCE, ec.ECDSA(SHA256()))
    assert chains.approve(binding, 4, KEY, REFERENCE).approved != policy


@pytest.mark.parametrize("number", [0, 7])
def test_each_branch_of_an_approval_is_one_policy(number: int) -> None:
    binding = chains.unified(IMAGE)[0]
    found = chains.approve(binding, 1, KEY, REFERENCE)
    before = policies.at_least(policies.START, chains.VERSION.name, 1)
    assert found.branches[number] == policies.pcr(before, binding.branches[number])
    assert found.approved == policies.any_of(found.branches)
