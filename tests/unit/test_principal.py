"""Who asks: roles in their order, and a value that nobody changes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from provision.boot import Requester
from provision.principal import Authentication, Principal, PrincipalRole
from tests.helpers.principals import ROOT, with_role


def test_each_role_includes_those_before_it() -> None:
    order = [PrincipalRole.READER, PrincipalRole.AUDITOR, PrincipalRole.OPERATOR, PrincipalRole.ADMIN]
    assert list(PrincipalRole) == order
    for at, role in enumerate(order):
        assert [other for other in order if role.includes(other)] == order[: at + 1]
        assert [other for other in order if with_role(role).may(other)] == order[: at + 1]


def test_a_principal_is_its_name_and_does_not_change() -> None:
    assert str(ROOT) == "uid=0" and Principal("uid=0", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS) == ROOT
    with pytest.raises(FrozenInstanceError):
        ROOT.role = PrincipalRole.READER  # type: ignore[misc]


def test_who_may_take_media() -> None:
    takes = [role for role in PrincipalRole if Requester(principal=with_role(role)).is_operator]
    assert takes == [PrincipalRole.OPERATOR, PrincipalRole.ADMIN]
    assert not Requester().is_operator
