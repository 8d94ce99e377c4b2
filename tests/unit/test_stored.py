"""What hosts say of the identity on their disk."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from provision.errors import Invalid
from provision.stored import Holds, Refused, StoredIdentity, Wiped, envelope_label, parse

REVISION = "0f" * 32


def test_an_identity_out_of_an_envelope_is_sealed() -> None:
    for boot, sealed in (("7", False), ("iso 0f", False), (envelope_label(7), True)):
        assert StoredIdentity(boot, "", Holds(REVISION, {}), datetime.now(UTC)).is_sealed == sealed


def test_what_a_host_may_say() -> None:
    assert parse("") is None
    assert parse(f"stored {REVISION}") == Holds(REVISION, {})
    assert parse(f"stored {REVISION} keytab=3 tls-key=12") == Holds(REVISION, {"keytab": 3, "tls-key": 12})
    refusing = parse(f"stored {REVISION} keytab=3; refused it is not signed by this site")
    assert refusing == Holds(REVISION, {"keytab": 3}, "it is not signed by this site")
    assert parse("refused sda holds something else; see (there): a/b_c.d") == Refused(
        "sda holds something else; see (there): a/b_c.d"
    )
    assert parse("wiped") == Wiped()


@pytest.mark.parametrize(
    "text",
    [
        "stored",
        f"stored {REVISION[1:]}",
        f"stored {REVISION} keytab",
        f"stored {REVISION} keytab=-1",
        f"stored {REVISION} -k=1",
        f"stored {REVISION} keytab=1\n",
        f"stored {REVISION} keytab=1; refused ",
        f"stored {REVISION} keytab=1; wiped",
        "refused ",
        'refused a "quote"',
        "refused <b>",
        f"refused {'x' * 300}",
        "refused two\nlines",
        "wiped ",
        "erased",
    ],
)
def test_what_it_may_not(text: str) -> None:
    with pytest.raises(Invalid, match="not a valid message"):
        parse(text)
