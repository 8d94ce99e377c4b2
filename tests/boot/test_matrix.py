"""The boot matrix: each cell is a host that boots in its firmware, by its medium, and becomes itself and nobody else.

The test command boots the pairwise selection, `make boot-matrix` all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from provision.lab.lans import Lab
from tests.boot import boots, sealed
from tests.boot.sealed_site import SealedSite
from tests.boot.site import BootSite
from tests.boot.to_boot import TO_BOOT, recorded
from tests.helpers.boot_matrix import Cell


def _named(cell: Cell) -> str:
    return cell.name


@pytest.fixture(scope="session")
def sealed_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SealedSite]:
    with Lab("sealed", tmp_path_factory.mktemp("sealed")) as lab:
        yield SealedSite(lab)


@pytest.mark.parametrize("cell", [cell for cell in TO_BOOT if not cell.storage.tpm], ids=_named)
def test_a_host_boots_with_its_own_identity(site: BootSite, cell: Cell) -> None:
    with recorded(cell):
        boots.boot(site, cell)


@pytest.mark.parametrize("cell", [cell for cell in TO_BOOT if cell.storage.tpm], ids=_named)
def test_a_host_gets_its_credentials_for_its_tpm_alone(sealed_site: SealedSite, cell: Cell) -> None:
    with recorded(cell):
        sealed.boot(sealed_site, cell)
