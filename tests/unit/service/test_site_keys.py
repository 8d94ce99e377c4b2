"""The site's keys are made when they are needed, rolled over without a gap, and every step is in the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Conflict, NotFound
from provision.site_key import KeyUse
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, site


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
