"""BMCs that tests talk to: one after each vendor's documents, or one that is like none of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.redfish import KINDS, Bmc, served


@pytest.fixture(params=KINDS)
def bmc(request: pytest.FixtureRequest) -> Iterator[Bmc]:
    with served(request.param) as there:
        yield there


@pytest.fixture
def other() -> Iterator[Bmc]:
    with served() as there:
        yield there
