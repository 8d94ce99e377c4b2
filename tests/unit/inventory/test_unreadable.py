from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from provision import document
from provision.errors import Problem, Problems
from provision.inventory.parse import Source, parse
from provision.inventory.unreadable import Unreadable
from tests.helpers.inventory_samples import HOSTS, NOW, SITE, host, lines
from tests.helpers.paths import EXAMPLES

MAC = "mac: 52:54:00:00:00:09"
EXAMPLE = EXAMPLES / "site.yaml"


def test_what_a_cut_touches() -> None:
    unreadable = Unreadable()
    unreadable.add(("site", "networks", "office", "prefix6"))
    assert unreadable.touch(("site", "networks", "office", "prefix6"))
    assert unreadable.touch(("site", "networks", "office")), "a part of it was cut"
    assert unreadable.touch(("site", "networks", "office", "prefix6", "x")), "it would be a part of what was cut"
    assert not unreadable.touch(("site", "networks", "office", "prefix"))
    assert not unreadable.touch(("site", "networks", "mgmt"))


def test_a_key_beside_an_unknown_one_may_be_the_one_that_was_meant() -> None:
    unreadable = Unreadable()
    unreadable.add_unknown(("hosts", "n", "interfaces", "a", "vlam"))
    assert unreadable.touch(("hosts", "n", "interfaces", "a", "vlan"))
    assert not unreadable.touch(("hosts", "n", "netboot"))
    assert not unreadable.touch(("hosts", "n", "interfaces", "b", "vlan"))


def test_lists_are_counted_as_they_are_written() -> None:
    unreadable = Unreadable()
    for index in (2, 0):
        unreadable.add(("hosts", "n", "routes", index))
    assert [unreadable.as_written(("hosts", "n", "routes", i, "via"))[3] for i in range(3)] == [1, 3, 4]
    assert unreadable.as_written(("hosts", "m", "routes", 0)) == ("hosts", "m", "routes", 0)


def test_one_wrong_value_hides_nothing_else_of_an_interface() -> None:
    wrong = "{mac: 52:54:00:00:00:01, network: mgmt, addressing: static, ipv4: 10.0.0.11, vlan: 5000, bridge: br0}"
    said = lines(SITE, HOSTS + f"  node9:\n    interfaces:\n      n: {wrong}\n")
    assert [line.partition("interfaces.n.")[2].partition(";")[0] for line in said] == [
        "bridge: puts the guests of 'br0' on the management network 'mgmt'",
        "ipv4: the address 10.0.0.11 is already that of node1",
        "macs.0: the MAC 52:54:00:00:00:01 is already that of node1",
        "vlan: '5000' is too large",
    ]


@pytest.mark.parametrize(
    ("interface", "rest", "words"),
    [
        ("network: mgmt, addressing: static, ipv4: 10.9.0.1, mtu: 1", "", "ipv4: 10.9.0.1 is outside 10.0.0.0/24"),
        ("", "kernel_arguments: [a b, ip=dhcp, ip=off]", "kernel_arguments: 'ip=' is given 2 times"),
        ("", "kernel_arguments: [a b, quiet, initrd=x]", "kernel_arguments.2: 'initrd=' is set by the boot loader"),
        ("", "credentials: [A, keytab, B, nothing]", "credentials.3: no credential 'nothing' is in the site"),
        (
            "network: mgmt, addressing: dhcp, routes: [{to: x, via: 10.0.0.2}, {to: 10.9.0.0/16, via: 10.9.0.1}]",
            "",
            "routes.1.via: the router 10.9.0.1 is not on network 'mgmt'",
        ),
    ],
)
def test_one_wrong_value_hides_no_other_problem(interface: str, rest: str, words: str) -> None:
    said = lines(SITE, host(n=f"{{{MAC}, {interface}}}") + f"    {rest}\n")
    assert any(words in line for line in said), said


def test_one_wrong_value_hides_nothing_else_of_a_network() -> None:
    site = SITE.replace("gateway: 10.0.0.1\n", "gateway: 10.0.0.300\n").replace("first: 10.0.0.100", "first: x")
    said = lines(site, host(n=f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.9.0.1, vlan: 11}}"))
    assert [line.split(": ")[1] for line in said] == [
        "site.networks.mgmt.gateway",
        "site.networks.mgmt.pool.first",
        "hosts.node9.interfaces.n.ipv4",
        "hosts.node9.interfaces.n.vlan",
    ]


def leaves(value: Any, path: document.Path = ()) -> Iterator[document.Path]:
    """The paths of all single values and lists."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if not isinstance(inner, dict):
            yield (*path, key)
        yield from leaves(inner, (*path, key))


def changed(tree: Any, path: document.Path, value: str = "%\n", key: str | None = None) -> Any:
    """A copy of the tree with another value or key at `path`."""
    tree = json.loads(json.dumps(tree))
    owner = tree
    for part in path[:-1]:
        owner = owner[part]
    if key is None:
        owner[path[-1]] = value
    else:
        owner[key] = owner.pop(path[-1])
    return tree


def problems(tree: Any) -> tuple[Problem, ...]:
    try:
        parse([Source("a", json.dumps(tree).encode())], NOW)
    except Problems as error:
        return error.problems
    return ()


EXTRA = {
    "never": {
        "netboot": "never",
        "credentials": ["keytab", "enrol-token"],
        "interfaces": {
            "m": {"macs": ["52:54:00:99:00:01"], "network": "tagged", "addressing": "dhcp", "vlan": "50"},
            "g": {"macs": ["52:54:00:99:00:06"], "bridge": "br-g"},
            "v": {"macs": ["52:54:00:99:00:01"], "vlan": "60", "mtu": "9000"},
        },
    },
    "bonds": {
        "interfaces": {
            "b": {"macs": ["52:54:00:99:00:02", "52:54:00:99:00:03"], "bond": "802.3ad", "mtu": "1500", "bridge": "br"},
            "t": {"macs": ["52:54:00:99:00:02", "52:54:00:99:00:03"], "bond": "802.3ad", "vlan": "5", "mtu": "9000"},
            "bond1": {"macs": ["52:54:00:99:00:04", "52:54:00:99:00:05"], "bond": "802.3ad"},
        },
    },
}


@pytest.fixture(scope="module")
def tree() -> Any:
    """An inventory that has everything that rules ask for."""
    root = document.read(Source("a", EXAMPLE.read_bytes())).root
    assert root is not None
    tree = root.plain()
    tree["site"]["networks"]["tagged"] = {"role": "management", "prefix": "192.168.50.0/24", "vlan": "50"}
    tree["hosts"] |= EXTRA
    assert problems(tree) == ()
    return tree


def test_one_wrong_value_causes_no_other_problem(tree: Any) -> None:
    paths = list(leaves(tree))
    assert len(paths) > 150
    for path in paths:
        said = problems(changed(tree, path))
        assert len({problem.path for problem in said}) == 1, (path, said)


def test_one_unknown_key_causes_no_other_problem_but_that_one_is_missing(tree: Any) -> None:
    named = [path for path in leaves(tree) if isinstance(path[-1], str) and "labels" not in path]
    # Where a group has the key too, its value counts instead.
    keys = [path for path in named if path[0] == "site" or "groups" not in tree["hosts"][path[1]]]
    assert len(keys) > 60
    for path in keys:
        said = problems(changed(tree, path, key=f"{path[-1]}x"))
        other = [problem for problem in said if not problem.fact.startswith("unknown key")]
        assert said and all(problem.fact.endswith(" is missing") for problem in other), (path, said)
