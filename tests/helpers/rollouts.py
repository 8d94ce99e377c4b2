"""A roll-out in tests."""

from __future__ import annotations

from provision.api.rollouts import StartRollout
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Site, make_base

NEW = "other"


def begin_rollout(here: Site) -> None:
    """Let every host be given another base image, one host after the other."""
    here.service.core.store.bases.name(NEW, make_base(here.state, NEW).id)
    here.service.rollouts.start(StartRollout(base=NEW), ROOT)
