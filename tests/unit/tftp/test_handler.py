"""What the TFTP handler gives to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from provision.errors import Denied, Gone, NotFound, ProvisionError
from provision.tftp.handler import handler
from provision.tftp.packet import TftpError, clean_name
from provision.tftp.server import TftpRequest
from provision.tftp.session import Answer
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, GENERAL, IP, MAC1, MAC2, STRANGER, Site, edge, site

CONFIG = f"pxelinux.cfg/01-{MAC1.replace(':', '-')}"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window()
        yield opened


def answer(here: Site, path: str, peer: str = IP[MAC1], general: bool = False) -> Answer:
    where = edge(GENERAL, {"10.1.0.11": MAC1}) if general else edge()
    serve = handler(here.service.netboot, where)

    async def ask() -> Answer:
        return await serve(TftpRequest(clean_name(path.encode()), IPv4Address(peer), {}))

    return asyncio.run(ask())


def get(here: Site, path: str, peer: str = IP[MAC1]) -> bytes:
    found = answer(here, path, peer)
    try:
        if found.delivery is not None:
            asyncio.run(found.delivery.acknowledged())
        return found.content.read(0, found.content.size)
    finally:
        found.close()


def used(here: Site) -> int:
    window = here.service.core.store.windows.of("node1")
    assert window is not None
    return window.used


def test_a_boot_over_tftp(here: Site) -> None:
    assert get(here, "shimx64.efi") == here.base.loaders["shimx64.efi"].path.read_bytes()
    assert get(here, "//grubx64.efi") == here.base.loaders["grubx64.efi"].path.read_bytes()
    config = get(here, "/grub/grub.cfg").decode()
    paths = {word.strip("\"'") for word in config.split() if word.strip("\"'").startswith("/boot/")}
    assert {path.rsplit("/")[-1] for path in paths} == {"kernel", "0", "seed.cpio"}
    assert used(here) == 0
    bodies = {path.rsplit("/")[-1]: get(here, path) for path in sorted(paths)}
    assert bodies["kernel"] == here.base.kernel.path.read_bytes()
    assert bodies["0"] == here.base.initrds[0].path.read_bytes()
    assert CANARY in bodies["seed.cpio"]
    assert used(here) == 1
    assert "http" not in config, "signed GRUB has no HTTP module"


def test_the_size_of_a_seed_costs_nothing(here: Site) -> None:
    get(here, "grub/grub.cfg")
    found = answer(here, "boot/seed/current/seed.cpio")
    assert found.delivery is not None and found.content.read_now(0, 512)
    assert used(here) == 0, "what is sent costs nothing before it has arrived"
    asyncio.run(found.delivery.acknowledged())
    assert used(here) == 1


def test_a_seed_is_withheld_when_its_host_changes_before_its_first_byte(here: Site) -> None:
    found = answer(here, "boot/seed/current/seed.cpio").delivery
    assert found is not None
    found.check()
    here.secret("node1", b"another-token")
    for step in (found.check, lambda: asyncio.run(found.acknowledged())):
        with pytest.raises(Gone):
            step()
    assert used(here) == 0


def test_progress_is_told(here: Site) -> None:
    get(here, "grub/grub.cfg")
    found = answer(here, f"boot/{here.base.id}/kernel")
    assert found.progress is not None
    found.progress(here.base.kernel.size // 2)
    found.content.close()
    status = here.service.reports.status(ROOT, "node1").hosts[0]
    assert status.parts == {"configuration": 100, "kernel": 50}


def test_the_pxelinux_configuration_over_tftp_is_the_same(here: Site) -> None:
    assert b"http://10.0.0.1/boot/" in get(here, CONFIG)
    assert b"foreign-mac" in get(here, CONFIG, IP[MAC2])


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "grub/x86_64-efi/command.lst",
        "grub/host.cfg",
        "pxelinux.cfg/default",
        "pxelinux.cfg/12345678-1234-1234-1234-123456789abc",
        "boot/" + "0" * 64 + "/kernel",
        "boot/" + "0" * 64 + "/initrd/0",
        "boot/{base}/initrd/7",
        "boot/{base}/base.iso",
        "boot/seed/x/seed.cpio",
        "bases/{base}/base.iso",
        "provision.db",
        "key",
        "http-boot/boot.iso",
        "revocations_sbat.efi",
    ],
)
def test_what_is_not_there(here: Site, path: str) -> None:
    with pytest.raises(NotFound):
        answer(here, path.format(base=here.base.id))
    assert used(here) == 0


@pytest.mark.parametrize("path", ["../key", "grub/../../key", "boot/../key", "..\\key", "a/./../../key"])
def test_no_path_leads_out(here: Site, path: str) -> None:
    with pytest.raises((NotFound, TftpError)):
        answer(here, path)


@pytest.mark.parametrize(
    ("peer", "rule"),
    [
        (IP[STRANGER], "unknown-host"),
        ("10.0.0.50", "unknown-host"),
        ("10.0.0.1", "unknown-host"),
        ("127.0.0.1", "unknown-host"),
        (IP[MAC1], None),
    ],
)
def test_the_seed_is_for_the_neighbour_only(here: Site, peer: str, rule: str | None) -> None:
    if rule is None:
        assert CANARY in get(here, "boot/seed/current/seed.cpio", peer)
        return
    with pytest.raises(Denied) as denied:
        answer(here, "boot/seed/current/seed.cpio", peer)
    assert denied.value.rule == rule
    assert b"exit" in get(here, "grub/grub.cfg", peer)


def test_a_general_network_has_no_seed(here: Site) -> None:
    with pytest.raises(Denied) as denied:
        answer(here, "boot/seed/current/seed.cpio", "10.1.0.11", general=True)
    assert denied.value.rule == "secrets-on-general"


def test_grub_tells_the_uuid_of_an_unknown_machine(here: Site) -> None:
    uuid = "12345678-1234-1234-1234-123456789abc"
    assert get(here, f"grub/uuid/{uuid}.cfg", IP[STRANGER]).strip() == b""
    assert here.service.reports.status(ROOT).unknown[0].uuid == uuid


def test_a_withdrawn_seed_is_gone(here: Site) -> None:
    path = next(w.strip("\"'") for w in get(here, "grub/grub.cfg").decode().split() if w.strip("\"'").endswith(".cpio"))
    here.secret("node1", b"another")
    with pytest.raises(Gone):
        answer(here, path)


def test_a_damaged_base_is_one_line(here: Site) -> None:
    here.base.kernel.path.unlink()
    with pytest.raises(ProvisionError, match=r"cannot be (read|opened)"):
        answer(here, f"boot/{here.base.id}/kernel")
