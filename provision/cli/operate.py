"""window, status, explain, audit: the running site."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from provision.api import hosts as api
from provision.api.audit import AuditEntry, Verified
from provision.api.status import Explanation, Status
from provision.cli import output
from provision.cli.client import of_host, route
from provision.cli.inventory import HostName
from provision.cli.main import context
from provision.cli.received import plain
from provision.errors import Exit


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (explain, window, status, audit):
        app.command()(command)


def explain(host: HostName) -> None:
    """For every medium and network: allowed or denied, why, and the way out."""
    given = context()
    with given.client() as client:
        rows = client.call(list[Explanation], "GET", route("explain", host))
    if given.json:
        output.data(plain(rows))
        return
    output.table(
        ("MEDIUM", "CHANNEL", "ALLOWED", "RULE", "REASON AND REMEDY"),
        (
            (
                row.medium,
                row.channel,
                row.allowed,
                row.rule,
                " ".join(f"{text}." for text in (row.reason, row.remedy, row.caution) if text is not None) or None,
            )
            for row in rows
        ),
    )


def window(
    host: HostName,
    minutes: Annotated[int | None, typer.Option("--minutes", help="How long [the site's policy]")] = None,
    boots: Annotated[int | None, typer.Option("--boots", help="How many boots [the site's policy]")] = None,
    close: Annotated[bool, typer.Option("--close", help="Close the host's window")] = False,
) -> None:
    """Let a host boot from the network for a while; the window closes when the host says that it is up."""
    given = context()
    with given.client() as client:
        if close:
            client.remove(route("hosts", host, "window"))
            if given.json:
                output.data({"host": host, "open": False})
            else:
                output.say(f"{host}: no window is open")
            return
        wanted = api.OpenWindow(minutes=minutes, boots=boots)
        opened = client.call(api.OpenedWindow, "POST", route("hosts", host, "window"), body=wanted)
    if given.json:
        output.data(plain(opened))
    else:
        output.say(f"{host}: may boot from the network {opened.boots} times until {opened.expires}")


def status(
    host: Annotated[str | None, typer.Argument(metavar="[HOST]")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second until interrupted")] = False,
) -> None:
    """How far each boot has come, seen by the server alone, and which unknown machines asked."""
    given = context()
    with given.client() as client:

        def fetch() -> Status:
            return client.call(Status, "GET", "/v1/status", params=of_host(host))

        if not watch:
            _show(fetch(), given.json)
            return
        if given.json or not output.out.is_terminal:
            while True:
                _show(fetch(), given.json)
                time.sleep(1.0)
        with Live(console=output.out, refresh_per_second=2) as live:
            while True:
                live.update(_picture(fetch()))
                time.sleep(1.0)


def _show(seen: Status, as_json: bool) -> None:
    if as_json:
        output.data(plain(seen))
        return
    output.out.print(_picture(seen))


def _picture(seen: Status) -> Group:
    columns = ("HOST", "STAGE", "CONFIG", "KERNEL", "INITRD", "SEED", "MEDIUM", "NETWORK", "WINDOW")
    parts = ("configuration", "kernel", "initrd", "seed")
    hosts = output.as_table(
        columns,
        (
            (
                row.host,
                row.stage,
                *(f"{row.parts[part]} %" if part in row.parts else None for part in parts),
                row.medium,
                row.network,
                _window(row.window),
            )
            for row in seen.hosts
        ),
    )
    # As objects: rich reads brackets in a text as markup.
    told = [Text(f"ATTENTION: {problem}") for problem in seen.problems]
    warned = [Text(f"WARNING: {warning}") for warning in seen.warnings]
    alerts = output.as_table(
        ("HOST", "ALERT", "TIMES", "LAST", "WHAT"),
        ((row.host, one.event, one.count, one.last, one.text) for row in seen.hosts for one in row.alerts),
    )
    shown = (*warned, *told, hosts, *(("", alerts) if alerts.row_count else ()))
    if not seen.unknown:
        return Group(*shown)
    unknown = output.as_table(
        ("UNKNOWN MAC", "UUID", "NETWORK", "LAST SEEN", "TIMES"),
        ((u.mac, u.uuid, u.network, u.last, u.count) for u in seen.unknown),
    )
    return Group(*shown, "", unknown)


def _window(window: api.Window | None) -> str | None:
    if window is None:
        return None
    return f"{'open' if window.open else 'closed'}, {window.used} of {window.boots} used"


def audit(
    host: Annotated[str | None, typer.Option("--host", help="Only this host")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10000, help="How many entries")] = 50,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain from its first entry to its head")] = False,
    heads: Annotated[
        list[str] | None, typer.Option("--head", metavar="SEQ:CHAIN", help="Check that it has this head, too")
    ] = None,
) -> None:
    """Show the audit log's newest entries, or check that nothing in it was changed or removed."""
    given, verify = context(), verify or bool(heads)
    with given.client() as client:
        if verify:
            found = client.call(Verified, "GET", "/v1/audit/verify", params={"head": heads or []})
        else:
            parameters = {"limit": str(limit), **of_host(host)}
            entries = client.call(list[AuditEntry], "GET", "/v1/audit", params=parameters)
    if verify:
        if given.json:
            output.data(plain(found))
        elif found.ok:
            since = f", starts at entry {found.starts}" if found.starts > 1 else ""
            output.say(f"the audit log is whole: {found.entries} entries{since}")
        else:
            output.say(f"the audit log is NOT whole: {'; '.join(found.problems)}")
        raise typer.Exit(Exit.OK if found.ok else Exit.FAILED)
    if given.json:
        output.data(plain(entries))
        return
    columns = ("TIME", "EVENT", "ANSWER", "HOST", "MEDIUM", "CHANNEL", "WHO", "RULE")
    output.table(
        columns,
        (
            (
                e.get("time"),
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
