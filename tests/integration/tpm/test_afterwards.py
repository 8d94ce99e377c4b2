"""What a host's TPM opens afterwards: once the host has opened its envelope, or has given up, and once somebody has
cleared the TPM."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY
from tests.helpers.tpm import Tpm
from tests.helpers.wrapped_site import PROGRAM, TPM, Wrapped, wrapped


@pytest.fixture
def host(tpm: Tpm, tmp_path: Path) -> Iterator[Wrapped]:
    """node1 with its TPM enrolled, which has booted."""
    with wrapped(tmp_path / "site", tpm) as found:
        found.enroll()
        found.boot()
        yield found


def test_what_runs_after_it_was_opened_opens_nothing_another_kernel_included(host: Wrapped) -> None:
    """A kernel that is started by kexec, or a rescue shell, finds the PCRs that the boot chain has left."""
    assert host.run()
    host.refused("no approved boot chain is the one that was booted", "chain")
    host.restart()
    assert host.run() and host.token() == CANARY


def killed(*_: object) -> None:
    raise SystemExit(1)


def test_what_runs_after_it_was_given_up_opens_nothing_either(host: Wrapped) -> None:
    """The program has ended without the credentials, however that came, and everything is well for whoever is next."""
    versions = type(host.here.service.core.store.image_versions)
    for where, name, failure in (
        (host, "silent", True),
        (versions, "is_revoked", lambda *_: True),
        (host, "change", lambda file: file[:-1]),
        (host, "change", killed),
    ):
        with pytest.MonkeyPatch.context() as patched, suppress(SystemExit):
            patched.setattr(where, name, failure)
            assert not host.run()
        host.refused("no approved boot chain is the one that was booted", "chain")
        host.restart()
    assert host.run() and host.token() == CANARY


def test_it_gives_up_when_systemd_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What systemd sends ends the program as `killed` does, and not at once."""
    monkeypatch.setattr(PROGRAM, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    handler, mask = signal.getsignal(signal.SIGTERM), os.umask(0o022)
    try:
        with pytest.raises(SystemExit):
            PROGRAM.main()
    finally:
        signal.signal(signal.SIGTERM, handler)
        os.umask(mask)


def test_a_tpm_that_does_not_measure_it_is_said(host: Wrapped) -> None:
    def broken(*_: object) -> None:
        raise TPM.TpmError(0x182, 0x101)

    host.silent = True
    with patch.object(TPM.Tpm, "extend", broken):
        assert not host.run()
    assert "does not measure that this host has given up:" in host.console[-2]


def test_a_cleared_tpm_forgets_what_it_remembered_and_the_operator_is_told(host: Wrapped) -> None:
    """Its endorsement key stays, and with it what is wrapped: docs/deployment.md says what that means."""
    assert host.run()
    old = next(one for one in host.wire if one.startswith(b"provision-envelope"))
    host.here.secret("node1", b"canary-of-the-second-token")
    host.restart()
    assert host.run() and host.token() != CANARY and host.here.audit("tpm-cleared") == []
    host.tpm.run("clear", "-c", "p")
    host.change = lambda file: old
    host.restart()
    assert host.run() and host.token() == CANARY, "somebody with an old envelope has what that held"
    [told] = host.here.audit("tpm-cleared")
    assert (told["host"], "its TPM remembered 0, after it had opened" in told["reason"]) == ("node1", True)
    [alert] = host.here.service.reports.status(ROOT, "node1").hosts[0].alerts
    assert "it was cleared, or somebody has changed its memory" in alert.text
    # Once it has opened its newest envelope, it remembers that again.
    host.change = lambda file: file
    host.restart()
    assert host.run() and host.token() == b"canary-of-the-second-token"
    host.change = lambda file: old
    host.restart()
    host.refused("was opened already", "old")
    assert len(host.here.audit("tpm-cleared")) == 2, "and the number of the old one was less, too"
