"""Credentials that belong to accounts of the host's image."""

from __future__ import annotations

import json

import pytest

from provision.accounts import Accounts
from provision.errors import Problems
from provision.media.library import Library
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, origin, seed_url, sources, uncharged

OWNED = INVENTORY.replace("path: /etc/token}", "path: /etc/token, mode: 0640, group: libvirt-qemu}")
QEMU = Accounts({"libvirt-qemu": 64055}, {"kvm": 109, "libvirt-qemu": 64055})


def let_base_have(monkeypatch: pytest.MonkeyPatch, here: Site, accounts: Accounts) -> None:
    """Let the base image have these accounts, as one that was imported anew."""
    base = here.base.__class__(**{**here.base.__dict__, "accounts": accounts})
    monkeypatch.setattr(Library, "get", lambda *_: base)
    here.service.core._bases.clear()


def test_the_seed_gives_it_to_the_account(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    here.apply(OWNED)
    here.secret("node1", b"shared with the group")
    here.window("node1")
    revision = seed_url(here)
    delivery = here.service.netboot.seed(origin(), revision)
    seed = uncharged(delivery).data
    text = seed[seed.index(b'{"format": 1') : seed.index(b"\n]}")] + b"\n]}"
    (owned,) = [entry for entry in json.loads(text)["files"] if entry["owner"] != "0:0"]
    assert (owned["path"], owned["mode"], owned["owner"]) == ("/etc/token", "0640", "0:64055")


def test_an_account_that_the_image_does_not_have_is_refused(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = here.service.core.store.snapshot.change
    with pytest.raises(Problems) as told:
        here.apply(OWNED)
    (line,) = map(str, told.value.problems)
    assert "hosts.node1.credentials: the base image 'base' has no group 'libvirt-qemu', to whom 'token' is to" in line
    assert line.endswith("belong (and 1 more host); import an image that names its accounts")
    let_base_have(monkeypatch, here, Accounts({}, {"libvirt-qeum": 1}))
    with pytest.raises(Problems, match="did you mean 'libvirt-qeum'"):
        here.apply(OWNED)
    assert here.service.core.store.snapshot.change == before


def test_a_host_whose_new_image_lacks_the_account_gets_no_seed(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    here.apply(OWNED)
    assert here.service.core.state("node1").missing == ()
    let_base_have(monkeypatch, here, Accounts())
    here.service.core._known = (-1, {})  # as after the import
    (missing,) = here.service.core.state("node1").missing
    assert missing == "the group 'libvirt-qemu' of its credential 'token' in its base image"
    told = str(here.service.reports.explain("node1", ROOT))
    assert "incomplete" in told and missing.replace("'", "") in told.replace("'", "").replace("\\", "")


def test_a_changed_owner_needs_no_new_sealing(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    let_base_have(monkeypatch, here, QEMU)
    group = OWNED.replace(", mode: 0640", "")
    owners = []
    for text in (group, group.replace("libvirt-qemu", "kvm")):
        _, changes, _ = here.service.inventories.preview(sources(text), False)
        assert changes.notes == ()
        here.apply(text)
        owners.append(here.service.core.owners(here.service.core.hosts["node1"])["token"])
    assert owners == ["0:64055", "0:109"]
