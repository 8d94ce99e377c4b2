"""What tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.site_fixture import INVENTORY, closed_site


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a site that is applied, whose service does not run. The working directory is above it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text(INVENTORY)
    return closed_site(tmp_path)
