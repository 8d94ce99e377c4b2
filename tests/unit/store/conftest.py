"""What tests of several parts of the store share."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.store.store import Store
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import host, inventory, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the hosts n1 and n2."""
    store = open_store(tmp_path)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    return store
