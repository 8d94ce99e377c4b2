"""Links of a principal that is in the settings no longer: good for nothing, and told as revoked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.api.links import MakeLink
from provision.errors import NotFound
from provision.principal import Principal
from provision.service.standing import is_link_of_somebody
from provision.ticket import granted
from tests.helpers.links import content, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, Site, site
from tests.helpers.tickets import kerberos, say

ALICE = "alice@EXAMPLE.TEST"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def role(name: str, of: str = "operator", **fields: Any) -> tuple[Mapping[str, Any], ...]:
    return ({"principals": (name,), "role": of, **fields},)


def alice(here: Site) -> Principal:
    grant = granted(kerberos(roles=role(ALICE)).role, ALICE)
    assert grant is not None
    return grant.to(ALICE, here.clock() + timedelta(hours=1)).principal


@pytest.mark.parametrize(
    ("roles", "good"),
    [
        (role(ALICE), True),
        (role("*@EXAMPLE.TEST", "admin"), True),
        (role(ALICE, selector={"rack": "a"}), True),
        (role(ALICE, selector={"rack": "b"}), False),
        (role(ALICE, "auditor"), False),
        (role("bob@EXAMPLE.TEST"), False),
        (None, False),
    ],
)
def test_a_link_is_as_good_as_its_maker(
    here: Site, monkeypatch: pytest.MonkeyPatch, roles: tuple[Mapping[str, Any], ...] | None, good: bool
) -> None:
    order = MakeLink.model_validate({"medium": "iso"})
    path = "/b/" + here.service.links.make("node1", order, alice(here)).urls[0].rpartition("/")[2]
    say(here, monkeypatch, roles)
    (row,) = here.service.links.listing(ROOT)
    assert (row.by, row.state) == (ALICE, "good" if good else "revoked")
    if good:
        assert CANARY in content(take(here, path).plan)
        return
    with pytest.raises(NotFound, match="there is no such link"):
        take(here, path)
    assert here.audit("link-refused")


@pytest.mark.parametrize("actor", ["uid=0", "token:ci"])
def test_links_of_others_end_in_the_store_alone(here: Site, actor: str) -> None:
    assert is_link_of_somebody(here.service.core.settings, actor, {})
