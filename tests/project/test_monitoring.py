"""The dashboard and the alert rules name metrics and labels that there are, and the page has all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.principal import PrincipalRole
from provision.secret import Secret
from provision.service.listeners import Listening
from provision.service.tickets import Tickets
from provision.site import CredentialKind
from provision.store.credentials import CredentialInput
from tests.helpers.documents import Document
from tests.helpers.paths import ROOT
from tests.helpers.principals import ROOT as ADMIN
from tests.helpers.site_fixture import MAC3, Site, origin, site
from tests.helpers.tickets import kerberos, write_keytab

_METRIC = re.compile(r"\b((?:provision|process)_[a-z_]+)(?:\{([^}]*)\})?")
_OF_HISTOGRAM = re.compile("_(bucket|sum|count)$")
ADDED = {"instance", "job"}
"""Labels that Prometheus itself gives every sample."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Every metric of a service that has something to tell, and its labels."""
    with site(tmp_path_factory.mktemp("site")) as here:
        return {name: set(labels) for name, labels in told(here).items()}


def told(here: Site) -> dict[str, set[str]]:
    service = here.service
    service.listeners = lambda: {"mgmt": Listening("served", served=True)}
    service.tokens.create(NewToken(name="ci", role=PrincipalRole.READER), ADMIN)
    keytab = CredentialInput("keytab", CredentialKind.KEYTAB, "/etc/krb5.keytab", "0600", Secret(b"x"))
    service.core.store.credentials.set("node3", keytab, service.core.clock())
    write_keytab(here.state / "http.keytab", written=1)
    service.tickets = Tickets(service.core, service.logins, kerberos())
    service.netboot.grub_config(origin(MAC3))
    service.core.alerts.raise_("node3", "duplicate-mac", "a text", service.core.clock())
    service.core.tally.counting(service.media.plan("node1", Medium.ISO, ADMIN), "operator")(0, 1 << 40)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(service.metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def dashboard() -> list[str]:
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    asked = [variable["query"]["query"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    return asked + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "docs/alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that an expression names, with the labels that it picks them by."""
    for name, chosen in _METRIC.findall(expression):
        yield name, set(re.findall(r"(\w+)=", chosen))


@pytest.mark.parametrize("expression", [*dashboard(), *(rule["expr"] for rule in rules())])
def test_what_is_asked_for_is_there(known: Mapping[str, set[str]], expression: str) -> None:
    named = list(used(expression))
    assert named
    for name, labels in named:
        assert name in known, name
        assert labels - ADDED <= known[name], name
    grouped = {word for words in re.findall(r"by \(([^)]*)\)", expression) for word in words.split(", ")}
    assert grouped - ADDED <= set().union(*(known[name] for name, _ in named))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_so(known: Mapping[str, set[str]], rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= set().union(*(known[name] for name, _ in used(rule["expr"])))


def test_what_ends_is_alerted_on_by_its_kind() -> None:
    """Certificates and tokens by the day when they end, keytabs, which have none, by the day when they were sealed."""
    about = {name: rule for rule in rules() for name, _ in used(rule["expr"]) if name.endswith("_timestamp_seconds")}
    assert {name: rule["alert"] for name, rule in about.items()} == {
        "provision_first_not_after_timestamp_seconds": "ProvisionExpiresSoon",
        "provision_oldest_keytab_timestamp_seconds": "ProvisionKeytabOld",
        "provision_api_keytab_timestamp_seconds": "ProvisionApiKeytabOld",
    }
    text = " ".join(Document.read("docs/deployment.md").section("Monitoring").text.split())
    assert all(f"`{rule['alert']}`" in text for rule in about.values())


def test_every_metric_is_described(known: Mapping[str, set[str]]) -> None:
    (rows,) = (table for table in Document.read("docs/deployment.md").section("Monitoring").tables())
    described = {}
    for names, labels, _ in rows:
        for name in re.findall(r"`(\w+)`", names):
            described[name] = set(re.findall(r"`(\w+)`", labels))
    there: dict[str, set[str]] = {}
    for name, own in known.items():
        there.setdefault(_OF_HISTOGRAM.sub("", name), set()).update(own)
    assert described == there


def test_every_metric_of_the_service_is_on_the_dashboard_or_alerted_on(known: Mapping[str, set[str]]) -> None:
    asked = {name for expression in [*dashboard(), *(rule["expr"] for rule in rules())] for name, _ in used(expression)}
    own = {name for name in known if name.startswith("provision_") and not name.endswith(("_sum", "_count"))}
    assert own - asked == set()


def test_panels_do_not_lie_on_each_other() -> None:
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
