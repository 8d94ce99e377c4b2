"""What tests of several parts of the laboratory share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.lab.lans import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory without LANs."""
    with Lab("u", tmp_path / "lab") as lab:
        yield lab
