"""Earlier credentials: kept as they were sealed, found again, and gone when nobody holds them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.secret import Secret
from provision.site import CredentialKind
from provision.store.credentials import CredentialInput
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store

FIRST = CredentialInput("token", CredentialKind.TOKEN, "/etc/token", "0600", Secret(b"first"), NOW)
SECOND = replace(FIRST, data=Secret(b"second"), held=1)


def test_what_a_host_holds_is_kept_and_opened_again(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        store.credentials.set("n1", FIRST, NOW)
        assert store.credentials.set("n1", SECOND, NOW) == 2
        assert store.credentials.set("n1", replace(SECOND, data=Secret(b"third")), NOW) == 3
    with open_store(tmp_path) as store:
        assert (store.earlier_credentials.of("n1"), store.earlier_credentials.of("n9")) == ({"token": 1}, {})
        (kept,) = store.earlier_credentials.open("n1")
        assert (kept.name, kept.version, kept.secret.reveal()) == ("token", 1, b"first")
        assert store.earlier_credentials.forget_all_but("n1", {"token": 1}) == {}
        assert store.earlier_credentials.forget_all_but("n1", {"token": 3}) == {"token": 1}
        assert store.earlier_credentials.open("n1") == [] and store.database.recheck()
        store.credentials.set("n1", replace(SECOND, held=3), NOW)
        store.credentials.remove("n1", "token")
        assert store.earlier_credentials.of("n1") == {} and store.database.recheck()
        store.credentials.set("n1", FIRST, NOW)
        store.credentials.set("n1", replace(SECOND, held=5), NOW)
        store.hosts.apply(inventory(host(2)), ROOT)
        assert store.earlier_credentials.of("n1") == {} and store.database.recheck()


def test_a_row_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1)), ROOT)
        store.credentials.set("n1", FIRST, NOW)
        store.credentials.set("n1", SECOND, NOW)
        with store.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE earlier_credentials SET path = '/etc/other'")
        with pytest.raises(Unavailable):
            store.earlier_credentials.open("n1")
