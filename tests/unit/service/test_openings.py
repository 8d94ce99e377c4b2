"""What hosts say of their envelopes, and whether their TPMs still remember what they have opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.service.openings import Outcome
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC2, Site, origin, site
from tests.helpers.tpm_samples import tpm


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """node2 has an enrolled TPM and was given an envelope."""
    with site(tmp_path) as found:
        found.service.core.store.tpms.put(tpm("node2"))
        found.service.core.store.envelopes.number("node2", "content", found.clock())
        yield found


def newest(here: Site) -> int:
    return here.service.core.store.envelopes.newest("node2")


def says(here: Site, outcome: Outcome, number: int, remembered: int | None) -> list[str]:
    """The reasons that are noted after what node2 says."""
    here.service.openings.take(origin(MAC2), outcome, number, b"", remembered)
    return [entry["reason"] for entry in here.audit("tpm-cleared")]


def alerts(here: Site) -> list[str]:
    return [
        one.text for one in here.service.reports.status(ROOT, "node2").hosts[0].alerts if one.event == "tpm-cleared"
    ]


def test_a_tpm_that_remembers_less_than_it_has_opened_is_told(here: Site) -> None:
    number = newest(here)
    assert says(here, Outcome.OPENED, number, 0) == [], "its first one"
    assert says(here, Outcome.OPENED, number, number) == says(here, Outcome.OPENED, number, None) == []
    assert alerts(here) == []
    expected = [f"its TPM remembered 0, after it had opened {number}"]
    assert says(here, Outcome.CHAIN, number, 0) == expected
    assert says(here, Outcome.OPENED, number - 1, number - 1)[1:] == [expected[0].replace("ed 0", f"ed {number - 1}")]
    [text] = alerts(here)
    assert "has forgotten which envelopes it had opened: it was cleared" in text
    assert text.endswith("If none of you has cleared it, run 'provision host compromised node2'.")


def test_nobody_has_opened_what_was_never_given(here: Site) -> None:
    """Anybody at the host's address may say so."""
    says(here, Outcome.OPENED, newest(here) + 1, 0)
    assert here.service.core.store.tpms.opened("node2") == 0
    says(here, Outcome.REVOKED, newest(here), 0)
    assert here.service.core.store.tpms.opened("node2") == 0, "nor what was refused"


def test_what_another_tpm_had_opened_is_forgotten_with_it(here: Site) -> None:
    says(here, Outcome.OPENED, newest(here), 0)
    here.service.tpms.remove("node2", False, ROOT)
    assert says(here, Outcome.OPENED, newest(here), 0) == []
    here.service.core.store.tpms.put(tpm("node2", 2))
    assert says(here, Outcome.OPENED, newest(here), 0) == []
    assert here.service.core.store.tpms.opened("node2") == newest(here)
