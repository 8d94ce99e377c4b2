"""A boot that somebody follows in a browser: one page, never loaded again, while a machine boots by its BMC."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from provision.lab.lans import inside
from provision.lab.processes import Patience, wait_until
from provision.lab.vm import Firmware
from tests.boot.chassis import chassis
from tests.boot.office import Boot, Office
from tests.boot.site import API, MEMBERS, BootSite, Member
from tests.boot.test_bmc import came_up
from tests.helpers.chromium import chromium, context_of

PICTURES = os.environ.get("PICTURES")
"""The directory for pictures of the pages; `make pictures` says where."""

_PATIENCE = 300.0
"""Seconds in which neither the machine nor the command shows anything new: several times what the longest step takes on
a quiet machine."""


@pytest.fixture
def browser(office: Office) -> Iterator[Browser]:
    """A browser that is where the operator is."""
    with inside(office.namespace), chromium() as opened:
        yield opened


def followed(timeline: Locator, pattern: str, site: BootSite, booting: Boot, member: Member) -> None:
    """Wait until the page shows that, as long as the boot goes on."""
    console, expression = site.lab.directory / f"vm-{member.name}" / "console", re.compile(pattern)

    def shown() -> bool:
        return expression.search(timeline.get_attribute("aria-label") or "") is not None

    wait_until(shown, Patience(_PATIENCE, console, booting.log), "page", f"show {pattern!r}", console, 0.5)


def test_the_page_goes_on_while_a_machine_boots(site: BootSite, office: Office, browser: Browser) -> None:
    member, loaded = MEMBERS["by-pxe"], list[str]()
    with context_of(browser) as context:
        page = context.new_page()
        page.goto(f"{API}/login")
        page.get_by_label("Token").fill(office.token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Hosts")).to_be_visible()
        page.goto(f"{API}/hosts/{member.name}")
        timeline = page.locator("svg.timeline")
        expect(timeline).to_have_attribute("aria-label", re.compile("configuration not yet, .*up not yet"))
        page.on("framenavigated", lambda frame: loaded.append(frame.url))
        with (
            chassis(site, member, Firmware.UEFI) as machine,
            machine.answering(),
            office.boot(member.name, "--via", "pxe") as booting,
        ):
            for reached in ("configuration", "kernel", "initrd", "seed"):
                followed(timeline, f"{reached} (under way|done).* up not yet", site, booting, member)
                if reached == "initrd" and PICTURES:
                    page.screenshot(path=Path(PICTURES) / "boot-followed.png")
            followed(timeline, "seed done, up done", site, booting, member)
            said = came_up(site, machine, booting)
        expect(page.locator("[data-events] .state")).to_have_text("up")
        assert loaded == []
    assert any("kernel" in line for line in said) and any("seed 100 %" in line for line in said), said
    status = site.status(member)
    assert (status["medium"], status["window"]["used"]) == ("pxe", 1)
