"""The site's keys are made when they are needed, rolled over without a gap, and every step is in the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Conflict, NotFound
from provision.media.initrd import ALIVE, IDENTITY, SIGNED
from provision.site_key import KeyUse
from tests.helpers.agent import booted, stored
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, site
from tests.helpers.tpm_samples import tpm


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def test_a_key_is_made_when_it_is_needed_first(here: Site) -> None:
    keys = here.service.site_keys
    assert keys.listing() == [] and keys.trusted(KeyUse.SECURE_BOOT) == []
    key, private = keys.signing()
    assert private.public_key().public_bytes_raw() == key.public
    assert keys.signing()[0] == key and keys.trusted(KeyUse.SIGNING) == [key]
    approving, _ = keys.approval()
    assert [(row.use, row.used, row.on_server) for row in keys.listing()] == [
        ("signing", True, True),
        ("approval", True, True),
    ]
    assert [entry["kind"] for entry in here.audit("site-key-made")] == ["signing", "approval"]
    assert approving.number != key.number


def test_the_old_key_is_used_until_it_is_retired(here: Site) -> None:
    keys = here.service.site_keys
    old, _ = keys.signing()
    row = keys.roll(KeyUse.SIGNING, ROOT)
    assert not row.used and row.fingerprint != old.fingerprint
    assert keys.signing()[0] == old, "hosts whose image does not know the new one yet take what is signed"
    assert [key.number for key in keys.trusted(KeyUse.SIGNING)] == [old.number, row.number]
    keys.retire(old.number, ROOT)
    assert keys.signing()[0].number == row.number
    (entry,) = here.audit("site-key-retired")
    assert (entry["version"], entry["sha256"], entry["operator"]) == (old.number, old.fingerprint, ROOT.name)
    with pytest.raises(NotFound):
        keys.retire(old.number, ROOT)
    with pytest.raises(Conflict, match=r"is the only one .*: 'provision site-key roll signing'"):
        keys.retire(row.number, ROOT)


def test_a_secure_boot_key_is_not_made_by_the_way(here: Site) -> None:
    with pytest.raises(Conflict, match="there is none; make it: 'provision sb init'"):
        here.service.site_keys.secure_boot()
    with pytest.raises(Conflict, match="needs a certificate; make both: 'provision sb init'"):
        here.service.site_keys.roll(KeyUse.SECURE_BOOT, ROOT)


def test_hosts_that_do_not_know_the_next_key_are_named(here: Site) -> None:
    here.can(ALIVE, IDENTITY, SIGNED)
    keys = here.service.site_keys
    old, _ = keys.signing()
    agent = booted(here)
    here.clock.advance(hours=1)
    new = keys.roll(KeyUse.SIGNING, ROOT)
    with pytest.raises(Conflict) as caught:
        keys.retire(old.number, ROOT)
    assert caught.value.fact == f"1 host has not booted since key {new.number} was made: node2"
    assert "--force" in caught.value.remedy and len(keys.listing()) == 2 and here.audit("site-key-retired") == []
    keys.retire(new.number, ROOT)  # which nobody uses: what hosts know goes on
    new = keys.roll(KeyUse.SIGNING, ROOT)
    here.clock.advance(hours=1)
    booted(here)
    agent.says(identity="")
    keys.retire(old.number, ROOT)
    assert [row.number for row in keys.listing()] == [new.number]


def test_a_key_that_others_may_have_is_retired_at_once(here: Site) -> None:
    here.can(ALIVE, IDENTITY, SIGNED)
    old, _ = here.service.site_keys.signing()
    booted(here)
    here.clock.advance(hours=1)
    here.service.site_keys.roll(KeyUse.SIGNING, ROOT)
    here.service.site_keys.retire(old.number, ROOT, force=True)
    assert len(here.service.site_keys.listing()) == 1


def test_an_identity_on_a_disk_knows_the_keys_of_when_it_was_stored(here: Site) -> None:
    here.can(ALIVE, IDENTITY, SIGNED)
    old, _ = here.service.site_keys.signing()
    stored(here)
    here.clock.advance(hours=1)
    here.service.site_keys.roll(KeyUse.SIGNING, ROOT)
    here.clock.advance(hours=1)
    here.service.decommissions.reprovision("node2", ROOT)
    agent = booted(here)
    with pytest.raises(Conflict, match="node2"):
        here.service.site_keys.retire(old.number, ROOT)
    agent.says(identity=agent.stored)
    here.service.site_keys.retire(old.number, ROOT)


@pytest.mark.parametrize(("features", "use"), [((), KeyUse.SIGNING), ((SIGNED,), KeyUse.APPROVAL)])
def test_hosts_that_look_at_no_such_key_hold_nobody_up(here: Site, features: tuple[str, ...], use: KeyUse) -> None:
    here.can(ALIVE, *features)
    keys = here.service.site_keys
    old = keys.trusted(use)[0]
    booted(here)
    here.clock.advance(hours=1)
    keys.roll(use, ROOT)
    keys.retire(old.number, ROOT)


def test_approval_is_of_hosts_with_an_enrolled_tpm(here: Site) -> None:
    here.can(ALIVE)
    keys = here.service.site_keys
    old = keys.trusted(KeyUse.APPROVAL)[0]
    booted(here)
    here.service.core.store.tpms.put(tpm("node2", 1))
    here.clock.advance(hours=1)
    keys.roll(KeyUse.APPROVAL, ROOT)
    with pytest.raises(Conflict, match="node2"):
        keys.retire(old.number, ROOT)
