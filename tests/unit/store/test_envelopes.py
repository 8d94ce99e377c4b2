"""Numbers of envelopes only grow, whatever becomes of the store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provision.errors import NotFound
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, host, inventory, open_store


def test_numbers_grow_with_the_content_and_stay_with_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        assert store.envelopes.newest("n1") == 0
        first = store.envelopes.number("n1", "a", NOW)
        assert first == int(NOW.timestamp()), "above those of a store that was lost before this moment"
        assert store.envelopes.number("n1", "a", NOW + timedelta(days=1)) == first
        second = store.envelopes.number("n1", "b", NOW)
        assert second == first + 1
        assert store.envelopes.number("n1", "a", NOW - timedelta(days=1)) == store.envelopes.newest("n1") == second + 1
        with pytest.raises(NotFound):
            store.envelopes.number("n9", "a", NOW)
    with open_store(tmp_path) as store:
        assert store.envelopes.number("n1", "a", NOW) == second + 1
        store.hosts.apply(inventory(host(2)), ROOT)
        store.hosts.apply(inventory(host(1), host(2)), ROOT)
        later = NOW + timedelta(hours=1)
        assert store.envelopes.number("n1", "a", later) == int(later.timestamp())
