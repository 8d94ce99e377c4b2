from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.kdc import Realm, realm
from tests.helpers.kerberos_site import KerberosSite, kerberos_site


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    with realm(tmp_path_factory.mktemp("realm")) as made:
        made.add("alice", "bob", "carol", "dora/admin", "host/localhost")
        yield made


@pytest.fixture(scope="module")
def site(here: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KerberosSite]:
    with kerberos_site(tmp_path_factory.mktemp("kerberos"), here) as (made, _):
        yield made
