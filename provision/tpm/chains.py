"""Which boot chains a secret is bound to, and the site's approval of one. There are two, and no others.

A unified kernel that the site has made: initrd and command line are inside of what firmware hashes, so PCR 4 (its
hash) and 11 (its sections) say it all, or 7 and 11 where firmware took it by the site's own certificate. And shim,
signed GRUB and a kernel by PXE under Secure Boot: PCR 4, 8 and 9. PCRs 8, 9, 11 and 12 can be extended by any program
afterwards, so they count only beside 4, or beside a 7 that names the site's certificate. Never 7 alone, nor 4 and 7: a
rogue server with the same signed shim, GRUB and kernel has these, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec

from provision.tpm import policies
from provision.tpm.algorithms import Hash
from provision.tpm.boot_chain import (
    APPLICATIONS,
    COMPANIONS,
    KERNEL_SECTIONS,
    MOST_FAILURES,
    application_events,
    unified_kernel_events,
)
from provision.tpm.envelope import Approval
from provision.tpm.event_log import Event, replay
from provision.tpm.grub_chain import COMMANDS, FILES
from provision.tpm.policies import Index

KEY_STORE = 7
"""PCR: whether Secure Boot is on, the keys that firmware trusts, and by which of them it took a program."""

VERSION = Index(0x01805056, 0x00020002 | 0x00040000 | 0x02000000, 8)
"""Where a TPM has the lowest version of an approval that it takes, which takes older ones back. The owner of the TPM
writes it, and anybody reads it; wrong tries lock nothing."""

_NONE = bytes(32)


class Chain(StrEnum):
    """A boot chain that can be bound."""

    UNIFIED = "unified kernel"
    GRUB = "shim, GRUB and kernel by PXE"


@dataclass(frozen=True)
class Binding:
    """The values that a chain's PCRs have: all of one of the `branches`. `expected` are the events behind the first.
    `when` tells bindings of one chain apart, in words. `base` is the id of the base image that is booted, when it is
    another than the one that the host is to have."""

    chain: Chain
    branches: tuple[Mapping[int, bytes], ...]
    expected: tuple[Event, ...] = field(default=(), repr=False)
    when: str = ""
    base: str = ""

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs, in the order of their numbers."""
        return tuple(sorted(self.branches[0]))

    def __str__(self) -> str:
        return f"{self.chain} (PCR {'+'.join(map(str, self.pcrs))})"


@dataclass(frozen=True)
class UnifiedKernel:
    """A unified kernel: the Authenticode hash of the whole and of the kernel in it, and the SHA-256 of each measured
    section by its name, in the stub's order."""

    digest: bytes
    kernel: bytes
    sections: Mapping[str, bytes]


def unified(image: UnifiedKernel, key_store: bytes | None = None) -> tuple[Binding, ...]:
    """The bindings to a unified kernel. `key_store` is PCR 7 of a host whose firmware took a program by the certificate
    that the image is signed with, and by no other; nothing else serves. It does whatever boot options failed before.

    Without it there are two: with Secure Boot, and without, where firmware hashes the kernel in it, too. Up to seven
    boot options may have failed before.
    """
    sections = unified_kernel_events(image.sections)
    # Companions beside the image, and load options where Secure Boot is off, would be in PCR 12.
    rest = {KERNEL_SECTIONS: replay(sections)[KERNEL_SECTIONS], COMPANIONS: _NONE}
    if key_store is not None:
        return (Binding(Chain.UNIFIED, ({KEY_STORE: key_store, **rest},), sections),)
    programs = {"with Secure Boot": (image.digest,), "without Secure Boot": (image.digest, image.kernel)}
    return tuple(_by_hash(sections, rest, started, when) for when, started in programs.items())


def _by_hash(sections: tuple[Event, ...], rest: Mapping[int, bytes], programs: tuple[bytes, ...], when: str) -> Binding:
    started = [application_events(*programs, failures=failures) for failures in range(MOST_FAILURES + 1)]
    branches = tuple({APPLICATIONS: replay(events)[APPLICATIONS], **rest} for events in started)
    return Binding(Chain.UNIFIED, branches, (*started[0], *sections), when)


def by_grub(events: tuple[Event, ...]) -> Binding:
    """The binding to what `grub_chain.events` has."""
    values = replay(events)
    return Binding(Chain.GRUB, ({number: values[number] for number in (APPLICATIONS, COMMANDS, FILES)},), events)


def approve(
    binding: Binding,
    version: int,
    key: ec.EllipticCurvePrivateKey,
    reference: bytes,
    start: tuple[int, int] | None = None,
) -> Approval:
    """The site's approval of a binding under a reference, for TPMs that take this version; with a `start`, for one that
    has been reset and restarted just so many times."""
    allowed = policies.at_least(policies.START, VERSION.name, version)
    if start is not None:
        allowed = policies.in_start(allowed, start)
    digests = tuple(policies.pcr(allowed, values) for values in binding.branches)
    branches = digests if len(digests) > 1 else ()
    approved = policies.any_of(branches) if branches else digests[0]
    signature = key.sign(approved + reference, ec.ECDSA(Hash.SHA256.primitive))
    return Approval(version, binding.pcrs, branches, approved, policies.tpm_signature(signature, key.curve), start)
