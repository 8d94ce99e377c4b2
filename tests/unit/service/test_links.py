"""Links from their making to their end: who gets which bytes, and what the audit log says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from provision.api.links import LinkMedium, MakeLink
from provision.boot import LINK_IDLE, ChannelKind, Copy, Medium
from provision.errors import Conflict, Denied, Gone, Invalid, NotFound, ProvisionError, TooMany, Unavailable
from provision.link import MOST_CHARACTERS
from provision.principal import PrincipalRole
from provision.service.endpoints import Endpoints
from provision.service.guesses import AT_ONCE
from provision.service.service import Service
from provision.settings import Api
from provision.store.audit import Audit
from tests.helpers.links import BMC, OTHER, PLAIN, Made, content, make, take
from tests.helpers.principals import ROOT, with_role
from tests.helpers.site_fixture import CANARY, INVENTORY, Site, settings, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def refused(
    error: type[ProvisionError], here: Site, link: Made | str, peer: str = BMC, **fields: Any
) -> ProvisionError:
    with pytest.raises(error) as found:
        take(here, link, peer, **fields)
    return found.value


def test_a_link_is_short_and_shown_once(here: Site) -> None:
    made = make(here, minutes=30, address=BMC)
    (url,) = made.answer.urls
    assert url == f"http://10.0.0.1{made.path}" and len(url) <= MOST_CHARACTERS and made.answer.caution is None
    secret = made.path[3:29]
    assert secret not in repr(made.answer)
    (row,) = here.service.links.listing(ROOT)
    assert (row.id, row.host, row.state, row.used, row.uses, row.address, row.by) == (
        made.id,
        "node1",
        "good",
        0,
        1,
        BMC,
        "uid=0",
    )
    take(here, made)
    files = [path for path in here.state.rglob("*") if path.is_file()]
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_a_link_names_the_proxy_first(here: Site) -> None:
    core = here.service.core
    api = {"address": "10.0.0.1", "port": 8443, "certificate": "c", "key": "k"}
    proxy = {"port": 8444, "addresses": ["10.0.0.5"], "certificate": "p", "public_name": "prov.example.net"}
    core.settings = core.settings.model_copy(update={"api": Api.model_validate({**api, "proxy": proxy})})
    core.endpoints = Endpoints(core.settings, lambda: core.site)
    first, second, _ = make(here).answer.urls
    assert first.startswith("https://prov.example.net/b/") and second.startswith("https://10.0.0.1:8443/b/")
    assert len(first) <= MOST_CHARACTERS


def test_a_link_by_the_longest_address_fits_and_is_honoured(here: Site) -> None:
    core = here.service.core
    api = {"address": "192.168.100.200", "port": 8443, "certificate": "c", "key": "k"}
    core.settings = core.settings.model_copy(update={"api": Api.model_validate(api)})
    core.endpoints = Endpoints(core.settings, lambda: core.site)
    made = make(here)
    first = next(url for url in made.answer.urls if "192.168.100.200:8443" in url)
    assert len(first) == MOST_CHARACTERS and made.answer.caution is None
    assert CANARY in content(take(here, made).plan)


def test_all_reads_of_a_link_are_of_one_copy(here: Site) -> None:
    made = make(here, uses=2)
    first, second = take(here, made).plan, take(here, made, OTHER).plan
    assert first.etag == second.etag and CANARY in content(first)
    assert take(here, made, channel=PLAIN).plan.etag == first.etag, "on whatever channel"
    assert take(here, make(here)).plan.etag != first.etag, "another link is another copy"
    assert here.service.media.plan("node1", Medium.ISO, ROOT).etag != first.etag


def test_the_disk_has_a_link_of_its_own(here: Site) -> None:
    made = make(here, medium=LinkMedium.DISK)
    assert made.path.endswith(".img") and take(here, made).plan.size == 4 << 20
    refused(NotFound, here, made.path.replace(".img", ".iso"))


def test_one_use_is_one_peers_session(here: Site) -> None:
    made = make(here)
    for _ in range(3):
        take(here, made, OTHER, sends=False)
    for _ in range(20):
        take(here, made)
    refused(NotFound, here, made, OTHER)
    refused(NotFound, here, made, OTHER, sends=False)
    here.clock.now += LINK_IDLE / 2
    take(here, made).seen(0, 1)
    here.clock.now += LINK_IDLE * 3 / 4
    take(here, made, sends=False)
    here.clock.now += LINK_IDLE
    refused(NotFound, here, made)
    assert here.service.links.listing(ROOT)[0].state == "used up (1 of 1 uses)"


def test_whatever_ended_it_the_answer_is_that_of_a_guess(here: Site) -> None:
    guess = refused(NotFound, here, f"/b/{'0' * 26}.iso")
    used, revoked, bound, expired = make(here), make(here), make(here, address=OTHER), make(here, minutes=1)
    take(here, used, OTHER)
    here.service.links.revoke(revoked.id, ROOT)
    here.clock.advance(minutes=1)
    asked: list[Made | str] = [used, revoked, bound, expired, "/b/", "/b/../v1/hosts", f"{used.path}/"]
    for peer, link in enumerate(asked):
        error = refused(NotFound, here, link, f"10.0.0.{peer + 50}")
        assert error.details() == guess.details()
    rules = [entry["rule"] for entry in here.audit("decision") if entry["answer"] == "denied"]
    assert sorted(rules) == ["link-elsewhere", "link-ended", "link-ended", "link-ended"]
    removed = make(here, "node2")
    here.apply(INVENTORY.split("  node2:")[0])
    assert refused(NotFound, here, removed, "10.0.0.70").details() == guess.details()


def test_a_changed_host_withdraws_it(here: Site) -> None:
    made, other, idle = make(here), make(here, "node2"), make(here)
    taken = take(here, made)
    taken.check()
    here.secret("node1", b"another-token-of-node1")
    with pytest.raises(Gone):
        taken.check()
    assert refused(Gone, here, made).status == 410
    assert refused(Gone, here, idle, OTHER).status == 410
    assert here.service.links.listing(ROOT, "node1")[0].state == "withdrawn" and not idle.answer.caution
    take(here, other)
    assert [e["rule"] for e in here.audit("decision") if e["answer"] == "denied"] == ["link-withdrawn"] * 2


def test_a_withdrawn_link_is_not_used(here: Site) -> None:
    made = make(here)
    here.secret("node1", b"another-token-of-node1")
    refused(Gone, here, made)
    assert here.service.links.listing(ROOT)[0].used == 0


def test_a_revoked_link_is_cut_off(here: Site) -> None:
    made = make(here)
    taken = take(here, made)
    here.service.links.revoke(made.id, ROOT)
    with pytest.raises(Gone):
        taken.check()
    refused(NotFound, here, made)
    here.service.links.revoke(made.id, ROOT)
    with pytest.raises(NotFound):
        here.service.links.revoke("0" * 12, ROOT)
    assert [(e["link"], e["host"], e["operator"]) for e in here.audit("link-revoked")] == [(made.id, "node1", "uid=0")]


def test_plain_http_is_for_management_networks_that_say_so(here: Site) -> None:
    made = make(here, uses=9)
    assert CANARY in content(take(here, made, channel=PLAIN).plan)
    for channel in (replace(PLAIN, links=False), replace(PLAIN, kind=ChannelKind.GENERAL)):
        error = refused(Denied, here, made, channel=channel)
        assert isinstance(error, Denied) and error.rule == "link-in-clear"
    refused(Denied, here, made, channel=PLAIN, local=True)
    refused(Denied, here, made, "10.9.0.1", channel=PLAIN)
    assert here.service.links.listing(ROOT)[0].used == 1, "what policy denies takes no use"


def test_a_peer_that_guesses_has_to_wait_and_others_do_not(here: Site) -> None:
    made, running = make(here), make(here)
    take(here, running)
    for _ in range(AT_ONCE):
        refused(NotFound, here, f"/b/{'0' * 26}.iso")
    assert refused(TooMany, here, f"/b/{'1' * 26}.iso").status == 429
    refused(TooMany, here, made)
    take(here, running)
    take(here, made, OTHER)
    (entry,) = [e for e in here.audit("link-refused") if "count" not in e]
    assert (entry["address"], entry["channel"], entry["answer"]) == (BMC, "operator", "denied")


def test_the_log_has_the_use_before_a_byte_goes(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(here)
    (entry,) = here.audit("link-made")
    assert (entry["host"], entry["medium"], entry["link"], entry["uses"]) == ("node1", "iso", made.id, 1)
    whole = Audit.record

    def broken(self: Audit, event: Any, *args: Any, **fields: Any) -> int:
        if event.get("event") == "decision":
            raise Unavailable("audit.log", "cannot be written", "make room")
        return whole(self, event, *args, **fields)

    with monkeypatch.context() as patched:
        patched.setattr(Audit, "record", broken)
        refused(Unavailable, here, made)
    take(here, made)
    released = [e for e in here.audit("decision") if e["answer"] == "released"]
    assert [(e["link"], e["address"], e["channel"], e["host"]) for e in released] == [
        (made.id, BMC, "operator", "node1")
    ]


def test_what_comes_up_by_a_link_is_a_boot_of_its_copy(here: Site) -> None:
    made = make(here)
    link = here.service.core.store.links.get(made.id)
    assert link is not None
    key = here.service.core.store.keys.of_copy(Copy("node1", Medium.ISO, link.copy)).reveal()
    assert key in content(take(here, made).plan) or key.hex().encode() in content(take(here, made).plan)
    boot = here.service.netboot.phone_home.up("node1", key)
    assert (boot.medium, boot.seed_revision) == (Medium.ISO, link.copy)


def test_no_link_is_made_to_what_policy_would_not_give(here: Site) -> None:
    here.service.credentials.remove("node1", "token", ROOT)
    with pytest.raises(Denied) as error:
        make(here)
    assert error.value.rule == "incomplete"
    with pytest.raises(NotFound):
        make(here, "node9")
    limits: tuple[dict[str, Any], ...] = ({"minutes": 0}, {"uses": 0}, {"uses": 101}, {"minutes": 10081})
    for fields in limits:
        with pytest.raises(Invalid):
            make(here, "node2", **fields)
    assert here.service.links.listing(ROOT) == [] and here.audit("link-made") == []


def test_nothing_is_made_where_nothing_is_honoured(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        pass
    service = Service.open(settings(here.state, listen=()), here.clock)
    with closing(service), pytest.raises(Conflict) as error:
        make(replace(here, service=service))
    assert "links = true" in error.value.remedy


def test_accepting_a_clock_revokes_them(here: Site) -> None:
    made = make(here)
    here.service.core.footing.accept_clock("it was ahead", ROOT)
    refused(NotFound, here, made)
    assert here.service.links.listing(ROOT)[0].state == "revoked"


def test_explain_shows_who_gets_it_by_link(here: Site) -> None:
    rows = here.service.reports.explain("node1", with_role(PrincipalRole.READER))
    by_link = {(str(row.medium), row.channel): (row.allowed, row.rule) for row in rows if row.by == "link"}
    assert by_link == {
        **{(medium, "management:mgmt"): (True, None) for medium in ("iso", "disk")},
        **{(medium, "general:office"): (False, "link-in-clear") for medium in ("iso", "disk")},
    }


def test_who_sees_other_hosts_sees_and_revokes_no_link_of_this_one(here: Site) -> None:
    made, other = make(here), replace(ROOT, name="token:x", selector=(("rack", "b"),))
    assert here.service.links.listing(other) == []
    for ask in (
        lambda: here.service.links.listing(other, "node1"),
        lambda: here.service.links.revoke(made.id, other),
        lambda: here.service.links.make("node1", MakeLink(medium=LinkMedium.ISO), other),
    ):
        with pytest.raises(NotFound):
            ask()
    same = replace(other, selector=(("rack", "a"),))
    assert [row.id for row in here.service.links.listing(same, "node1")] == [made.id]
    here.service.links.revoke(made.id, same)


@pytest.mark.parametrize(
    ("address", "port", "names", "base"),
    [
        ("192.0.2.1", 8443, (), "https://192.0.2.1:8443/b/"),
        ("192.0.2.1", 443, ("other",), "https://192.0.2.1/b/"),
        ("2001:db8::1", 8443, (), "https://[2001:db8::1]:8443/b/"),
        ("0.0.0.0", 8443, ("p.example", "192.0.2.7"), "https://192.0.2.7:8443/b/"),
        ("::", 443, ("p.example",), "https://p.example/b/"),
    ],
)
def test_its_address_over_tls_comes_first(
    tmp_path: Path, address: str, port: int, names: tuple[str, ...], base: str
) -> None:
    with site(tmp_path) as here:
        pass
    api = Api(address=ip_address(address), port=port, certificate=Path("crt"), key=Path("key"), names=names)
    service = Service.open(settings(here.state, api=api), here.clock)
    with closing(service):
        urls = make(replace(here, service=service)).answer.urls
    assert [url[:-30] for url in urls] == [base, "http://10.0.0.1/b/"]


def test_whether_one_would_be_made_is_asked_without_making_it(here: Site) -> None:
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: never\n    storage: none\n"))
    before = here.audit()
    here.service.links.require("node1", Medium.ISO, ROOT)
    with pytest.raises(Denied) as no:
        here.service.links.require("node3", Medium.DISK, ROOT)
    assert no.value.rule == "no-storage"
    with pytest.raises(NotFound):
        here.service.links.require("node9", Medium.ISO, ROOT)
    assert here.service.core.store.links.all() == [] and here.audit() == before
