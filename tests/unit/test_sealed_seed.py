"""What is sealed for a host's TPM, and what gives nothing away."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from provision.boot import Medium, Payload
from provision.errors import Denied, Invalid
from provision.policy import Release
from provision.sealed_seed import envelope_revision, secrets
from provision.secret import Secret
from provision.seed import ALIVE_JSON, SeedCredential
from provision.wrapping_rules import TpmStanding, Wrapping
from tests.helpers.host_programs import load
from tests.unit.test_policy import NOW, OFFICE, OFFICE_PEER, ask, state

PLACING = load("placing")
REVISION = "0f" * 32
TOKEN = SeedCredential("token", 3, "/etc/provision/token", "0640", Secret(b"canary"))
ENROLLED = replace(state(), wrapping=Wrapping(TpmStanding.ENROLLED))


def release(medium: Medium = Medium.ENVELOPE) -> Release:
    found = ask(ENROLLED, medium, OFFICE, OFFICE_PEER, Payload.WRAPPED)
    assert isinstance(found, Release)
    return found


def test_it_has_the_credentials_and_the_key_to_say_so_with() -> None:
    key = Secret(b"k" * 32)
    made = secrets(release(), ENROLLED, REVISION, [TOKEN], NOW, ("envelope 7", key))
    found = {path: (mode, data) for path, mode, _, data in PLACING.files(made.data)}
    assert found.pop("/etc/provision/token") == (0o640, b"canary")
    mode, data = found.pop(ALIVE_JSON)
    assert mode == 0o600 and not found
    assert json.loads(data) == {
        "alive": {"boot": "envelope 7", "key": key.reveal().hex()},
        "credentials": {"token": 3},
    }


def test_without_an_agent_it_has_the_credentials_alone() -> None:
    made = secrets(release(), ENROLLED, REVISION, [TOKEN], NOW)
    assert [path for path, *_ in PLACING.files(made.data)] == ["/etc/provision/token"]


def test_no_credential_takes_the_place_of_the_key() -> None:
    taken = replace(TOKEN, path=ALIVE_JSON)
    with pytest.raises(Invalid, match="another file of the seed stands at"):
        secrets(release(), ENROLLED, REVISION, [taken], NOW, ("envelope 7", Secret(b"k" * 32)))


def test_another_release_is_refused() -> None:
    with pytest.raises(Denied):
        secrets(release(Medium.PXE), ENROLLED, REVISION, [TOKEN], NOW)


def test_the_revision_is_that_of_the_host_and_of_whose_the_files_are() -> None:
    first = envelope_revision(ENROLLED, {})
    assert first == envelope_revision(replace(ENROLLED, window=None), {})
    assert first != envelope_revision(replace(ENROLLED, revision="1" * 64), {})
    assert first != envelope_revision(ENROLLED, {"token": "0:42"})
