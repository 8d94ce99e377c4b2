"""Every figure that is told is one that is so, in a format that a strict parser takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.errors import Unauthenticated, Unavailable
from provision.principal import PrincipalRole
from provision.service.listeners import Listening
from provision.service.tickets import Tickets
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    MAC1,
    MAC3,
    NOW,
    STRANGER,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    request,
    seed_url,
    site,
)
from tests.helpers.tickets import kerberos, write_keytab

Labels = Mapping[str, str]


def samples(here: Site) -> dict[str, list[tuple[Labels, float]]]:
    """Every sample by its name."""
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(here.service.metrics.text().decode()):
        assert family.documentation.endswith(".") or family.name.startswith("process_"), family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def value(here: Site, name: str, **labels: str) -> float:
    (found,) = (number for own, number in samples(here)[name] if own == labels)
    return found


def test_refusals_are_told_by_rule_and_channel(here: Site) -> None:
    netboot = here.service.netboot
    for _ in range(3):
        netboot.grub_config(origin(MAC3))
    boot_iso(netboot, origin(STRANGER), 0, everything)
    assert value(here, "provision_refusals_total", rule="netboot-never", channel="management:mgmt") == 3
    assert value(here, "provision_refusals_total", rule="unknown-host", channel="management:mgmt") == 1
    assert "provision_releases_total" not in samples(here)


def test_a_boot_is_told_from_its_window_to_its_end(here: Site) -> None:
    here.window()
    assert value(here, "provision_windows_open") == 1
    delivery = here.service.netboot.seed(origin(), seed_url(here))
    charged(delivery)
    delivery.taken(range(100))
    assert value(here, "provision_secret_bytes_total", channel="management:mgmt") == 100
    here.clock.advance(seconds=61)
    here.service.netboot.phone_home.up(
        "node1", here.service.core.store.keys.phone_home(delivery.boot.id, "node1").reveal()
    )
    assert value(here, "provision_windows_open") == 0
    assert value(here, "provision_window_to_up_seconds_count") == 1
    assert value(here, "provision_window_to_up_seconds_sum") == 61
    assert value(here, "provision_window_to_up_seconds_bucket", le="60.0") == 0
    assert value(here, "provision_window_to_up_seconds_bucket", le="120.0") == 1


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def test_a_download_counts_the_seed_and_nothing_else(here: Site, app: Guard) -> None:
    plan = here.service.media.plan("node1", Medium.ISO, ROOT)
    (at,) = plan.seed
    (seed,) = [patch for patch in plan.patches if patch.offset == at]
    for method, headers, sent in (
        ("HEAD", {}, 0),
        ("GET", {"range": f"bytes=0-{at - 1}"}, 0),
        ("GET", {"range": f"bytes={at}-{at + 9}"}, 10),
        ("GET", {}, len(seed.data)),
    ):
        before = dict(here.service.core.tally.secrets()).get(("operator",), 0)
        assert request(app, method, "/v1/hosts/node1/iso", headers=headers, peer="uid=0").status in (200, 206)
        assert dict(here.service.core.tally.secrets()).get(("operator",), 0) - before == sent, (method, headers)


def test_what_is_given_by_link_counts_where_it_went(here: Site) -> None:
    plan = here.service.media.plan("node1", Medium.ISO, ROOT)
    (at,) = plan.seed
    count = here.service.core.tally.counting(plan, "management:mgmt")
    count(0, at + 5)
    count(0, at + 7)
    assert value(here, "provision_secret_bytes_total", channel="management:mgmt") == 7


def test_vain_tokens_are_told(here: Site) -> None:
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            here.service.logins.by_token(b"provision_no-such-token", "192.0.2.7")
    assert value(here, "provision_refusals_total", rule="login-failed", channel="api") == 2


def test_what_the_service_stands_on_is_told(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("provision_store_trusted", "provision_clock_trusted", "provision_audit_writable")
    assert [value(here, name) for name in names] == [1, 1, 1]
    assert value(here, "provision_audit_sequence") == here.service.core.audit.sequence > 0
    here.clock.advance(days=1)
    here.service.core.footing.watch()
    here.clock.advance(days=-1)
    assert value(here, "provision_clock_trusted") == 0
    assert value(here, "provision_image_whole", image="base") == 1
    base_id = here.service.core.bases()["base"]
    monkeypatch.setitem(here.service.core.integrity._damaged, base_id, Unavailable("base", "is damaged"))
    assert value(here, "provision_image_whole", image="base") == 0
    (here.state / "audit.log").rename(here.state / "gone")
    assert value(here, "provision_audit_writable") == 0


def test_listeners_and_what_expires_are_told(here: Site) -> None:
    name = "provision_first_not_after_timestamp_seconds"
    assert not {name, "provision_oldest_keytab_timestamp_seconds"} & samples(here).keys()
    assert "provision_api_keytab_timestamp_seconds" not in samples(here)
    write_keytab(here.state / "http.keytab", written=4711)
    here.service.tickets = Tickets(here.service.core, here.service.logins, kerberos())
    del here.service.metrics
    assert value(here, "provision_api_keytab_timestamp_seconds") == 4711
    here.service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER, days=10), ROOT)
    here.service.listeners = lambda: {
        "mgmt": Listening("served", served=True),
        "[api]": Listening("no", served=False, expires=NOW - timedelta(days=2)),
    }
    assert value(here, "provision_listener_up", listener="mgmt") == 1
    assert value(here, "provision_listener_up", listener="[api]") == 0
    assert value(here, name, kind="api-certificate") == (NOW - timedelta(days=2)).timestamp()
    assert value(here, name, kind="token") == (NOW + timedelta(days=10)).timestamp()


def test_alerts_are_told_by_kind(here: Site) -> None:
    """Those that the status shows, of hosts that there are."""
    for host, kind in (("node1", "duplicate-mac"), ("node2", "duplicate-mac"), ("node2", "other"), ("gone", "other")):
        here.service.core.alerts.raise_(host, kind, "a text", here.clock.now)
    assert value(here, "provision_hosts_alerted", kind="duplicate-mac") == 2
    assert value(here, "provision_hosts_alerted", kind="other") == 1
    here.clock.advance(days=1)
    assert "provision_hosts_alerted" not in samples(here)


def test_the_process_is_told(here: Site) -> None:
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"} <= samples(here).keys()


def test_no_label_is_anybodys_to_choose(here: Site) -> None:
    """Strangers by the hundred make no series, and no address, name of a machine or secret is a label."""
    here.window()
    charged(here.service.netboot.seed(origin(), seed_url(here)))
    for number in range(300):
        here.service.netboot.grub_config(origin(f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"))
    found = samples(here)
    assert len(found["provision_refusals_total"]) == 1
    text = here.service.metrics.text()
    assert CANARY not in text and b"node1" not in text and MAC1.encode() not in text and b"10.0.0." not in text
    assert {label for rows in found.values() for labels, _ in rows for label in labels} <= {
        *("rule", "channel", "medium", "image", "listener", "kind", "le")
    }


def test_the_route_and_its_own_socket_answer_the_same(here: Site, app: Guard) -> None:
    alone = operator_app.create_metrics(here.service)
    for asked in (app, alone):
        reply = request(asked, "GET", "/v1/metrics", peer="uid=0")
        assert reply.status == 200 and b"provision_hosts 3.0\n" in reply.body
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for path in ("/v1/hosts", "/v1/hosts/node1/iso", "/v1/openapi.json", "/v1/health"):
        reply = request(alone, "GET", path, peer="uid=0")
        assert reply.status == 404 and CANARY not in reply.body
    assert request(alone, "GET", "/v1/metrics", peer="10.0.0.1").status == 403


def test_two_services_do_not_count_for_each_other(here: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    with site(tmp_path_factory.mktemp("other")) as other:
        here.service.netboot.grub_config(origin(MAC3))
        assert "provision_refusals_total" in samples(here)
        assert "provision_refusals_total" not in samples(other)
