"""window, status, explain, audit: the running site."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli import output, update
from provision.cli.arguments import HostName, Selector, of_host, route
from provision.cli.context import context
from provision.errors import Exit, Invalid, ProvisionError

if TYPE_CHECKING:
    from provision.api.audit import AuditEntry
    from provision.api.hosts import OpenedWindow, StoredIdentity, Window
    from provision.api.status import Explanation, HostStatus, Status
    from provision.cli.client import Client

    _Changed = OpenedWindow | dict[str, Any]
    _Change = Callable[[Client, str], _Changed]

_PLAIN = "It gets its image without secrets, and takes its identity from its own disk"
_SIGNED = "It is the signed image, the same for all hosts, and has no secret: credentials come by the host's TPM"


def explain(host: HostName) -> None:
    """Explain which boots policy allows a host.

    For every medium and network: allowed or denied, why, and the way out.
    """
    from provision.api.status import Explanation

    given = context()
    with given.client() as client:
        rows = client.call(list[Explanation], "GET", route("explain", host))
    if given.json:
        output.data(rows)
        return
    output.table(("MEDIUM", "CHANNEL", "ALLOWED", "RULE"), ([r.medium, _where(r), r.allowed, r.rule] for r in rows))
    for line in _explanations(rows):
        output.say(line)


def _explanations(rows: Sequence[Explanation]) -> list[str]:
    """Each reason with its remedy, and each caution, once, with the media and channels that it is of."""
    of: dict[str, list[str]] = {}
    for row in rows:
        notes = (row.caution, _PLAIN if row.plain else None, _SIGNED if row.signed and row.allowed else None)
        said = ((row.reason, row.remedy), *((note,) for note in notes))
        for text in filter(None, (" ".join(f"{one}." for one in texts if one is not None) for texts in said)):
            of.setdefault(text, []).append(f"{row.medium} over {_where(row)}")
    return [f"{'all' if len(where) == len(rows) > 1 else ', '.join(where)}: {text}" for text, where in of.items()]


def _where(row: Explanation) -> str:
    return f"{row.channel} by {row.by}" if row.by else row.channel


def window(
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="The host's name in the inventory")] = None,
    minutes: Annotated[int | None, typer.Option("--minutes", metavar="N", help="How long [the site's policy]")] = None,
    boots: Annotated[
        int | None, typer.Option("--boots", metavar="N", help="How many boots [the site's policy]")
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="Close the window")] = False,
    selector: Selector = None,
) -> None:
    """Let hosts boot from the network for a while.

    Name a host, or give --selector for all hosts with a label. A window closes when its host reports that it is up.
    """
    if (host is None) == (selector is None):
        raise Invalid("window", "needs a host or --selector", "give one of them")
    given, change = context(), _closed if close else partial(_opened, minutes=minutes, boots=boots)
    with given.client() as client:
        if host is not None:
            done = change(client, host)
            output.data(done) if given.json else _say_windows([(host, done)])
            return
        from provision.cli.batch import selected

        tried = [_tried(client, row.name, change) for row in selected(client, selector or "")]
    if given.json:
        output.data([{"host": name, **_as_data(came)} for name, came in tried])
    else:
        _say_windows(tried)
    if any(isinstance(came, ProvisionError) for _, came in tried):
        raise typer.Exit(Exit.FAILED)


def _opened(client: Client, host: str, minutes: int | None, boots: int | None) -> OpenedWindow:
    from provision.api import hosts as api

    wanted = api.OpenWindow(minutes=minutes, boots=boots)
    return client.call(api.OpenedWindow, "POST", route("hosts", host, "window"), body=wanted)


def _closed(client: Client, host: str) -> dict[str, Any]:
    client.remove(route("hosts", host, "window"))
    return {"host": host, "open": False}


def _tried(client: Client, host: str, change: _Change) -> tuple[str, _Changed | ProvisionError]:
    """What came of it for one host of many: an error of one keeps it from no other."""
    try:
        return host, change(client, host)
    except ProvisionError as error:
        return host, error


def _as_data(done: _Changed | ProvisionError) -> dict[str, Any]:
    if isinstance(done, ProvisionError):
        return {"problem": done.details()}
    return done if isinstance(done, dict) else done.model_dump(mode="json")


def _say_windows(done: Sequence[tuple[str, _Changed | ProvisionError]]) -> None:
    for name, came in done:
        output.say(_window_said(name, came))
    for caution in dict.fromkeys(getattr(came, "caution", None) for _, came in done):
        if caution is not None:
            output.say(f"note: {caution}")


def _window_said(host: str, done: _Changed | ProvisionError) -> str:
    if isinstance(done, ProvisionError):
        return output.failed(host, done)
    if isinstance(done, dict):
        return f"{host}: no window is open"
    return f"{host}: may boot from the network {output.times(done.boots)} until {output.moment(done.expires)}"


def status(
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="Only this host")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second until interrupted")] = False,
) -> None:
    """Show how far each boot has come.

    It is what the server itself has seen, unknown machines that asked for a boot included.
    """
    from provision.api.status import Status

    given = context()
    with given.client() as client:

        def fetch() -> Status:
            return client.call(Status, "GET", "/v1/status", params=of_host(host))

        if not watch:
            _show(fetch(), given.json)
            return
        if given.json or not sys.stdout.isatty():
            while True:
                _show(fetch(), given.json)
                time.sleep(1.0)
        from rich.live import Live
        from rich.text import Text

        with Live(refresh_per_second=2) as live:
            while True:
                live.update(Text(_picture(fetch())))
                time.sleep(1.0)


def _show(seen: Status, as_json: bool) -> None:
    if as_json:
        output.data(seen)
        return
    output.text(_picture(seen))


def _picture(seen: Status) -> str:
    columns = ("HOST", "STAGE", "CONFIG", "KERNEL", "INITRD", "SEED", "MEDIUM", "NETWORK", "WINDOW")
    parts = ("configuration", "kernel", "initrd", "seed")
    hosts = output.as_lines(
        columns,
        (
            (
                row.host,
                _stage(row),
                *(f"{row.parts[part]} %" if part in row.parts else None for part in parts),
                row.medium,
                row.network,
                _window(row.window),
            )
            for row in seen.hosts
        ),
    )
    stored = [(row.host, *_stored(row.stored)) for row in seen.hosts if row.stored is not None]
    if stored:
        hosts += ["", *output.as_lines(("HOST", "ON ITS DISK", "REVISION", "CREDENTIALS", "SINCE"), stored)]
    slots = [(row.host, *update.line(row.slots)) for row in seen.hosts if row.slots is not None]
    if slots:
        hosts += ["", *output.as_lines(("HOST", "RUNS", "SLOT", "UPDATE", "SINCE", "FAILED"), slots)]
    told = [f"WARNING: {warning}" for warning in seen.warnings] + [f"ATTENTION: {text}" for text in seen.problems]
    alerts = [
        (row.host, one.event, one.count, output.moment(one.last), one.text) for row in seen.hosts for one in row.alerts
    ]
    if alerts:
        hosts += ["", *output.as_lines(("HOST", "ALERT", "TIMES", "LAST", "WHAT"), alerts)]
    unknown = [(u.mac, u.uuid, u.network, output.moment(u.last), u.count) for u in seen.unknown]
    if unknown:
        hosts += ["", *output.as_lines(("UNKNOWN MAC", "UUID", "NETWORK", "LAST SEEN", "TIMES"), unknown)]
    return "\n".join([*told, *hosts])


def _stage(row: HostStatus) -> str:
    """The furthest thing seen of a boot, or that there is nothing yet."""
    if row.stage != "nothing":
        return row.stage
    return "has not asked for anything yet" if row.started is None else "has begun to boot"


def _stored(stored: StoredIdentity) -> tuple[str, str, str, str]:
    state = "being wiped" if stored.wiping else "current" if stored.current else "older"
    state += ", sealed" if stored.sealed else ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(stored.credentials.items()))
    return state, stored.revision[:16], versions, output.moment(stored.reported)


def _window(window: Window | None) -> str | None:
    if window is None:
        return None
    return f"{'open' if window.open else 'closed'}, {window.used} of {window.boots} used"


def audit(
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Only this host")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10000, help="How many entries")] = 50,
    before: Annotated[
        int | None,
        typer.Option(
            "--before", metavar="SEQ", min=1, max=2**63 - 1, help="Only entries before the one with this number"
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain from its first entry to its head")] = False,
    heads: Annotated[
        list[str] | None,
        typer.Option(
            "--head", metavar="SEQ:CHAIN", help="Check that the chain contains this head; give it again for more"
        ),
    ] = None,
) -> None:
    """Show the audit log's newest entries, or those before one of them, or verify all.

    --verify finds what was changed or removed.
    """
    from provision.api.audit import AuditEntry

    if verify or heads:
        raise typer.Exit(Exit.OK if _verified(heads or []) else Exit.FAILED)
    given, parameters = context(), {"limit": str(limit), **of_host(host)}
    if before is not None:
        parameters["before"] = str(before)
    with given.client() as client:
        entries = client.call(list[AuditEntry], "GET", "/v1/audit", params=parameters)
    if given.json:
        output.data(entries)
    else:
        _entries(entries)


def _verified(heads: list[str]) -> bool:
    """Say whether the audit log is whole, and has these heads."""
    from provision.api.audit import Verified

    given = context()
    with given.client() as client:
        found = client.call(Verified, "GET", "/v1/audit/verify", params={"head": heads})
    if given.json:
        output.data(found)
    elif found.ok:
        since = f", starts at entry {found.starts}" if found.starts > 1 else ""
        output.say(f"the audit log is whole: {found.entries} entries{since}")
    else:
        output.say(f"the audit log is NOT whole: {'; '.join(found.problems)}")
    return found.ok


def _entries(entries: list[AuditEntry]) -> None:
    columns = ("SEQ", "TIME", "EVENT", "ANSWER", "HOST", "MEDIUM", "CHANNEL", "WHO", "RULE")
    output.table(
        columns,
        (
            (
                e.get("seq"),
                output.moment(str(e.get("time") or "")),
                f"{e.get('event')}: {e.get('subject')}" if e.get("subject") is not None else e.get("event"),
                e.get("answer"),
                e.get("host"),
                e.get("medium"),
                e.get("channel"),
                e.get("operator") or e.get("mac") or e.get("address"),
                e.get("rule"),
            )
            for e in entries
        ),
    )
