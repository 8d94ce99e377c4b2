"""Tokens: their form, their time, and whom they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from provision import token
from provision.clock import TOLERANCE
from provision.principal import Authentication, PrincipalRole
from provision.token import MOST_DAYS, Token

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RACK = (("rack", "7"), ("row", "a"))
ONE = Token("rack7", PrincipalRole.OPERATOR, RACK, NOW, token.expiry(30, NOW), "uid=0")


def test_a_new_token_has_256_bits_and_is_like_no_other() -> None:
    made = [token.new() for _ in range(100)]
    assert len({one.reveal() for one in made}) == 100
    for one in made:
        parsed = token.parse(one.reveal())
        assert parsed == one and one.reveal().startswith(b"provision_") and len(one) == 10 + 43
        assert one.reveal().decode()[10:] not in f"{one} {one!r} {one:>80}"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"provision_",
        b"provision_" + b"a" * 42,
        b"provision_" + b"a" * 44,
        b"Provision_" + b"a" * 43,
        b"provision_" + b"a" * 42 + b"\n",
        b" provision_" + b"a" * 43,
        b"provision_" + b"a" * 43 + b"\n",
    ],
)
def test_what_has_another_form_is_no_token(text: bytes) -> None:
    assert token.parse(text) is None


def test_it_is_good_from_when_it_was_made_until_it_expires() -> None:
    assert ONE.is_good(NOW) and ONE.is_good(NOW + timedelta(days=30) - timedelta(seconds=1))
    assert not ONE.is_good(NOW + timedelta(days=30)) and not ONE.is_good(NOW + timedelta(days=MOST_DAYS))
    assert ONE.is_good(NOW - TOLERANCE) and not ONE.is_good(NOW - TOLERANCE - timedelta(seconds=1))


def test_whom_it_stands_for() -> None:
    asks = ONE.principal
    assert (asks.name, asks.role, asks.authentication) == ("token:rack7", "operator", Authentication.TOKEN)
    assert asks.expires == ONE.expires
    assert asks.sees({"rack": "7", "row": "a", "more": "x"})
    others: list[dict[str, str]] = [{}, {"rack": "7"}, {"rack": "7", "row": "b"}, {"rack": "a", "row": "7"}]
    assert not any(asks.sees(labels) for labels in others)
    assert token.spelled_or_all(asks.selector) == "rack=7,row=a" and token.spelled_or_all(()) == "all hosts"
