"""How a host's TPM stands, in the words of other reports."""

from __future__ import annotations

from collections.abc import Iterator

from provision.api.status import Alert
from provision.host import TpmUse
from provision.service.core import Core


def described(core: Core, host: str) -> str:
    """One line: the TPM that is enrolled, how many wait, and until when one may be enrolled."""
    store, window = core.store, core.store.enrolments.window(host, core.clock())
    own, waiting = store.tpms.get(host), len(store.tpms.pending(host))
    said = f"enrolled ({own.known})" if own is not None else f"{waiting} to be accepted" if waiting else "none"
    if core.hosts[host].tpm is TpmUse.ONLINE:
        said += ", proves each boot to this server"
    return said if window is None else f"{said}, may be enrolled until {window.expires.isoformat(timespec='seconds')}"


def of_moved(core: Core, host: str) -> tuple[str, ...]:
    """What to think of when the host's hardware has been replaced."""
    if core.store.tpms.get(host) is None:
        return ()
    return (f"its TPM stays enrolled; another machine has another one: 'provision tpm remove {host}'",)


def alerts(core: Core, host: str) -> Iterator[Alert]:
    """What an operator is to look at: a window that is open, and TPMs that wait."""
    store, window = core.store, core.store.enrolments.window(host, core.clock())
    if window is not None:
        text = (
            f"Its TPM may be enrolled until {window.expires.isoformat(timespec='seconds')}."
            f" To end that: 'provision enroll {host} --close'."
        )
        yield Alert(event="enrolment-open", text=text, count=1, last=window.opened.isoformat())
    for one in store.tpms.pending(host):
        text = (
            f"A TPM with the fingerprint {one.fingerprint} waits to be accepted. Compare all of it with the host's"
            f" console, then run 'provision tpm accept {host} FINGERPRINT', or 'provision tpm reject {host}"
            " FINGERPRINT'."
        )
        yield Alert(event="tpm-pending", text=text, count=1, last=one.at.isoformat())
