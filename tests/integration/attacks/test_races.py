"""Races for a host's seed: an attacker with a MAC of its own asks from the host's address and forges ARP.

Each host's window is for one boot, and each port of the LAN is recorded: no secret byte on a wrong one, the window as
it was, and the host boots afterwards. `make attacks` runs all the variants, as often as is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from provision.errors import Unavailable
from tests.integration.attacks.disturbances import Disturbance, disturbances
from tests.integration.attacks.race_site import RaceSite, race_site
from tests.integration.attacks.races import Attack, Outcome, State, sample
from tests.integration.attacks.table import failures
from tests.integration.attacks.victim import Way


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaceSite]:
    with race_site(tmp_path_factory.mktemp("races")) as site:
        yield site


def proved(site: RaceSite, attack: Attack) -> Outcome:
    """What came of a run; on a busy machine a recording may lose frames, and then it is begun again."""
    for _ in range(2):
        try:
            return attack.run(site)
        except Unavailable:
            continue
    return attack.run(site)


def hold(site: RaceSite, attacks: list[Attack]) -> None:
    outcomes = [proved(site, attack) for attack in attacks]
    assert failures(outcomes) == []
    assert site.server.running and "Traceback" not in site.server.text


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("way", Way)
def test_an_attacker_with_its_own_mac_gets_no_secret_byte(site: RaceSite, way: Way, state: State) -> None:
    hold(site, list(sample(way, state)))


DISTURBANCES = list(disturbances())


@pytest.mark.parametrize("attack", DISTURBANCES, ids=lambda one: f"{one.attack}, {one.variant}")
def test_a_transfer_that_is_disturbed_loses_no_secret_byte(site: RaceSite, attack: Disturbance) -> None:
    hold(site, [attack, attack])
