"""TPMs in software for the tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tpm import Tpm, software_tpm


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[Tpm]:
    with software_tpm(tmp_path / "tpm") as one:
        yield one


@pytest.fixture
def other_tpm(tmp_path: Path) -> Iterator[Tpm]:
    with software_tpm(tmp_path / "other") as one:
        yield one
