"""When a host's secrets go anywhere because only its TPM opens them: every combination of what it takes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from provision.boot import OPERATOR, Channel, ChannelKind, Medium, Payload, Requester
from provision.denial import Denial
from provision.policy import Ground, Release, decide
from provision.wrapping_rules import Proof, TpmStanding, Wrapping
from tests.helpers.principals import ROOT
from tests.unit.test_policy import MGMT, NOW, OFFICE, OFFICE_PEER, PEER, SITE, rule, state

UNBOUND, UNAPPROVED = ("It boots by BIOS", "Set it to UEFI"), ("Its image is revoked", "Give it a newer one")
BOUND = Wrapping(TpmStanding.ENROLLED)
CHANNELS = {ChannelKind.MANAGEMENT: (MGMT, PEER), ChannelKind.GENERAL: (OFFICE, OFFICE_PEER)}
MISSING = {TpmStanding.UNKNOWN: "tpm-not-enrolled", TpmStanding.PENDING: "tpm-pending"}


def asked(wrapping: Wrapping, medium: Medium, payload: Payload, channel: Channel, peer: Requester) -> Release | Denial:
    return decide(replace(state(), wrapping=wrapping), SITE, medium, channel, peer, payload, NOW)


@pytest.mark.parametrize("tpm", TpmStanding)
@pytest.mark.parametrize("unbound", [None, UNBOUND])
@pytest.mark.parametrize("unapproved", [None, UNAPPROVED])
def test_every_combination(
    tpm: TpmStanding, unbound: tuple[str, str] | None, unapproved: tuple[str, str] | None
) -> None:
    wrapping = Wrapping(tpm, unbound, unapproved)
    lacks = MISSING.get(tpm) or ("chain-not-bound" if unbound else "") or ("chain-not-approved" if unapproved else "")
    for medium, payload, kind in product((Medium.PXE, Medium.HTTP_BOOT, Medium.ENVELOPE), Payload, CHANNELS):
        if medium is Medium.ENVELOPE and payload is not Payload.WRAPPED:
            with pytest.raises(ValueError, match="wrapped secrets, and nothing else"):
                asked(wrapping, medium, payload, *CHANNELS[kind])
            continue
        answer = asked(wrapping, medium, payload, *CHANNELS[kind])
        if payload is Payload.WRAPPED:
            expected = lacks
        else:
            clear_on_general = payload is Payload.CLEAR and kind is ChannelKind.GENERAL
            expected = "secrets-on-general" if clear_on_general else ""
        assert (rule(answer) if expected else isinstance(answer, Release)) == (expected or True), (
            medium,
            payload,
            kind,
        )
        if isinstance(answer, Release):
            assert answer.payload is payload


REFUSED = Proof(("It has booted something else", "Look at its console"))


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("proof", [None, Proof(), REFUSED])
def test_a_host_that_is_online_gives_a_proof_as_well(online: bool, proof: Proof | None) -> None:
    wanted = {None: "tpm-not-proved", REFUSED: "tpm-proof-failed"}.get(proof) if online else None
    answer = asked(
        Wrapping(TpmStanding.ENROLLED, None, None, online, proof), Medium.ENVELOPE, Payload.WRAPPED, MGMT, PEER
    )
    assert (rule(answer) if wanted else isinstance(answer, Release)) == (wanted or True)
    for lacks, first in (
        (Wrapping(TpmStanding.PENDING, None, None, online, proof), "tpm-pending"),
        (Wrapping(TpmStanding.ENROLLED, UNBOUND, None, online, proof), "chain-not-bound"),
        (Wrapping(TpmStanding.ENROLLED, None, UNAPPROVED, online, proof), "chain-not-approved"),
    ):
        assert rule(asked(lacks, Medium.ENVELOPE, Payload.WRAPPED, MGMT, PEER)) == first, "no proof makes up for it"


def test_a_denial_says_what_is_missing_and_the_way_out() -> None:
    words = {
        Wrapping(): "provision enroll node7",
        Wrapping(TpmStanding.PENDING): "provision tpm accept node7",
        Wrapping(TpmStanding.ENROLLED, UNBOUND): "It boots by BIOS. Set it to UEFI.",
        Wrapping(TpmStanding.ENROLLED, online=True): "only with a proof of its boot ('tpm: online'), and it gave none",
        Wrapping(
            TpmStanding.ENROLLED, online=True, proof=REFUSED
        ): "It has booted something else. Look at its console.",
        Wrapping(TpmStanding.ENROLLED, None, UNAPPROVED): "Its image is revoked. Give it a newer one.",
    }
    for wrapping, text in words.items():
        assert text in str(asked(wrapping, Medium.ENVELOPE, Payload.WRAPPED, OFFICE, OFFICE_PEER))


def test_an_envelope_needs_no_window_and_no_host_that_is_down_and_a_wrapped_boot_does() -> None:
    for subject in (state(window=None), state(netboot="never"), replace(state(), heard=NOW)):
        there = replace(subject, wrapping=BOUND)
        envelope = decide(there, SITE, Medium.ENVELOPE, OFFICE, OFFICE_PEER, Payload.WRAPPED, NOW)
        assert isinstance(envelope, Release)
    shut = replace(state(window=None), wrapping=BOUND)
    assert rule(decide(shut, SITE, Medium.PXE, OFFICE, OFFICE_PEER, Payload.WRAPPED, NOW)) == "window-closed"


def test_an_envelope_is_for_the_host_itself_that_is_known_and_sound_and_whole() -> None:
    bound = replace(state(), wrapping=BOUND)
    for subject, channel, peer, expected in (
        (bound, OFFICE, replace(OFFICE_PEER, local=True), "local-peer"),
        (bound, OFFICE, replace(OFFICE_PEER, mac=None), "no-neighbour"),
        (bound, OFFICE, replace(OFFICE_PEER, mac="52:54:00:00:00:99"), "foreign-mac"),
        (bound, OFFICE, PEER, "off-prefix"),
        (bound, OPERATOR, Requester(principal=ROOT), "not-a-boot"),
        (replace(bound, ground=Ground(distrust="is older")), OFFICE, OFFICE_PEER, "store-not-trusted"),
        (replace(bound, exposed=("keytab",)), OFFICE, OFFICE_PEER, "credential-exposed"),
        (replace(bound, missing=("its credential 'keytab'",)), OFFICE, OFFICE_PEER, "incomplete"),
    ):
        assert rule(decide(subject, SITE, Medium.ENVELOPE, channel, peer, Payload.WRAPPED, NOW)) == expected
    unknown = decide(None, SITE, Medium.ENVELOPE, OFFICE, OFFICE_PEER, Payload.WRAPPED, NOW)
    assert rule(unknown) == "unknown-host"
