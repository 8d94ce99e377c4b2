"""enroll, tpm: the TPMs of hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, route
from provision.cli.context import context
from provision.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from provision.api.tpms import HostTpm

Fingerprint = Annotated[
    list[str], typer.Argument(metavar="FINGERPRINT", help="All of it, as the console shows it; blanks do not count")
]
_LARGEST = 8 << 20
_STANDINGS = {
    "unknown": "no TPM is enrolled",
    "pending": "a TPM waits to be accepted",
    "enrolled": "its TPM is enrolled",
}
_WHOLE = re.compile(r"[0-9a-f]{64}")


def enroll(
    host: HostName,
    minutes: Annotated[int, typer.Option("--minutes", metavar="N", help="How long the window is open")] = 30,
    close: Annotated[bool, typer.Option("--close", help="Close the host's enrolment window")] = False,
) -> None:
    """Open an enrolment window for a host's TPM.

    A host that is up enrols its TPM within seconds, and any other host when it has booted. The window closes when the
    TPM is enrolled.
    """
    from provision.api.tpms import OpenedEnrolment, OpenEnrolment

    given = context()
    with given.client() as client:
        if close:
            client.remove(route("hosts", host, "enrolment"))
        else:
            wanted = OpenEnrolment(minutes=minutes)
            opened = client.call(OpenedEnrolment, "POST", route("hosts", host, "enrolment"), body=wanted)
    if given.json:
        output.data({"host": host, "expires": None} if close else opened)
    elif close:
        output.say(f"{host}: its enrolment window is closed")
    else:
        output.say(f"{host}: its TPM may be enrolled until {output.moment(opened.expires)}")


def show(host: HostName) -> None:
    """Show the TPM of a host, and those that wait to be accepted."""
    from provision.api.tpms import HostTpms

    given = context()
    with given.client() as client:
        found = client.call(HostTpms, "GET", route("hosts", host, "tpm"))
    if given.json:
        output.data(found)
        return
    for tpm in found.tpms:
        output.say(f"{host}: {'enrolled: ' + tpm.known if tpm.enrolled else 'waits to be accepted'}")
        output.say(f"  fingerprint  {grouped(tpm.fingerprint)}")
        output.say(f"  key          {tpm.kind}, {tpm.firmware}, PCR 7 {tpm.pcr7}")
        if tpm.loader is not None:
            output.say(f"  started by   certificate {tpm.loader}")
        output.say(f"  since        {output.moment(tpm.at)}, allowed by {tpm.actor}")
    if not found.tpms:
        output.say(f"{host}: no TPM is enrolled")
    if found.imported is not None:
        output.say(f"  imported     {grouped(found.imported)}")
    if found.window is not None:
        output.say(f"{host}: its TPM may be enrolled until {output.moment(found.window)}")


def explain(host: HostName) -> None:
    """Explain what a host's TPM is bound to.

    This shows the boot chain and its PCRs on each network of the host, what the host booted instead, and what is
    missing. What the host reports of its boot is its own word; no decision depends on it.
    """
    from provision.api.tpms import TpmExplanation

    given = context()
    with given.client() as client:
        found = client.call(TpmExplanation, "GET", route("hosts", host, "tpm", "explanation"))
    if given.json:
        output.data(found)
        return
    online = ", and each boot has to be proved to this server ('tpm: online')" if found.online else ""
    output.say(f"{host}: {_STANDINGS[found.tpm]}{online}")
    for network in found.networks:
        output.say(f"  on {network.network}: {network.missing or 'it gets its envelope'}")
        for number, chain in enumerate(network.chains):
            output.say(f"    {'or by' if number else 'by'} {chain.chain}")
            for pcr in chain.pcrs:
                said = {None: "", True: "  as it was booted", False: "  NOT as it was booted"}[pcr.same]
                output.say(f"      PCR {pcr.pcr:<2} {pcr.expected}{said}")
                if pcr.differs is not None:
                    output.say(f"             {pcr.differs}")
    if found.proof is not None and found.proved is not None:
        output.say(f"  {output.moment(found.proved)}: {found.proof}")
    if found.last is not None and found.at is not None:
        output.say(f"  {output.moment(found.at)}: {found.last}")


def list_() -> None:
    """List the TPMs that are enrolled or wait to be accepted."""
    from provision.api.tpms import HostTpm

    given = context()
    with given.client() as client:
        rows = client.call(list[HostTpm], "GET", "/v1/tpms")
    if given.json:
        output.data(rows)
        return
    columns = ("HOST", "STATE", "KEY", "FINGERPRINT", "FIRMWARE", "SINCE")
    output.table(columns, ((r.host, _state(r), r.kind, r.fingerprint, r.firmware, output.moment(r.at)) for r in rows))


def _state(row: HostTpm) -> str:
    return f"enrolled ({row.known})" if row.enrolled else "waits"


def accept(host: HostName, fingerprint: Fingerprint) -> None:
    """Enrol a TPM that waits.

    First compare its whole fingerprint with the one on the host's console.
    """
    from provision.api.tpms import HostTpm, WhichTpm

    given, wanted = context(), WhichTpm(fingerprint=_parsed(fingerprint))
    with given.client() as client:
        tpm = client.call(HostTpm, "POST", route("hosts", host, "tpm", "accept"), body=wanted)
    if given.json:
        output.data(tpm)
    else:
        output.say(f"{host}: its TPM is enrolled")


def reject(host: HostName, fingerprint: Fingerprint) -> None:
    """Reject a TPM that waits: it is not the host's."""
    from provision.api.tpms import HostTpms, WhichTpm

    given, wanted = context(), WhichTpm(fingerprint=_parsed(fingerprint))
    with given.client() as client:
        left = client.call(HostTpms, "POST", route("hosts", host, "tpm", "reject"), body=wanted)
    if given.json:
        output.data(left)
    else:
        output.say(f"{host}: rejected {grouped(wanted.fingerprint)}")


def remove(
    host: HostName,
    imported: Annotated[bool, typer.Option("--imported", help="Remove the imported fingerprint, too")] = False,
) -> None:
    """Remove the TPM of a host.

    Do this when the board or the machine was exchanged. The host gets no envelope until its new TPM is enrolled.
    """
    given = context()
    with given.client() as client:
        client.remove(route("hosts", host, "tpm") + ("?imported=true" if imported else ""))
    if given.json:
        output.data({"host": host, "removed": True})
    else:
        output.say(f"{host}: no TPM is enrolled; for another one, run 'provision enroll {host}'")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with the columns 'host' and 'fingerprint'")],
) -> None:
    """Import a vendor's list of endorsement keys.

    A listed TPM is enrolled for its host without being compared, and no other TPM is.
    """
    from provision.api.tpms import ImportedTpms, ImportTpms

    given = context()
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise Unavailable(str(file), f"cannot be read ({error.strerror})", "check its name and mode") from None
    if len(content) > _LARGEST:
        raise Invalid(str(file), f"has more than {_LARGEST >> 20} MiB", "import it in pieces")
    with given.client() as client:
        order = ImportTpms.model_construct(content=content, file=_named(file))
        done = client.call(ImportedTpms, "POST", "/v1/tpms", body=order)
    if given.json:
        output.data(done)
    else:
        output.say(f"imported the TPM fingerprints of {done.hosts} host{'' if done.hosts == 1 else 's'}")


def revoke(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The newest base image to revoke")],
) -> None:
    """Revoke a base image, and every image that was approved before it.

    A host that boots one of them gets no envelope. Its TPM refuses older envelopes as soon as it has opened one of a
    newer image. This cannot be undone: import a newer image, and give it to the hosts.
    """
    from provision.api.tpms import RevokedImages

    given = context()
    with given.client() as client:
        done = client.call(RevokedImages, "POST", route("images", image, "revoke"))
    if given.json:
        output.data(done)
    else:
        output.say(f"{image}: approvals up to version {done.version} are revoked; give its hosts a newer image")


def _named(file: Path) -> str:
    return "".join(char if char.isprintable() else "?" for char in file.name)[:255] or "list"


def _parsed(words: list[str]) -> str:
    """A whole fingerprint, as people write one down; raises Invalid for a part of one."""
    text = re.sub(r"[\s:.-]", "", "".join(words)).lower()
    if not _WHOLE.fullmatch(text):
        remedy = "give all 64 hexadecimal digits: a part of it is easily imitated"
        raise Invalid("fingerprint", "is not a whole SHA-256", remedy)
    return text


def grouped(fingerprint: str) -> str:
    """A fingerprint in groups of eight, as the host's console has it."""
    return " ".join(fingerprint[at : at + 8] for at in range(0, len(fingerprint), 8))
