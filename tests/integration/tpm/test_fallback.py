"""An envelope while a host tries another signed image in a slot of its disk: it opens in that one and in the
one that the host falls back to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.slots import HostSlots
from tests.helpers.principals import ROOT
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
