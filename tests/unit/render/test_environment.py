"""The guard that every interpolated value passes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import jinja2
import pytest

from provision.boot import Role
from provision.errors import Invalid
from provision.render.environment import check, message, render, render_common
from tests.helpers.rendering import SMUGGLED


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("node7", "node7"),
        (Role.GENERAL, "general"),
        (IPv4Address("10.0.0.1"), "10.0.0.1"),
        (IPv6Address("::1"), "::1"),
        (IPv4Network("10.0.0.0/8"), "10.0.0.0/8"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("http://10.0.0.1:8080/boot/kernel", "http://10.0.0.1:8080/boot/kernel"),
        ("_ldap._tcp.example.org", "_ldap._tcp.example.org"),
    ],
)
def test_plain_words_pass_unchanged(value: object, text: str) -> None:
    assert check(value, "t") == text


@pytest.mark.parametrize("value", [*SMUGGLED, None, True, b"x", 1.5, ["a"], "-x", "a,b", "a=b", "a%b", "~", "*", "!"])
def test_anything_else_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(Invalid, match=r"^some/file\.j2: a value holds white space, a quote") as caught:
        check(value, "some/file.j2")
    assert repr(value) not in str(caught.value) or value in ("", None)


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("seed/hostname.j2")


def test_messages_are_harmless_ascii_of_78_columns() -> None:
    assert message(['say "hi" to $USER\n\x1b[2J`x` … \\']) == ("say 'hi' to ?USER??[2J?x? ? ?".replace("[", "?"),)
    assert [len(line) for line in message(["x" * 100])] == [78, 22]


def test_what_hosts_have_in_common_is_rendered_once_for_each_value() -> None:
    first = render_common("seed/timesyncd.conf.j2", ntp=("10.0.0.1",))
    assert first == render("seed/timesyncd.conf.j2", ntp=("10.0.0.1",))
    assert render_common("seed/timesyncd.conf.j2", ntp=("10.0.0.1",)) is first
    assert render_common("seed/timesyncd.conf.j2", ntp=("10.0.0.2",)) != first
