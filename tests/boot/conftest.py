"""What every boot test needs: the probe image, a laboratory, and the console's text in a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.image.build import Image
from provision.lab.lans import Lab
from tests.boot.office import Office
from tests.boot.site import BootSite
from tests.helpers.images import note
from tests.helpers.probe_image import build_probe


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory boots a machine, and may take long: consoles are waited for while they show
    something new, and this time-out is for what hangs elsewhere."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.boot)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def probe() -> Image:
    """The tests' base image, from its cache when the packages have not changed."""
    return build_probe(say=note)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A laboratory of this test's own; consoles and logs stay in pytest's directory for a later look."""
    with Lab("t", tmp_path / "lab") as lab:
        yield lab


@pytest.fixture(scope="session")
def site(probe: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootSite]:
    """One running site for all tests of this process; every test boots hosts that no other test boots."""
    with Lab("site", tmp_path_factory.mktemp("site")) as lab:
        yield BootSite(lab, probe)


@pytest.fixture(scope="session")
def office(site: BootSite) -> Office:
    """An operator of that site, elsewhere."""
    return Office(site)
