"""What tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.site_fixture import Site, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A service over a site that is applied, with its image and credentials, and a clock that stands still."""
    with site(tmp_path) as opened:
        yield opened
