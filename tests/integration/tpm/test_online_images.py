"""Hosts that prove each boot of a signed image: of the one that they are to have, of the one that they fall back to,
and of either with something beside it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.slots import HostSlots
from provision.tpm import event_log
from provision.tpm.chains import Binding
from provision.tpm.event_log import Event, EventType
from tests.helpers.firmware_log import enforced, entry, log_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, GENERAL
from tests.helpers.tpm import Tpm
from tests.helpers.wrapped_site import UKI, Wrapped, bootable, wrapped

ONLINE = UKI.replace("    chain: uki\n", "    chain: uki\n    tpm: online\n", 1)
KEYS = event_log.parse(log_of(enforced(secure=b"\0")), "log")


@pytest.fixture
def host(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1, which has opened its envelope, and is to have the base `other` instead of the one that it runs."""
    with wrapped(tmp_path / "site", tpm, ONLINE) as found:
        here = found.here
        here.service.core.store.bases.name("other", bootable(here.state, "other").id)
        here.service.secure_boot.init(NewSecureBootKey(), ROOT)
        for name in ("base", "other"):
            here.service.secure_boot.sign(name, SignUnified(), ROOT)
        found.enroll()
        boots(found, expected(found)[0])
        opens(found)
        yield found


def to_other(host: Wrapped) -> None:
    host.here.apply(ONLINE.replace("  node1:\n", "  node1:\n    base: other\n"))


def says(host: Wrapped, text: str) -> None:
    """The host has said that of its slots."""
    host.here.service.core.store.slots.put("node1", HostSlots(text, host.here.clock()))


def expected(host: Wrapped) -> tuple[Binding, ...]:
    """The boots that the host may prove."""
    service = host.here.service
    return service.bindings.expected(service.core.state("node1"), GENERAL).bindings


def boots(host: Wrapped, binding: Binding, *more: Event) -> None:
    # As a kernel does that is shut down: a TPM takes what ends otherwise as a guess at its secrets.
    host.tpm.run("shutdown", "-c")
    host.tpm.restart()
    host.log = b""
    host.measure((*KEYS, *binding.expected, *more))


def opens(host: Wrapped) -> None:
    place = host.root / "etc/provision/token"
    place.unlink(missing_ok=True)
    assert host.run(), host.console
    assert host.token() == CANARY


def refused(host: Wrapped, words: str) -> None:
    """It gets no envelope: not one that does not open."""
    host.console.clear()
    before = len(host.wire)
    assert not host.attempt()
    assert words in " ".join(host.console), host.console
    assert not any(one.startswith(b"provision-envelope") for one in host.wire[before:])
    last = host.here.service.proving.last("node1")
    assert last is not None and words in last.text


def test_both_images_are_proved_while_an_update_is_tried_and_one_from_then_on(host: Wrapped) -> None:
    a, b = host.here.base.id, host.here.service.core.bases()["other"]
    old = expected(host)[0]
    to_other(host)
    boots(host, old)
    refused(host, "PCR 11 is not the computed one")
    says(host, f"a a {a} - idle")
    new = expected(host)[0]
    assert [one.base for one in expected(host) if one.branches == old.branches] == [a]
    for binding in (new, old):
        boots(host, binding)
        opens(host)
    says(host, f"b a {a} {b} trying {b}")
    boots(host, old)
    opens(host)
    says(host, f"b b {a} {b} idle")
    boots(host, old)
    refused(host, "PCR 11 is not the computed one")
    says(host, f"a a {a} {b} failed {b} 1 libvirt does not answer")
    host.here.service.envelopes.revoke("base", ROOT)
    boots(host, old)
    refused(host, "PCR 11 is not the computed one")
    boots(host, new)
    opens(host)


def test_what_came_beside_an_image_is_refused_before_there_is_an_envelope(host: Wrapped) -> None:
    """A companion `.cred` file, or load options: the values of both images are those without."""
    old = expected(host)[0]
    to_other(host)
    says(host, f"a a {host.here.base.id} - idle")
    for binding in (expected(host)[0], old):
        beside = Event(12, EventType.IPL, sha256(b"one.cred").digest(), b"one.cred")
        boots(host, binding, beside)
        refused(host, "is not the computed one")
        # One who leaves it out of the log shows another value than the quoted one.
        host.log = host.log.removesuffix(entry(beside))
        refused(host, "log does not give the quoted PCR 12")
        boots(host, binding)
        opens(host)
