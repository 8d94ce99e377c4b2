"""The pages in a real browser, served by a process of its own: what an operator does, and what axe-core says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from provision import clock, settings
from provision.boot import Medium
from provision.service.service import Service
from tests.helpers.api_site import ApiSite, api_site
from tests.helpers.chromium import PHONE, chromium, complaints, context_of, log_in, picture, violations, width
from tests.helpers.cli_runner import cli
from tests.helpers.other_site import other_site
from tests.helpers.page_paths import OTHER, REFUSED, SMALL, THIRD
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC2, STRANGER
from tests.helpers.tpm_samples import tpm

READY = "serving the operators' API at"

_TPM = tpm("node3", 1, "")
"""One that waits to be accepted."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiSite, Served]]:
    made = api_site(tmp_path_factory.mktemp("browser"))
    service = Service.open(settings.load(made.state, made.state / "provision.toml"))
    for mac in (STRANGER, OTHER, THIRD):
        service.core.store.sightings.seen(mac, None, "mgmt", clock.now())
    service.core.store.sightings.flush()
    service.core.store.tpms.put(_TPM)
    # A boot that got its seed a while ago, and nothing since.
    earlier, boots = clock.now() - timedelta(minutes=30), service.core.store.boots
    identity = service.core.state("node2").identity
    boots.charge(boots.begin("node2", MAC2, Medium.PXE, "mgmt", earlier, identity), earlier)
    service.close()
    with serve(made.state) as served:
        served.wait_for(READY)
        yield made, served
        assert served.stop() == 0
        assert "Traceback" not in served.log and "internal error" not in served.log


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def test_an_operator_looks_is_refused_opens_a_window_and_adopts(
    site: tuple[ApiSite, Served], browser: Browser, tmp_path: Path
) -> None:
    made, _ = site
    with context_of(browser) as context:
        page = context.new_page()
        said = complaints(page)
        page.goto(f"{made.url}/")
        expect(page).to_have_url(f"{made.url}/login")
        page.get_by_label("Token").fill("provision_" + "A" * 43)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("This token is not valid")
        assert any("401" in text for text in said)
        said.clear()
        page.get_by_label("Token").fill(made.token)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{made.url}/hosts")
        (cookie,) = context.cookies()
        assert cookie["name"] == "__Host-provision" and cookie["secure"] and cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict" and cookie["path"] == "/"

        page.get_by_role("link", name="node1", exact=True).click()
        expect(page.get_by_role("heading", name="node1")).to_be_visible()
        expect(page.get_by_text("node1 has no open boot window").first).to_be_visible()
        with page.expect_download() as waited:
            page.get_by_role("link", name="Download node1.iso").click()
        waited.value.save_as(tmp_path / "node1.iso")
        assert waited.value.suggested_filename == "node1.iso" and CANARY in (tmp_path / "node1.iso").read_bytes()

        # One page follows what is done on another.
        other = context.new_page()
        other.goto(f"{made.url}/hosts/node1")
        expect(other.locator("[data-events] .state")).to_have_text("idle")
        page.get_by_label("Minutes").first.fill("20")
        page.get_by_role("button", name="Open window").click()
        expect(page.get_by_text("0 of 1 boots used")).to_be_visible()
        expect(other.locator("[data-events] .state")).to_have_text("ready to boot")
        expect(other.get_by_text("0 of 1 boots used")).to_be_visible()
        expect(other.get_by_role("button", name="Close window")).to_be_visible()
        page.get_by_role("button", name="Close window").click()
        expect(page.get_by_text("No window is open")).to_be_visible()
        expect(other.locator("[data-events] .state")).to_have_text("idle")
        expect(other.get_by_role("button", name="Close window")).to_be_hidden()

        page.get_by_label("Only from this address").fill("127.0.0.1")
        page.get_by_role("button", name="Make link").click()
        link = page.get_by_label("Link 1").inner_text()
        assert "/b/" in link and made.curl(link.removeprefix(made.url), known=False)[0] == 200
        expect(other.get_by_role("cell", name="100 %")).to_be_visible()
        page.get_by_role("link", name="Back to node1").click()
        expect(page.get_by_role("cell", name="1 of 1: 127.0.0.1")).to_be_visible()
        page.get_by_role("button", name="Make link").click()
        link = page.get_by_label("Link 1").inner_text()
        page.get_by_role("link", name="Back to node1").click()
        page.get_by_role("button", name="Revoke").first.click()  # the newest
        expect(page.get_by_role("cell", name="revoked")).to_be_visible()
        assert made.curl(link.removeprefix(made.url), known=False)[0] == 404
        assert said == []

        page.goto(f"{made.url}/hosts/node3")
        page.get_by_role("button", name="Open window").click()
        expect(page.get_by_role("alert")).to_contain_text("Way out: set 'netboot: window' to use windows")
        picture(page, "refused")

        page.get_by_role("link", name="Unknown machines").click()
        page.get_by_role("link", name=f"Adopt {STRANGER}").click()
        expect(page.get_by_label("Inventory fragment")).to_contain_text(f'mgmt: {{mac: "{STRANGER}"')
        picture(page, "adopt")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("heading", name="host-525400000099")).to_be_visible()


def test_an_inventory_is_sent_looked_at_and_applied(
    site: tuple[ApiSite, Served], browser: Browser, tmp_path: Path
) -> None:
    made, _ = site
    file = tmp_path / "site.yaml"
    file.write_text(INVENTORY.replace("rack: a", "rack: b", 1))
    with context_of(browser) as context:
        page = log_in(context, made)
        page.get_by_role("link", name="Inventory").click()
        page.get_by_label("Files on your machine").set_input_files(file)
        expect(page.get_by_label("Its YAML")).to_have_value(re.compile("rack: b"))
        page.get_by_role("button", name="Show what would change").click()
        expect(page.get_by_text("labels.rack")).to_be_visible()
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("status")).to_contain_text("Applied.")


def test_another_site_cannot_act_for_who_is_logged_in(site: tuple[ApiSite, Served], browser: Browser) -> None:
    """The same server by another name is another origin, and nearer to the first than any other."""
    made, _ = site
    with context_of(browser) as context:
        log_in(context, made)
        evil = context.new_page()
        evil.set_content(
            f'<form method="post" action="{made.url}/hosts/node1/window"><button>Win a prize</button></form>'
            f'<iframe src="{made.url}/hosts"></iframe>'
        )
        evil.get_by_role("button", name="Win a prize").click()
        expect(evil).to_have_url(f"{made.url}/login")  # SameSite: the cookie did not come along
        assert context.cookies()
        evil.goto(f"{made.url}/hosts/node1")
        expect(evil.get_by_text("No window is open")).to_be_visible()


_EVIL = """<!doctype html><title>Prizes</title>
<form method="post" action="{url}/hosts/node1/window"><button>Win a prize</button></form>
<script>
const all = ["{url}/hosts/node1/window", "{url}/tokens", "{url}/logout"];
const body = new URLSearchParams("name=evil");
const ask = (url) => fetch(url, {{method: "POST", mode: "no-cors", credentials: "include", body}});
const read = fetch("{url}/hosts", {{credentials: "include"}}).then(() => "read", () => "not read");
Promise.allSettled(all.map(ask)).then(async () => {{ document.title = await read; }});
</script>"""


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_by_https_does_nothing(
    site: tuple[ApiSite, Served], browser: Browser, tmp_path: Path, name: str
) -> None:
    """Another port of the same address is the same *site*: the browser sends the cookie along, and the origin and the
    form's key are what is left. Another name is another site, and the cookie stays away."""
    made, _ = site
    with other_site(tmp_path, _EVIL.format(url=made.url)) as port, context_of(browser) as context:
        log_in(context, made)
        evil, asked = context.new_page(), dict[str, str]()
        evil.on("request", lambda one: asked.update({one.url: one.all_headers().get("cookie", "")}))
        evil.goto(f"https://{name}:{port}/")
        expect(evil).to_have_title("not read")
        evil.get_by_role("button", name="Win a prize").click()
        if name == "127.0.0.1":
            expect(evil.get_by_role("alert")).to_contain_text("was not sent by a page of this server")
        else:
            expect(evil).to_have_url(f"{made.url}/login")
        sent = {url: "__Host-provision=" in cookie for url, cookie in asked.items() if made.url in url}
        assert sent[f"{made.url}/hosts/node1/window"] is (name == "127.0.0.1"), "it is what this is about"
        page = context.new_page()
        page.goto(f"{made.url}/hosts/node1")
        expect(page.get_by_text("No window is open")).to_be_visible()
        page.goto(f"{made.url}/tokens")
        expect(page.get_by_role("rowheader", name="tests")).to_be_visible()
        expect(page.get_by_role("rowheader", name="evil")).to_have_count(0)


def test_a_revoked_token_ends_what_is_followed(site: tuple[ApiSite, Served], browser: Browser) -> None:
    made, _ = site
    created = cli(made.state, "token", "create", "short", "--role", "reader", "--json")
    assert created.code == 0, created.err
    with context_of(browser) as context:
        page = log_in(context, made, created.json["token"])
        expect(page.get_by_role("link", name="Tokens")).to_have_count(0)
        page.goto(f"{made.url}/hosts/node1")
        expect(page.get_by_role("button", name="Open window")).to_have_count(0)
        expect(page.get_by_text("is no longer updated")).to_be_hidden()
        assert cli(made.state, "token", "revoke", "short").code == 0
        expect(page.get_by_text("is no longer updated")).to_be_visible()
        page.reload()
        expect(page).to_have_url(f"{made.url}/login")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(site: tuple[ApiSite, Served], browser: Browser, scheme: str) -> None:
    """WCAG 2.2 AA as far as a program can judge; in both schemes, and on a phone without scrolling sideways."""
    made, _ = site
    with context_of(browser, color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        page.goto(f"{made.url}/login")
        found = {"/login": violations(page)}
        page = log_in(context, made)

        def look(path: str) -> None:
            found[path] = violations(page)
            page.set_viewport_size(PHONE)
            found[f"{path}, on a phone"] = violations(page)
            assert width(page) <= PHONE["width"], path
            page.set_viewport_size({"width": 1280, "height": 720})

        for path in (*SMALL, *REFUSED):
            page.goto(made.url + path)
            if (path, scheme) in (("/hosts", "dark"), ("/hosts/node2", "light")):
                picture(page, path.strip("/").replace("/", "-"))
            look(path)
        page.goto(f"{made.url}/hosts/node1")
        page.get_by_role("button", name="Make link").click()
        expect(page.get_by_label("Link 1")).to_be_visible()
        look("a link")
        assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_everything_is_reached_by_the_keyboard(site: tuple[ApiSite, Served], browser: Browser) -> None:
    made, _ = site
    with context_of(browser) as context:
        page = log_in(context, made)
        page.goto(f"{made.url}/hosts")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
        for name in (
            "Hosts",
            "Site",
            "Unknown machines",
            "Inventory",
            "Images",
            "Roll-out",
            "Networks",
            "TPMs",
            "Audit log",
            "Tokens",
        ):
            page.keyboard.press("Tab")
            expect(page.get_by_role("link", name=name, exact=True)).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Log out")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{made.url}/login")
        assert context.cookies() == []


_WHERE = """wanted => {
  const active = document.activeElement, style = getComputedStyle(active);
  const seen = active.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [seen ? "" : active.outerHTML, active === wanted];
}"""


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it is there, as somebody does who has no mouse and has to see where they are."""
    expect(wanted).to_be_visible()
    there = wanted.element_handle()
    for _ in range(100):
        page.keyboard.press("Tab")
        unseen, is_there = page.evaluate(_WHERE, there)
        assert not unseen, unseen
        if is_there:
            expect(wanted).to_be_in_viewport()
            return
    raise AssertionError(f"{wanted} is not reached")


def fill(page: Page, **fields: str) -> None:
    """Write into the fields with these ids, in this order, and send the form from the last one."""
    for name, text in fields.items():
        tab_to(page, page.locator(f"#{name}"))
        page.keyboard.type(text)
    page.keyboard.press("Enter")


def press(page: Page, role: Literal["button", "link"], name: str) -> None:
    tab_to(page, page.get_by_role(role, name=name, exact=True))
    page.keyboard.press("Enter")


def test_every_form_is_sent_by_the_keyboard(site: tuple[ApiSite, Served], browser: Browser) -> None:
    """Window, BMC, TPM, token and adoption, by Tab, Enter and what is written; where one is, is always seen."""
    made, _ = site
    with context_of(browser) as context:
        page = log_in(context, made)
        page.goto(f"{made.url}/hosts/node1")
        fill(page, minutes="20")
        expect(page.get_by_text("0 of 1 boots used")).to_be_visible()
        press(page, "button", "Close window")
        expect(page.get_by_text("No window is open")).to_be_visible()

        press(page, "link", "Set BMC")
        expect(page.get_by_role("heading", name="BMC of node1")).to_be_visible()
        fill(page, url="https://10.0.0.201", user="root", password="a password", fingerprint="ab" * 32)
        expect(page.get_by_text("root at https://10.0.0.201")).to_be_visible()
        press(page, "button", "Remove BMC")
        expect(page.get_by_text("No BMC is set for this host.")).to_be_visible()
        fill(page, **{"enrolment-minutes": "10"})
        expect(page.get_by_text("A TPM may be enrolled until")).to_be_visible()
        press(page, "button", "Close enrolment")
        expect(page.get_by_role("button", name="Open enrolment")).to_be_visible()

        page.goto(f"{made.url}/hosts/node3")
        fill(page, fingerprint=_TPM.fingerprint)
        expect(page.get_by_text("Enrolled: accepted")).to_be_visible()
        press(page, "button", "Remove TPM")
        expect(page.get_by_text("No TPM is enrolled.")).to_be_visible()

        press(page, "link", "Tokens")
        fill(page, name="keys", days="1")
        expect(page.get_by_text("Token keys was made.")).to_be_visible()
        press(page, "button", "Revoke keys")
        expect(page.get_by_role("rowheader", name="keys")).to_have_count(0)

        press(page, "link", "Unknown machines")
        press(page, "link", f"Adopt {THIRD}")
        fill(page, name="")
        press(page, "button", "Apply")
        expect(page.get_by_role("heading", name="host-525400000097")).to_be_visible()
