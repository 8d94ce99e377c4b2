"""How a host hears that it is to enrol its TPM: in the answer to "I am up", and by a kernel argument."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.service.alive import Message
from provision.web import boot_app
from tests.helpers.agent import booted
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import IP, MAC1, MAC2, Site, edge, origin, request, site
from tests.helpers.tpm_samples import tpm

ARGUMENT = b"provision.enroll=http://10.0.0.1"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def said(message: Message) -> bytes:
    state = "up" if message.up else "down"
    body = {"host": message.host, "boot": message.boot, "run": message.run, "sequence": message.sequence}
    return json.dumps(body | {"state": state, "tag": message.tag.hex()}).encode()


def test_a_host_that_is_up_is_told_while_it_is_wanted(here: Site) -> None:
    app, agent = boot_app.create(here.service.netboot, edge()), booted(here)

    def answer(up: bool = True) -> tuple[int, bytes]:
        reply = request(app, "POST", "/alive", body=said(agent.message(up)), peer=IP[MAC2])
        return reply.status, reply.body

    assert answer() == (204, b"")
    here.service.tpms.open("node1", 30, ROOT)
    assert answer() == (204, b""), "another host's window is not its own"
    here.service.tpms.open("node2", 30, ROOT)
    assert answer() == (200, b"enroll\n") and answer(up=False) == (204, b"")
    # One that has shown itself in this window is not asked again.
    tpms = here.service.core.store.tpms
    tpms.put(tpm("node2", known="", at=here.clock()))
    assert answer() == (204, b"")
    here.clock.advance(minutes=1)
    here.service.tpms.open("node2", 30, ROOT)
    assert answer() == (200, b"enroll\n")
    here.clock.advance(minutes=30)
    assert answer() == (204, b"")
    here.service.tpms.open("node2", 30, ROOT)
    tpms.put(tpm("node2", at=here.clock()))
    assert answer() == (204, b"")


def test_a_boot_from_the_network_has_a_kernel_argument_while_it_is_wanted(here: Site) -> None:
    here.window(boots=3)
    netboot = here.service.netboot

    def told() -> list[bool]:
        return [ARGUMENT in netboot.pxelinux_config(origin(), MAC1), ARGUMENT in netboot.grub_config(origin())]

    assert told() == [False, False]
    here.service.tpms.open("node1", 30, ROOT)
    assert told() == [True, True]
    here.service.tpms.close("node1", ROOT)
    assert told() == [False, False]
