"""A base that a disk has damaged since its import is found, and given away no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.boot import Medium
from provision.errors import Unavailable
from provision.service import integrity
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC2, Site, boot_iso, everything, origin, site, touch


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def rot(path: Path, at: int = 100) -> bytes:
    """Change a few bytes of a file, but neither its size nor its time; returns the bytes that it had."""
    before = path.read_bytes()
    path.write_bytes(before[:at] + bytes(4) + before[at + 4 :])
    touch(path)
    return before


def test_what_is_damaged_is_given_to_nobody(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    core, netboot = here.service.core, here.service.netboot
    whole = rot(here.base.iso.path)
    core.scrub.look()
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
    here.service.images.verify("base")
    assert here.service.media.plan("node2", Medium.ISO, ROOT).size


def test_a_service_looks_by_itself_and_stops(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_FIRST", 0.0)
    rot(here.base.kernel.path)
    stop = threading.Event()
    thread = threading.Thread(target=here.service.core.scrub.run, args=(stop,))
    thread.start()
    with pytest.raises(Unavailable, match="kernel"):
        for _ in range(500):
            here.service.core.base(here.base.id)
            stop.wait(0.02)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
