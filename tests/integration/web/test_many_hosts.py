"""Many hosts in a real browser: a site is looked at, hosts are selected and switched, BMCs are set; with and without
script, by keyboard, and as axe-core sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from provision import clock, settings
from provision.boot import Medium
from provision.service.service import Service
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.chromium import PHONE, chromium, complaints, context_of, log_in, picture, violations, width
from tests.helpers.cli_runner import cli
from tests.helpers.page_paths import MANY
from tests.helpers.redfish import PASSWORD, USER, Bmc, certificate, fingerprint, served
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import INVENTORY, make_base, touch

_RACKS, _EACH = 24, 12
_HOST = """\
  hv{n}:
    netboot: always
    labels: {{rack: r{rack}, row: {row}}}
    interfaces:
      mgmt: {{mac: "52:54:01:00:{a:02x}:{b:02x}", network: mgmt, addressing: dhcp}}
"""
_SITE = INVENTORY.replace("10.0.0.0/24", "10.0.0.0/16") + "".join(
    _HOST.format(n=n, rack=n // _EACH + 1, row="ab"[n // _EACH % 2], a=n >> 8, b=n & 255) for n in range(_RACKS * _EACH)
)
_PARTS = {"virtual machines": 31, "kernel modules": 14, "system": 12, "kernel": 9, "python": 9, "security": 7}
_FINGERPRINT = fingerprint(certificate()[0])


@pytest.fixture(scope="module")
def bmc() -> Iterator[Bmc]:
    with served("hpe") as there:
        yield there


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, bmc: Bmc) -> Iterator[ApiSite]:
    made = api_site(tmp_path_factory.mktemp("many"))
    (record,) = made.state.glob("bases/*/base.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"parts": {n: m << 20 for n, m in _PARTS.items()}}))
    touch(record)
    file, word = made.state.parent / "site.yaml", made.state.parent / "word"
    file.write_text(_SITE)
    word.write_text(PASSWORD)
    told = ("--url", bmc.url, "--user", USER, "--password-file", word, "--fingerprint", _FINGERPRINT)
    for command in (("apply", file), ("bmc", "set", "node1", *told)):
        ran = cli(made.state, *command)
        assert ran.code == 0, ran.err
    service = Service.open(settings.load(made.state, made.state / "provision.toml"))
    service.core.store.bases.name("other", make_base(made.state, "other").id)
    _boot(service, clock.now())
    service.close()
    with serve(made.state) as serving:
        serving.wait_for("serving the operators' API at")
        yield made
        _stopped(serving)


def _stopped(serving: Served) -> None:
    assert serving.stop() == 0
    assert "Traceback" not in serving.log and "internal error" not in serving.log and PASSWORD not in serving.log


def _boot(service: Service, now: datetime) -> None:
    """Most hosts are up; of some racks a few are stuck, or boot."""
    boots = service.core.store.boots
    for name, host in service.core.hosts.items():
        number = int(name[2:]) if name.startswith("hv") else -1
        rack = number // _EACH
        if number < 0 or number % 11 == 10:
            continue
        stuck, booting = (rack == 4 and number % 2 == 1) or number % 37 == 5, rack == 9
        began = now - timedelta(minutes=2 if booting else 40)
        boot = boots.begin(name, host.macs[0], Medium.PXE, "mgmt", began, service.core.state(name).identity)
        if (charged := boots.charge(boot, began)) and not stuck and not booting:
            boots.mark_up(charged, began)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def test_hosts_are_selected_and_what_is_marked_stays_marked(site: ApiSite, browser: Browser) -> None:
    with context_of(browser) as context:
        page = log_in(context, site)
        said = complaints(page)
        page.goto(f"{site.url}/hosts?search=node")
        box = page.get_by_role("checkbox", name="Select node1")
        box.focus()
        page.keyboard.press("Space")
        assert cli(site.state, "window", "node1").code == 0
        expect(page.locator("span.state.ready")).to_have_count(1)
        expect(box).to_be_checked()
        expect(box).to_be_focused()
        expect(page.locator("[data-said]")).to_contain_text("1 ready to boot")
        page.get_by_role("button", name="Select all on this page").click()
        expect(page.get_by_role("checkbox", name="Select node3")).to_be_checked()
        page.get_by_role("button", name="Open window…").click()
        expect(page.get_by_text("1 of 3 would be refused")).to_be_visible()
        expect(page.get_by_role("cell", name="netboot-never")).to_be_visible()
        page.get_by_role("button", name="Open window for 2 hosts").click()
        expect(page.locator("[data-news]")).to_contain_text("Finished.")
        expect(page.get_by_role("row", name="node3")).to_contain_text("Set 'netboot: window'")
        assert cli(site.state, "status", "node2", "--json").json["hosts"][0]["window"]["open"]
        assert said == []


def test_all_that_match_are_switched_and_one_host_is_followed(site: ApiSite, browser: Browser, bmc: Bmc) -> None:
    with context_of(browser) as context:
        page = log_in(context, site)
        page.goto(f"{site.url}/hosts?search=node")
        page.get_by_label("All 3 hosts that match").check()
        page.get_by_role("button", name="Power on…").click()
        expect(page.get_by_text("2 of 3 would be refused")).to_be_visible()
        page.get_by_role("button", name="Power on for 1 host").click()
        expect(page.locator("[data-news]")).to_contain_text("Finished.")
        expect(page.get_by_role("row", name="node1")).to_contain_text("the machine is on")
        expect(page.get_by_role("button", name="Cancel the rest")).to_be_hidden()
        assert bmc.system["PowerState"] == "On"
        page.get_by_role("link", name="node1", exact=True).click()
        page.get_by_role("link", name="Ask the BMC for the power state").click()
        expect(page.locator("#power-state")).to_have_text("The machine is on, as its BMC says.")
        page.get_by_role("button", name="Power off…").click()
        page.get_by_label("Switch off at once").check()
        page.get_by_role("button", name="Power off: node1").click()
        expect(page.get_by_role("heading", name="Last operation: power off")).to_be_visible()
        expect(page.get_by_role("listitem").filter(has_text="the machine is off")).to_be_visible()
        assert bmc.system["PowerState"] == "Off"
        expect(page.get_by_role("button", name="Cancel what is under way")).to_be_hidden()


def test_a_bmc_is_set_and_its_password_is_not_shown(site: ApiSite, browser: Browser, bmc: Bmc) -> None:
    with context_of(browser) as context:
        page = log_in(context, site)
        page.goto(f"{site.url}/hosts/node2")
        page.get_by_role("link", name="Set BMC").click()
        for label, text in (("URL", bmc.url), ("User", USER), ("Password", PASSWORD), ("SHA-256", "wrong")):
            page.get_by_label(label).fill(text)
        page.get_by_role("button", name="Set BMC").click()
        expect(page.get_by_role("alert")).to_contain_text("is not a SHA-256")
        expect(page.get_by_label("URL")).to_have_value(bmc.url)
        expect(page.get_by_label("Password")).to_have_value("")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("SHA-256").fill(_FINGERPRINT)
        page.get_by_role("button", name="Set BMC").click()
        page.get_by_role("button", name="Check BMC").click()
        expect(page.get_by_text("none of the MACs of node2")).to_be_visible()
        page.goto(f"{site.url}/hosts/node2")
        assert PASSWORD not in page.content()
        page.get_by_role("button", name="Remove BMC").click()
        expect(page.get_by_text("No BMC is set for this host.")).to_be_visible()


def test_a_rollout_is_started_followed_and_taken_back(site: ApiSite, browser: Browser) -> None:
    with context_of(browser) as context:
        page = log_in(context, site)
        said = complaints(page)
        page.get_by_role("link", name="Roll-out").click()
        page.get_by_label("Base image").select_option("other")
        page.get_by_label("Only hosts with this label").fill("rack=r1")
        page.get_by_label("Percentage").fill("25")
        page.get_by_role("button", name="Start roll-out").focus()
        page.keyboard.press("Enter")
        news = page.locator("[data-news]")
        expect(news).to_contain_text("hosts with rack=r1: running, 3 pending, 9 not moved yet.")
        assert cli(site.state, "rollout", "pause").code == 0
        expect(news).to_contain_text("paused")
        expect(page.get_by_role("button", name="Pause")).to_be_hidden()
        page.get_by_role("button", name="Continue").click()
        expect(news).to_contain_text("running")
        page.get_by_role("link", name="Roll back…").click()
        page.get_by_role("button", name="Roll back").click()
        expect(page.get_by_role("status")).to_contain_text("3 hosts have the base image of the inventory again")
        assert said == []


def test_without_script(site: ApiSite, browser: Browser) -> None:
    with context_of(browser, java_script_enabled=False) as context:
        page = log_in(context, site)
        page.goto(f"{site.url}/hosts?label=rack&value=a")
        page.get_by_role("checkbox", name="Select node2").check()
        page.get_by_role("button", name="Make link to ISO…").click()
        page.get_by_role("button", name="Make link to ISO: node2").click()
        expect(page.get_by_label("Links, one line per host")).to_contain_text(f"node2 {site.url}/b/")
        page.goto(f"{site.url}/hosts/node1")
        page.get_by_role("link", name="Ask the BMC for the power state").click()
        expect(page.get_by_text("The machine is")).to_be_visible()
        page.goto(f"{site.url}/inventory")
        expect(page.get_by_label("Files on your machine")).to_be_hidden()
        page.get_by_label("Its YAML").fill(_SITE)
        page.get_by_role("button", name="Add another file").click()
        expect(page.get_by_label("Its YAML")).to_have_count(2)


def _send_files(page: Page, site: ApiSite, directory: Path, rack: str) -> None:
    """Show what the inventory of two files changes."""
    start = _SITE.index("  hv0:")
    (directory / "a-site.yaml").write_text(_SITE[:start].replace("rack: a", f"rack: {rack}", 1))
    (directory / "b-racks.yaml").write_text("hosts:\n" + _SITE[start:])
    page.goto(f"{site.url}/inventory")
    page.get_by_label("Files on your machine").set_input_files([directory / "b-racks.yaml", directory / "a-site.yaml"])
    expect(page.get_by_label("Name of the file").nth(1)).to_have_value("b-racks.yaml")
    page.get_by_role("button", name="Show what would change").click()


def test_an_inventory_of_several_files(site: ApiSite, browser: Browser, tmp_path: Path) -> None:
    with context_of(browser) as context:
        page = log_in(context, site)
        _send_files(page, site, tmp_path, "'7 7'")
        line = _SITE[: _SITE.index("rack: a")].count("\n") + 1
        expect(page.get_by_role("alert")).to_contain_text(f"a-site.yaml:{line}")
        _send_files(page, site, tmp_path, "b7")
        expect(page.get_by_role("heading", name="a-site.yaml")).to_be_visible()
        expect(page.get_by_text("labels.rack: a -> b7")).to_be_visible()
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("status")).to_contain_text("Applied.")


_KEPT = {("site", "light"), ("images", "dark"), ("selection", "light"), ("rollout", "light")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_these_pages_keep_nobody_out(site: ApiSite, browser: Browser, scheme: str, tmp_path: Path) -> None:
    """WCAG 2.2 AA as far as a program can judge; and on a phone without scrolling sideways."""
    found, wide = {}, {}
    begun = cli(site.state, "rollout", "start", "other", "--selector", "rack=r2", "--percent", "20")
    assert begun.code == 0, begun.err
    with context_of(browser, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True) as context:
        page = log_in(context, site)

        def look(name: str) -> None:
            found[name] = violations(page)
            page.set_viewport_size(PHONE)
            wide[name], found[f"{name}, on a phone"] = width(page), violations(page)
            page.set_viewport_size({"width": 1280, "height": 720})

        for name, path in MANY.items():
            page.goto(site.url + path)
            if (name, scheme) in _KEPT:
                picture(page, name)
            look(name)
        moves = "getComputedStyle(document.querySelector('button')).transitionDuration"
        assert page.evaluate(moves) == "0s"
        page.get_by_role("button", name="Check BMC").click()
        expect(page.get_by_text("Manufacturer")).to_be_visible()
        look("check")
        page.goto(f"{site.url}/selection?action=window&host=node1&host=node2&host=node3")
        page.get_by_role("button", name="Open window for 2 hosts").click()
        expect(page.locator("[data-news]")).to_contain_text("Finished.")
        look("batch")
        _send_files(page, site, tmp_path, "c")
        expect(page.get_by_role("heading", name="What would change")).to_be_visible()
        look("difference")
        page.goto(f"{site.url}/rollout/rollback")
        page.get_by_role("button", name="Roll back").click()
        look("rolled back")
        page.goto(f"{site.url}/rollout")
        look("no roll-out")
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert {name: pixels for name, pixels in wide.items() if pixels > PHONE["width"]} == {}
