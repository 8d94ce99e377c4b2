"""An envelope while a host tries another signed image in a slot of its disk: it opens in that one and in the
one that the host falls back to."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.service.alive import Message
from provision.slots import HostSlots
from provision.stored import envelope_label
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL
from tests.helpers.tpm import Tpm
from tests.helpers.wrapped_site import UKI, Wrapped, bootable, wrapped


@pytest.fixture
def unified(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1, which has opened its envelope in the signed image of the site's base."""
    with wrapped(tmp_path / "site", tpm, UKI) as found:
        found.here.service.secure_boot.init(NewSecureBootKey(), ROOT)
        found.here.service.secure_boot.sign("base", SignUnified(), ROOT)
        found.enroll()
        found.boot()
        assert found.run()
        yield found


def moves_to_another_base(unified: Wrapped) -> str:
    """Let node1's base be another one, which is signed, too; returns its id."""
    here = unified.here
    here.service.core.store.bases.name("other", bootable(here.state, "other").id)
    here.service.secure_boot.sign("other", SignUnified(), ROOT)
    here.apply(UKI.replace("  node1:\n", "  node1:\n    base: other\n"))
    return here.service.core.bases()["other"]


def says(unified: Wrapped, text: str) -> None:
    """The host has said that of its slots."""
    unified.here.service.core.store.slots.put("node1", HostSlots(text, unified.here.clock()))


def test_both_images_open_it_while_an_update_is_tried_and_one_from_then_on(unified: Wrapped) -> None:
    old, a = unified.bindings(), unified.here.base.id
    b = moves_to_another_base(unified)
    says(unified, f"a a {a} - idle")
    new = unified.bindings()
    assert len(new) == 4 and [one.base for one in new] == ["", "", a, a]
    for binding in (new[0], old[0], new[0]):
        unified.tpm.restart()
        unified.boot(binding)
        assert unified.run(), unified.console
    says(unified, f"b a {a} {b} trying {b}")
    assert unified.bindings() == new, "it may fall back, still"
    says(unified, f"b b {a} {b} idle")
    assert unified.bindings() == new[:2]
    unified.tpm.restart()
    unified.boot(old[0])
    unified.refused("no approved boot chain", "chain")


def test_an_image_that_is_revoked_or_none_of_the_site_is_nothing_to_fall_back_to(unified: Wrapped) -> None:
    a = unified.here.base.id
    moves_to_another_base(unified)
    for text in ("a a - - idle", f"a a {'0f' * 32} - idle"):
        says(unified, text)
        assert len(unified.bindings()) == 2
    says(unified, f"a a {a} - idle")
    assert len(unified.bindings()) == 4
    unified.here.service.envelopes.revoke("base", ROOT)
    assert len(unified.bindings()) == 2


def is_up(unified: Wrapped, sequence: int) -> None:
    """The host says that it is up, with the key from its envelope, and nothing of slots."""
    said = Message("node1", envelope_label(1), "run2", sequence, True, b"")
    key = unified.here.service.core.store.keys.alive(said.host, said.boot).reveal()
    unified.here.service.netboot.phone_home.alive(replace(said, tag=hmac.digest(key, said.signed, "sha256")))


def test_a_host_that_was_booted_otherwise_has_nothing_to_fall_back_to(unified: Wrapped) -> None:
    a = unified.here.base.id
    moves_to_another_base(unified)
    says(unified, f"a a {a} - idle")
    is_up(unified, 1)
    assert len(unified.bindings()) == 4, "its word of the slots may be on the way"
    unified.here.clock.advance(minutes=10)
    is_up(unified, 2)
    assert len(unified.bindings()) == 2


def test_what_a_host_has_approved_by_lying_opens_nothing_of_another(unified: Wrapped) -> None:
    """TPMs look at the reference: see test_online."""
    here, a = unified.here, unified.here.base.id
    moves_to_another_base(unified)
    both = UKI.replace("  node1:\n", "  node1:\n    base: other\n").replace(
        "  node2:\n", "  node2:\n    base: other\n    chain: uki\n"
    )
    here.apply(both)
    says(unified, f"a a {a} - idle")
    files = []
    for host, peer in (("node1", "10.1.0.11"), ("node2", "10.1.0.12")):
        unified.peer = peer
        here.service.core.store.tpms.remove("node1")
        unified.enroll(host=host)
        status, content = unified.ask("http://10.1.0.1/envelope", "GET", None)
        assert status == 200, content
        files.append(json.loads(content.split(b"\n")[2]))
    lying, other = files
    assert len(lying["approvals"]) == 4 and len(other["approvals"]) == 2
    assert lying["approvals"][0]["approved"] == other["approvals"][0]["approved"], "the same image"
    assert lying["authority"]["public"] == other["authority"]["public"]
    assert lying["authority"]["reference"] != other["authority"]["reference"]


def test_an_image_to_fall_back_to_that_is_damaged_here_keeps_nobody_from_the_new_one(unified: Wrapped) -> None:
    a = unified.here.base.id
    moves_to_another_base(unified)
    says(unified, f"a a {a} - idle")
    assert len(unified.bindings()) == 4
    service = unified.here.service
    service.bindings._unified_kernels.clear()
    unified.here.base.kernel.path.unlink()
    assert len(unified.bindings()) == 2
    state = service.core.state("node1")
    assert len(service.bindings.expected(state, GENERAL).bindings) == 2
