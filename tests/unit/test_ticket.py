"""Which principal means what: names with their realms, letter for letter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from provision.principal import Authentication, Principal, PrincipalRole
from provision.ticket import Grant, Ticket, granted, is_principal

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def grant(*principals: str, role: str = "reader", **fields: object) -> Grant:
    return Grant.model_validate({"principals": principals, "role": role, **fields})


@pytest.mark.parametrize(
    ("pattern", "name", "means"),
    [
        ("alice@EXAMPLE.COM", "alice@EXAMPLE.COM", True),
        ("alice@EXAMPLE.COM", "Alice@EXAMPLE.COM", False),
        ("alice@EXAMPLE.COM", "alice@example.com", False),
        ("alice@EXAMPLE.COM", "alice@OPS.EXAMPLE.COM", False),
        ("alice@EXAMPLE.COM", "alice/admin@EXAMPLE.COM", False),
        ("alice@EXAMPLE.COM", "xalice@EXAMPLE.COM", False),
        ("*@OPS.EXAMPLE.COM", "bob@OPS.EXAMPLE.COM", True),
        ("*@OPS.EXAMPLE.COM", "bob@EXAMPLE.COM", False),
        ("*@EXAMPLE.COM", "bob@OPS.EXAMPLE.COM", False),
        ("*@EXAMPLE.COM", "host/node1.example.com@EXAMPLE.COM", False),
        ("*@EXAMPLE.COM", "bob/admin@EXAMPLE.COM", False),
        ("*/admin@EXAMPLE.COM", "bob/admin@EXAMPLE.COM", True),
        ("*/admin@EXAMPLE.COM", "bob@EXAMPLE.COM", False),
        ("*/admin@EXAMPLE.COM", "bob/x/admin@EXAMPLE.COM", False),
        ("*/admin@EXAMPLE.COM", "admin@EXAMPLE.COM", False),
        ("host/*@EXAMPLE.COM", "host/node1@EXAMPLE.COM", True),
        ("a.b@EXAMPLE.COM", "axb@EXAMPLE.COM", False),
    ],
)
def test_a_pattern_means_a_principal(pattern: str, name: str, means: bool) -> None:
    assert (granted([grant(pattern)], name) is not None) == means


@pytest.mark.parametrize(
    "name",
    [
        "",
        "alice",
        "@EXAMPLE.COM",
        "alice@",
        "alice@EXAMPLE.COM\n",
        "alice\\@corp@EXAMPLE.COM",
        "a/b/c/d/e@EXAMPLE.COM",
        "alice smith@EXAMPLE.COM",
        "NODE1$@EXAMPLE.COM",
        "WELLKNOWN/ANONYMOUS@EXAMPLE.COM",
        "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS",
        "älice@EXAMPLE.COM",
        "a" * 65 + "@EXAMPLE.COM",
        "/".join(["a" * 64] * 3) + "@" + "E" * 100,
        "token:ci",
        "uid=0",
    ],
)
def test_nobody_else_is_a_principal(name: str) -> None:
    everybody = [grant("*@EXAMPLE.COM", "*/*@EXAMPLE.COM", "*/*/*@EXAMPLE.COM")]
    assert not is_principal(name) and granted(everybody, name) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "alice",
        "*@*",
        "alice@*",
        "*@*.EXAMPLE.COM",
        "al*@EXAMPLE.COM",
        "@EXAMPLE.COM",
        "/@EXAMPLE.COM",
        "NODE1$@A",
        "/".join(["a" * 64] * 3) + "@" + "E" * 100,
        "",
    ],
)
def test_a_pattern_without_its_realm_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="is not a principal with its realm"):
        grant(pattern)


def test_the_first_that_means_somebody_counts() -> None:
    grants = [
        grant("bob@EXAMPLE.COM"),
        grant("*@EXAMPLE.COM", role="operator"),
        grant("alice@EXAMPLE.COM", role="admin"),
    ]
    found = {name: granted(grants, f"{name}@EXAMPLE.COM") for name in ("bob", "alice", "carol")}
    assert {name: str(one.role) for name, one in found.items() if one} == {
        "bob": "reader",
        "alice": "operator",
        "carol": "operator",
    }


def test_a_ticket_is_somebody_until_it_expires() -> None:
    found = grant("*@EXAMPLE.COM", role="operator", selector={"rack": "7", "row": "a"}).to("a@EXAMPLE.COM", NOW)
    selector = (("rack", "7"), ("row", "a"))
    assert found == Ticket("a@EXAMPLE.COM", PrincipalRole.OPERATOR, selector, NOW)
    assert found.is_good(NOW - timedelta(seconds=1)) and not found.is_good(NOW)
    assert found.principal == Principal("a@EXAMPLE.COM", PrincipalRole.OPERATOR, Authentication.KERBEROS, selector, NOW)
