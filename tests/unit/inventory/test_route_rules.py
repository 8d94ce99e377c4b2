"""Two routes of a host to one destination never have one metric, wherever each comes from."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.host import Host, Interface, Route
from provision.inventory.route_rules import route_violations
from provision.inventory.site_index import site_index
from provision.render.networkd import plan
from tests.helpers.inventory_samples import HOSTS, SITE, read, said

A, B = "mac: 52:54:00:00:00:09, network: mgmt", "mac: 52:54:00:00:00:0a, network: office"
FIXED, SIX = "addressing: static, ipv4: 10.1.0.9", "addressing: static, ipv6: '2001:db8:1::9'"
INSIDE = "to: 10.9.0.0/16, via: 10.0.0.2"


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (
            f"{A}, addressing: dhcp, routes: [{{{INSIDE}, metric: 200}}]",
            f"{B}, {FIXED}, routes: [{{to: 10.9.0.0/16, via: 10.1.0.2}}]",
            "b.routes.0.to: a second route to 10.9.0.0/16 with the metric 200, beside that of 'a'",
        ),
        (
            f"{A}, addressing: dhcp, routes: [{{{INSIDE}}}, {{{INSIDE}, metric: 100}}]",
            f"{B}, {FIXED}",
            "a.routes.1.to: a second route to 10.9.0.0/16 with the metric 100, beside that of 'a'",
        ),
        (
            f"{A}, addressing: dhcp",
            f"{B}, {FIXED}, routes: [{{to: 0.0.0.0/0, via: 10.1.0.2, metric: 100}}]",
            "b.routes.0.to: a second route to 0.0.0.0/0 with the metric 100, beside the gateway 10.0.0.1 of network "
            "'mgmt'",
        ),
        (
            f"{A}, addressing: dhcp, routes: [{{to: 0.0.0.0/0, via: 10.0.0.2, metric: 200}}]",
            f"{B}, {FIXED}",
            "a.routes.0.to: a second route to 0.0.0.0/0 with the metric 200, beside the gateway 10.1.0.1",
        ),
        (
            f"{A}, addressing: dhcp",
            f"{B}, metric: 7, {FIXED}, ipv6_addressing: slaac, routes: [{{to: '::/0', via: 'fe80::2', metric: 7}}]",
            "b.routes.0.to: a second route to ::/0 with the metric 7, beside the gateway fe80::1",
        ),
    ],
)
def test_two_of_one_metric(a: str, b: str, words: str) -> None:
    (found,) = said(a=f"{{{a}}}", b=f"{{{b}}}")
    assert found.startswith(words)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            f"{A}, addressing: dhcp, routes: [{{{INSIDE}}}]",
            f"{B}, {FIXED}, routes: [{{to: 10.9.0.0/16, via: 10.1.0.2}}]",
        ),
        (
            f"{A}, addressing: dhcp, routes: [{{{INSIDE}, metric: 200}}]",
            f"{B}, metric: 300, {FIXED}, routes: [{{to: 10.9.0.0/16, via: 10.1.0.2}}]",
        ),
        (f"{A}, addressing: dhcp", f"{B}, {SIX}, routes: [{{to: '::/0', via: '2001:db8:1::2', metric: 100}}]"),
        (f"{A}, addressing: dhcp", f"{B}, {FIXED}, routes: [{{to: 0.0.0.0/0, via: 10.1.0.2, metric: 300}}]"),
    ],
)
def test_what_does_not_compete(a: str, b: str) -> None:
    assert said(a=f"{{{a}}}", b=f"{{{b}}}") == []


def test_a_metric_that_cannot_be_read_says_nothing_of_routes() -> None:
    other = f"{{{B}, {FIXED}}}"
    route = "{to: 10.9.0.0/16, via: 10.0.0.2}"
    (found,) = said(a=f"{{{A}, addressing: dhcp, routes: [{route}, {route[:-1]}, metric: 0}}]}}", b=other)
    assert found.startswith("a.routes.1.metric: ")


SITE_READ = read(SITE, HOSTS).site
ROUTES = st.lists(
    st.builds(
        lambda to, via, metric: Route.model_validate({"to": to, "via": via, "metric": metric}),
        st.sampled_from(("0.0.0.0/0", "10.9.0.0/16", "10.9.0.0/17")),
        st.sampled_from(("10.0.0.2", "10.0.0.3")),
        st.sampled_from((None, 100, 200, 7)),
    ),
    max_size=4,
)


def _host(metrics: tuple[int | None, int | None], routes: tuple[list[Route], list[Route]]) -> Host:
    places = (("52:54:00:00:00:09", "mgmt", "10.0.0.9"), ("52:54:00:00:00:0a", "office", "10.1.0.9"))
    interfaces = {
        f"i{mac[-1]}": Interface.model_validate(
            {"macs": [mac], "network": network, "addressing": "static", "ipv4": address, "metric": metric}
        ).model_copy(update={"routes": tuple(own)})
        for (mac, network, address), metric, own in zip(places, metrics, routes, strict=True)
    }
    return Host(name="node9", interfaces=interfaces)


@given(
    metrics=st.sampled_from(((None, None), (7, None), (None, 7), (200, 100))),
    routes=st.tuples(ROUTES, ROUTES),
)
@settings(max_examples=150, deadline=None)
def test_what_is_refused_is_what_the_host_would_get_twice(
    metrics: tuple[int | None, int | None], routes: tuple[list[Route], list[Route]]
) -> None:
    host = _host(metrics, routes)
    hops = [hop for link in plan(host, SITE_READ) if link.addresses for hop in link.addresses.routes]
    counted = Counter((str(hop.to or "0.0.0.0/0"), hop.metric) for hop in hops)
    refused = list(route_violations(host, ("hosts", "node9"), site_index(SITE_READ)))
    assert len(refused) == sum(count - 1 for count in counted.values())
