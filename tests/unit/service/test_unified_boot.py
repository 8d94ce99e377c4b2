"""What a machine gets that boots the site's signed image: the image and its seed, on any network, never a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from provision.api.secure_boot import NewSecureBootKey, SignUnified
from provision.boot import Channel, Medium
from provision.errors import Denied, NotFound
from provision.web import boot_app
from tests.helpers.host_programs import load
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    GENERAL,
    INVENTORY,
    IP,
    MAC1,
    MAC2,
    MAC3,
    MANAGEMENT,
    STRANGER,
    Site,
    edge,
    origin,
    request,
    site,
)

load("libcrypto")
PLACING: Any = load("placing")
load("signed_file")
READER: Any = load("signed_seed")
NONCE = "0f" * 16
UKI = INVENTORY.replace("  node1:\n", "  node1:\n    chain: uki\n").replace("  node3:\n", "  node3:\n    chain: uki\n")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, UKI) as opened:
        opened.service.secure_boot.init(NewSecureBootKey(), ROOT)
        yield opened


def keys(here: Site) -> list[bytes]:
    return [here.service.site_keys.signing()[0].public]


@pytest.mark.parametrize(("channel", "address"), [(MANAGEMENT, "10.0.0.11"), (GENERAL, "10.1.0.11")])
def test_a_host_gets_image_and_seed_without_a_window_and_without_a_secret(
    here: Site, channel: Channel, address: str
) -> None:
    here.secret("node1", CANARY)
    signed = here.service.secure_boot.sign("base", SignUnified(), ROOT)
    unified, asks = here.service.netboot.unified, origin(MAC1, channel, address=IPv4Address(address))
    assert unified.image(asks).sha256 == signed.sha256
    made = unified.seed(asks, NONCE)
    archive = READER.archive(made, keys(here), NONCE, [MAC1])
    assert b"node1" in archive and CANARY not in made and b"phone_home" not in archive
    decisions = [entry for entry in here.audit("decision") if entry.get("host") == "node1"]
    assert {entry["answer"] for entry in decisions} == {"released"}


@pytest.mark.parametrize(
    ("mac", "rule"),
    [(STRANGER, "unknown-host"), (MAC2, "other-chain"), (MAC3, "netboot-never"), (None, "unknown-host")],
)
def test_nobody_else_gets_any(here: Site, mac: str | None, rule: str) -> None:
    here.service.secure_boot.sign("base", SignUnified(), ROOT)
    unified = here.service.netboot.unified
    for ask in (lambda: unified.image(origin(mac)), lambda: unified.seed(origin(mac), NONCE)):
        with pytest.raises(Denied) as refused:
            ask()
        assert refused.value.rule == rule


def test_an_image_that_nobody_has_signed_is_not_there(here: Site) -> None:
    with pytest.raises(NotFound, match="there is no signed image of 'base'; sign it: 'provision sb sign base'"):
        here.service.netboot.unified.image(origin(MAC1))


def test_explain_says_that_an_image_is_not_signed_yet(here: Site) -> None:
    def said() -> dict[str, tuple[bool, str | None]]:
        rows = here.service.reports.explain("node1", ROOT)
        return {row.channel: (row.allowed, row.remedy) for row in rows if row.medium is Medium.HTTP_BOOT}

    here.secret("node1", CANARY)
    assert set(said().values()) == {(False, "Sign it: 'provision sb sign base'")}
    here.service.secure_boot.sign("base", SignUnified(), ROOT)
    assert set(said().values()) == {(True, None)}, "on general networks, too, and without a window"
    rules = {row.channel: row.rule for row in here.service.reports.explain("node1", ROOT) if row.medium is Medium.PXE}
    assert set(rules.values()) == {"window-closed", "secrets-on-general"}, "its other media are as they were"


def test_firmware_is_told_what_it_is(here: Site) -> None:
    here.service.secure_boot.sign("base", SignUnified(), ROOT)
    app = boot_app.create(here.service.netboot, edge())
    for method in ("HEAD", "GET"):
        reply = request(app, method, "/http-boot/boot.efi", peer=IP[MAC1])
        assert (reply.status, reply.headers["content-type"]) == (200, "application/efi")
    reply = request(app, "GET", f"/boot/signed-seed/{NONCE}", peer=IP[MAC1])
    assert (reply.status, reply.headers["cache-control"]) == (200, "no-store")
    assert READER.archive(reply.body, keys(here), NONCE, [MAC1])
    for nonce in ("x", "0F" * 16, "0f" * 17):
        assert request(app, "GET", f"/boot/signed-seed/{nonce}", peer=IP[MAC1]).status == 422
    assert request(app, "GET", "/http-boot/boot.efi", peer=IP[MAC2]).status == 403


def test_the_seed_says_whether_the_host_is_to_enrol_its_tpm(here: Site) -> None:
    def asked() -> Any:
        made = here.service.netboot.unified.seed(origin(MAC1), NONCE)
        files = {path: data for path, _, _, data in PLACING.files(READER.archive(made, keys(here), NONCE, [MAC1]))}
        return json.loads(files["/etc/provision/host.json"]).get("enroll")

    assert asked() is None
    here.service.tpms.open("node1", 30, ROOT)
    assert asked() == {"url": origin(MAC1).base_url}
    here.service.tpms.close("node1", ROOT)
    assert asked() is None


def test_the_seed_goes_up_with_the_site(here: Site) -> None:
    def sequence() -> int:
        return int(here.service.netboot.unified.seed(origin(MAC1), NONCE).split(b"\n", 3)[2].split()[2])

    first = sequence()
    here.secret("node1", b"another")
    assert sequence() > first
