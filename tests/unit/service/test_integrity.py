"""A base that a disk has damaged since its import is found, and given away no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.boot import Medium
from provision.errors import Unavailable
from provision.server.run import _look_at_images
from provision.service.events import kind_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC2, Site, boot_iso, everything, origin, touch


def rot(path: Path, at: int = 100) -> bytes:
    """Change a few bytes of a file, but neither its size nor its time; returns the bytes that it had."""
    before = path.read_bytes()
    path.write_bytes(before[:at] + bytes(4) + before[at + 4 :])
    touch(path)
    return before


def test_what_is_damaged_is_given_to_nobody(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    core, netboot = here.service.core, here.service.netboot
    whole = rot(here.base.iso.path)
    assert [error.fact for error in core.integrity.look()] != []
    assert core.integrity.look() == [], "what is known is not new"
    assert not core.integrity.is_whole(here.base.id)
    assert "base.iso: is damaged" in caplog.text
    for call in (
        lambda: here.service.media.plan("node2", Medium.ISO, ROOT),
        lambda: boot_iso(netboot, origin(MAC2), 0, everything),
        lambda: netboot.kernel(here.base.id),
    ):
        with pytest.raises(Unavailable, match="damaged"):
            call()
    assert b"(rule: unavailable)" in netboot.pxelinux_config(origin(MAC2), MAC2)
    assert "damaged" in str(here.service.images.listing()[0])
    here.base.iso.path.write_bytes(whole)
    touch(here.base.iso.path)
    core.integrity.verify(here.base.id)
    assert here.service.media.plan("node2", Medium.ISO, ROOT).size


def test_what_an_operator_finds_is_an_event_too(here: Site) -> None:
    core = here.service.core
    rot(here.base.iso.path)
    with pytest.raises(Unavailable, match="damaged"):
        core.integrity.verify(here.base.id)
    for _ in range(2):
        _look_at_images(core)
    (entry,) = here.audit("image-damaged")
    assert entry["subject"].endswith("base.iso") and "damaged" in entry["reason"]
    assert kind_of(entry) == "image-damaged"
