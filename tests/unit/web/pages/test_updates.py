"""The slots of a host on its page: what runs, what has failed, and the button that lets it be tried again."""

from __future__ import annotations

from dataclasses import replace

from provision.principal import PrincipalRole
from provision.slots import Failure, HostSlots
from tests.helpers.browser import Browser, logged_in
from tests.helpers.site_fixture import Site

BUTTON = '/retry-update" data-while="update-failed"'


def page(browser: Browser, path: str = "/hosts/node1") -> str:
    return " ".join(browser.get(path).body.decode().split())


def test_an_operator_has_what_failed_tried_again(here: Site) -> None:
    reader, operator = logged_in(here, PrincipalRole.READER), logged_in(here, PrincipalRole.OPERATOR)
    slots = here.service.core.store.slots
    assert "from slot" not in page(reader) and f"{BUTTON} hidden>" in page(operator)
    assert operator.post("/hosts/node1/retry-update").status == 409, "none has failed"
    known = HostSlots(f"a a {here.base.id} {'0b' * 32} failed {'0b' * 32} 1 libvirt does not answer", here.clock())
    slots.put("node1", replace(known, failed={"0b" * 32: Failure(1, "libvirt does not answer", here.clock())}))
    for words in ("Runs base from slot a.", "Update: <strong>failed</strong>", "0b0b0b0b0b0b0b0b has failed there"):
        assert words in page(reader), words
    assert BUTTON not in page(reader) and f"{BUTTON}>" in page(operator)
    assert "data-update-failed" in page(operator), "the script shows the button when it happens while somebody looks"
    assert operator.post("/hosts/node1/retry-update").status == 303
    told = slots.of("node1")
    assert told is not None and told.attempt == 2
    (entry,) = here.audit("update-retried")
    assert entry["host"] == "node1" and str(entry["operator"]).startswith("token:")
    shown = page(operator)
    assert "has failed there" not in shown and f"{BUTTON} hidden>" in shown and "data-update-failed" not in shown
