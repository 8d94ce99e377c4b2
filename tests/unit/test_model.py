"""Values as they are written: what is taken means what was written, and what is refused names what was meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from provision.model import IPv4Prefix, IPv6, IPv6Prefix, KernelArgument, normalize_mac
from tests.helpers.inventory_samples import SITE, host, lines

MAC = "52:54:00:12:34:56"
WRITTEN = [
    "52:54:00:12:34:56",
    "52-54-00-12-34-56",
    "52.54.00.12.34.56",
    "5254.0012.3456",
    "5254-0012-3456",
    "525400-123456",
    "525400123456",
    "52:54:00:12:34:56".upper(),
]


@pytest.mark.parametrize("value", WRITTEN)
def test_macs(value: str) -> None:
    assert normalize_mac(value) == MAC


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("52:54:00-12:34:56", MAC),
        ("5:254:00:12:34:56", MAC),
        ("52:54:0012:34:56", MAC),
        ("5254:00:12:34:56", MAC),
        ("525:400:123:456", MAC),
        (":52:54:00:12:34:56", MAC),
        ("52::54:00:12:34:56", MAC),
        ("52:54:0:12:34:56", MAC),
        ("52 54 00 12 34 56", MAC),
        ("0x525400123456", MAC),
        ("52:54:00:12:34", ""),
        ("52:54:00:12:34:56:78", ""),
        ("eth0", ""),
        ("", ""),
    ],
)
def test_macs_with_separators_in_wrong_places(value: str, meant: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address") as caught:
        normalize_mac(value)
    said = str(caught.value)
    assert said.endswith(f"did you mean {meant}?" if meant else "write it as 52:54:00:12:34:56")
    assert not meant or normalize_mac(meant) == meant, "the remedy is one that is taken"


@given(st.lists(st.sampled_from(["52", "5", "2", "54", "00", "1234", ":", "-", ".", "::"]), max_size=14).map("".join))
def test_a_mac_that_is_taken_has_one_separator_in_one_distance(value: str) -> None:
    try:
        taken = normalize_mac(value)
    except ValueError:
        return
    groups = re.split("[:.-]", value)
    assert len(set(re.findall("[:.-]", value))) <= 1
    assert len({len(group) for group in groups}) == 1 and len(groups) in (1, 2, 3, 6)
    assert taken.replace(":", "") == "".join(groups)


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        (IPv4Prefix, "192.0.2.0", "192.0.2.0/24"),
        (IPv4Prefix, "10.0.0.0", "10.0.0.0/8"),
        (IPv4Prefix, "192.0.2.7", "192.0.2.7/32"),
        (IPv4Prefix, "0.0.0.0", "0.0.0.0/0"),
        (IPv4Prefix, "192.0.2.0/0.0.0.255", "192.0.2.0/24"),
        (IPv6Prefix, "2001:db8::", "2001:db8::/64"),
        (IPv6Prefix, "2001:db8::1", "2001:db8::1/128"),
    ],
)
def test_a_prefix_has_its_length(kind: Any, value: str, meant: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    with pytest.raises(ValidationError, match=rf"must have a length; did you mean {re.escape(meant)}\?"):
        adapter.validate_python(value)
    assert str(adapter.validate_python(meant)) == meant, "the remedy is one that is taken"


def test_a_netmask_says_the_length_too() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(IPv4Prefix)
    assert str(adapter.validate_python("192.0.2.0/255.255.255.0")) == "192.0.2.0/24"
    assert str(adapter.validate_python("192.0.2.1/255.255.255.255")) == "192.0.2.1/32"


def test_ipv4_in_ipv6_form() -> None:
    for kind, value in ((IPv6, "::ffff:192.0.2.1"), (IPv6Prefix, "::ffff:192.0.2.0/120")):
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        with pytest.raises(ValidationError, match=r"must not be IPv4 in IPv6 form; the IPv4 address is 192\.0\.2\."):
            adapter.validate_python(value)


NIC = "mac: 52:54:00:00:00:09"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{{{NIC}, ipv4: 10.0.0.9/24}}", "'10.0.0.9/24' is not an IPv4 address; did you mean 10.0.0.9? Its length is"),
        (f"{{{NIC}, ipv4: 10.0.0.009}}", "did you mean 10.0.0.9?"),
        (f"{{{NIC}, ipv6: '[2001:db8::9]'}}", "did you mean 2001:db8::9?"),
        (f"{{{NIC}, ipv6: '2001:db8::9/64'}}", "did you mean 2001:db8::9? Its length is that of its network"),
        (f"{{{NIC}, ipv6: '::ffff:10.0.0.9'}}", "must not be IPv4 in IPv6 form; the IPv4 address is 10.0.0.9"),
        (f"{{{NIC}, routes: [{{to: 10.0.0.0, via: 10.0.0.1}}]}}", "to: '10.0.0.0' must have a length; did you mean 10"),
        (f"{{{NIC}, routes: [{{to: 10.0.0.0/8, via: 'fe80::1%eth0'}}]}}", "via: 'fe80::1%eth0' must not have a zone"),
        (f"{{{NIC}, bond: lacp}}", "did you mean '802.3ad'?"),
        (f"{{{NIC}, bond: 4}}", "did you mean '802.3ad'?"),
        (f"{{{NIC}, bond: active_backup}}", "did you mean 'active-backup'?"),
        (f"{{{NIC}, bond: balance-rr}}", "'active-backup' is the mode that needs nothing of the switch"),
        (f"{{{NIC}, network: Mgmt}}", "'Mgmt' is not allowed; a name has lower-case letters"),
        (f"{{{NIC}, network: Mgmt}}", "did you mean 'mgmt'?"),
        (f"{{{NIC}, bridge: br_guests}}", "did you mean 'br-guests'?"),
        (f"{{{NIC}, addressing: manual}}", "did you mean 'static'?"),
    ],
)
def test_a_refused_value_names_what_was_meant(text: str, said: str) -> None:
    found = lines(SITE, host(n=text))
    assert any(said in line for line in found), found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("domain: Example.test.", "did you mean 'example.test'?"),
        ("credentials: {c: {kind: token, path: etc/token}}", "did you mean '/etc/token'?"),
        ("credentials: {c: {kind: token, path: /etc/token, mode: 600}}", "did you mean '0600'?"),
        ("credentials: {c: {kind: token, path: /etc/token, mode: 0o600}}", "did you mean '0600'?"),
    ],
)
def test_a_refused_value_of_the_site_names_what_was_meant(line: str, said: str) -> None:
    key = line.partition(":")[0]
    rest = "" if key == "domain" else "  domain: a.test\n"
    (found,) = lines(f"site:\n{rest}  networks: {{}}\n  {line}\n")
    assert said in found


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("a=it's", "has a single quote, before which GRUB puts a backslash; leave it out, or"),
        (
            "dyndbg='file a +p'",
            'has a single quote, before which GRUB puts a backslash; did you mean dyndbg="file a +p"?',
        ),
        ("a=b\\c", r"has a single backslash, which GRUB doubles; leave it out, or write \\"),
        ("a=b c", 'has a space outside of double quotes; did you mean a="b c"?'),
        ("a b", 'has a space outside of double quotes; write name="a b", or several arguments'),
        ('a=b"c d"', 'double quotes that are neither around the whole nor around the value; did you mean a="bc d"?'),
        ("a=it\\'s", "has a quote without its partner, which systemd looks for in the next arguments; write"),
        ("a\tb", "is not a kernel argument, which is printable ASCII; leave the rest out"),
    ],
)
def test_a_refusal_says_why_and_what_was_meant(argument: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(KernelArgument).validate_python(argument)
    assert words in str(caught.value)
