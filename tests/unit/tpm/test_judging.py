"""What a confirmed log must show: our programs and no other, and what they have read, on firmware of any maker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import pytest

from provision.tpm import chains, event_log
from provision.tpm.boot_chain import application_events, unified_kernel_events
from provision.tpm.chains import Binding, Chain, UnifiedKernel
from provision.tpm.event_log import Event, EventType
from provision.tpm.judging import JUDGED, Expected, judge
from provision.tpm.quoted_log import Confirmed
from provision.tpm.quotes import Quote
from tests.helpers.firmware_log import enforced, log_of

IMAGE = UnifiedKernel(b"u" * 32, b"k" * 32, {".linux": b"l" * 32, ".cmdline": b"c" * 32, ".initrd": b"i" * 32})
SHIM, LOADER, KERNEL = (bytes([number]) * 32 for number in b"sgk")
CERTIFICATE = b"the site's certificate"
MARK = sha256(CERTIFICATE).hexdigest()
QUOTE = Quote(b"", 3, 0, True, b"", b"")


def measured(pcr: int, kind: int, data: bytes) -> Event:
    return Event(pcr, kind, sha256(data).digest(), data)


def program(digest: bytes) -> Event:
    return Event(4, EventType.EFI_BOOT_SERVICES_APPLICATION, digest, b"")


def shown(*events: Event) -> Confirmed:
    values = event_log.replay(events)
    return Confirmed(QUOTE, {pcr: values.get(pcr, bytes(32)) for pcr in JUDGED}, events)


def keys(*certificates: bytes, secure: bytes = b"\1") -> tuple[Event, ...]:
    return event_log.parse(log_of(enforced(*certificates, secure=secure)), "log")


COMMANDS = tuple(measured(8, EventType.IPL, text) for text in (b"linux /kernel", b"boot"))
FILES = tuple(measured(9, EventType.IPL, text) for text in (b"kernel", b"initrd"))
PROGRAMS = SHIM, LOADER, KERNEL, KERNEL
BY_GRUB = chains.by_grub((*application_events(*PROGRAMS), *COMMANDS, *FILES))
GRUB, UKI = Expected((BY_GRUB,)), Expected(chains.unified(IMAGE))
SIGNED = replace(UKI, certificate=MARK)
SECTIONS = unified_kernel_events(IMAGE.sections)
CALLING, SEPARATOR, STARTED = application_events(IMAGE.digest)


def grub(*applications: Event, first: Sequence[Event] = keys(b"microsoft")) -> Confirmed:
    return shown(*first, *(applications or application_events(*PROGRAMS)), *COMMANDS, *FILES)


def uki(
    *applications: Event, first: Sequence[Event] = keys(CERTIFICATE), rest: Sequence[Event] = SECTIONS
) -> Confirmed:
    return shown(*first, *(applications or (CALLING, SEPARATOR, STARTED)), *rest)


RETRIED = (CALLING, SEPARATOR, *map(program, (SHIM, *PROGRAMS)))
WORDS = (CALLING, SEPARATOR, measured(4, EventType.EFI_ACTION, b"Entering the menu"), STARTED)


@pytest.mark.parametrize(
    ("expected", "found", "pcrs"),
    [
        (GRUB, grub(), (4, 7, 8, 9)),
        (GRUB, grub(*application_events(*PROGRAMS, failures=9)), (4, 7, 8, 9)),
        (GRUB, grub(*RETRIED), (4, 7, 8, 9)),
        (UKI, uki(), (4, 7, 11, 12)),
        (UKI, uki(first=keys(b"an option ROM's", CERTIFICATE)), (4, 7, 11, 12)),
        (UKI, uki(*application_events(IMAGE.digest, IMAGE.kernel), first=keys(secure=b"\0")), (4, 7, 11, 12)),
        (UKI, uki(*WORDS), (4, 7, 11, 12)),
        (UKI, uki(SEPARATOR, STARTED), (4, 7, 11, 12)),
        (SIGNED, uki(), (4, 7, 11, 12)),
        (SIGNED, uki(first=(*keys(CERTIFICATE)[:2], measured(7, 0x80000001, b"dbx"), *keys(CERTIFICATE)[2:])), None),
    ],
)
def test_what_was_booted_is_bound_to_as_it_was_quoted(
    expected: Expected, found: Confirmed, pcrs: tuple[int, ...] | None
) -> None:
    binding = judge(expected, found)
    assert isinstance(binding, Binding), binding
    assert binding.pcrs == (pcrs or (4, 7, 11, 12))
    assert binding.branches == ({pcr: found.values[pcr] for pcr in binding.pcrs},)
    # Neither the firmware's keys nor the loaders alone.
    assert set(binding.pcrs) - {4, 7}


PE = b"MZ" + b"\0" * 60 + b"PE\0\0" + b"code" * 5
FOREIGN = program(b"f" * 32)
NAMED_OTHERWISE = [
    measured(4, EventType.EFI_ACTION, PE),
    measured(4, EventType.SEPARATOR, PE),
    measured(4, EventType.IPL, b"text"),
    measured(4, 0x80000004, b"driver"),
    Event(4, EventType.EFI_ACTION, b"f" * 32, b"Calling EFI Application from Boot Option"),
    Event(4, EventType.SEPARATOR, b"f" * 32, bytes(4)),
    measured(4, EventType.EFI_ACTION, b"x" * 121),
    measured(4, EventType.SEPARATOR, b"\xff" * 4),
]
OTHER = (
    "its firmware started a program that is not part of its boot chain: efi boot services application 6666666666666666"
)
LESS = "its firmware did not start the programs of its boot chain"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (uki(CALLING, SEPARATOR, FOREIGN, STARTED), OTHER),
        (uki(CALLING, SEPARATOR, STARTED, FOREIGN), OTHER),
        (uki(CALLING, SEPARATOR, FOREIGN), OTHER),
        (uki(CALLING, SEPARATOR), LESS),
        (uki(CALLING, SEPARATOR, program(IMAGE.kernel)), OTHER.replace("66" * 8, "6b" * 8)),
        (uki(rest=SECTIONS[:-1]), "PCR 11 is not the computed one: '.initrd' (696969"),
        (uki(rest=(*SECTIONS[:-1], replace(SECTIONS[-1], digest=b"x" * 32))), "PCR 11 is not the computed one"),
        (
            uki(rest=(*SECTIONS, measured(11, EventType.IPL, b"phase"))),
            "no further event was expected, but it measured",
        ),
        (uki(rest=(*SECTIONS, measured(12, EventType.IPL, b"one.cred"))), "PCR 12 is not the computed one"),
        *(
            (uki(CALLING, one, SEPARATOR, STARTED), "its firmware measured into PCR 4 something that is not")
            for one in NAMED_OTHERWISE
        ),
    ],
)
def test_another_program_another_image_or_a_companion_is_refused(found: Confirmed, said: str) -> None:
    why = judge(UKI, found)
    assert isinstance(why, str) and said in why


@pytest.mark.parametrize(
    "first",
    [
        keys(),
        keys(secure=b"\0"),
        keys(CERTIFICATE, secure=b"\0"),
        keys(b"another's"),
        keys(b"a ROM's", CERTIFICATE),
        (),
    ],
)
def test_a_host_that_was_enrolled_by_the_site_s_certificate_boots_by_no_other(first: Sequence[Event]) -> None:
    assert isinstance(judge(UKI, uki(first=first)), Binding)
    why = judge(SIGNED, uki(first=first))
    assert isinstance(why, str) and "by the certificate of the site" in why


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (grub(*application_events(SHIM, LOADER, KERNEL)), LESS),
        (grub(*application_events(SHIM, LOADER)), LESS),
        (grub(*application_events(LOADER, SHIM, KERNEL, KERNEL)), LESS),
        (grub(*application_events(FOREIGN.digest, *PROGRAMS)), OTHER),
        (grub(first=keys(secure=b"\0")), "that Secure Boot is on"),
        (grub(first=()), "that Secure Boot is on"),
        (grub(first=(measured(7, EventType.IPL, b"first"), *keys(b"microsoft"))), "that Secure Boot is on"),
        (shown(*keys(b"m"), *application_events(*PROGRAMS), *COMMANDS[:-1], *FILES), "PCR 8 is not the computed one"),
        (shown(*keys(b"m"), *application_events(*PROGRAMS), *COMMANDS, *FILES, FILES[0]), "PCR 9 is not the computed"),
    ],
)
def test_by_grub_every_program_command_and_file_counts(found: Confirmed, said: str) -> None:
    why = judge(GRUB, found)
    assert isinstance(why, str) and said in why


def test_who_is_to_boot_nothing_has_proved_nothing() -> None:
    assert judge(Expected(()), uki()) == "no boot chain is expected of it"
    assert BY_GRUB.chain is Chain.GRUB
