"""window, status, explain, audit: the running site."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live

from provision.cli import output
from provision.cli.client import of_host, route
from provision.cli.inventory import HostName
from provision.cli.main import context
from provision.errors import Exit


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (explain, window, status, audit):
        app.command()(command)


def explain(host: HostName) -> None:
    """For every medium and network: allowed or denied, why, and the way out."""
    given = context()
    with given.client() as client:
        rows = client.call("GET", route("explain", host))
    if given.json:
        output.data(rows)
        return
    output.table(
        ("MEDIUM", "CHANNEL", "ALLOWED", "RULE", "REASON AND REMEDY"),
        (
            (
                row["medium"],
                row["channel"],
                row["allowed"],
                row.get("rule"),
                " ".join(f"{row[key]}." for key in ("reason", "remedy", "caution") if key in row) or None,
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
            client.call("DELETE", route("hosts", host, "window"))
            if given.json:
                output.data({"host": host, "open": False})
            else:
                output.say(f"{host}: no window is open")
            return
        row = client.call("POST", route("hosts", host, "window"), json={"minutes": minutes, "boots": boots})
    if given.json:
        output.data(row)
    else:
        output.say(f"{host}: may boot from the network {row['boots']} times until {row['expires']}")


def status(
    host: Annotated[str | None, typer.Argument(metavar="[HOST]")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second until interrupted")] = False,
) -> None:
    """How far each boot has come, seen by the server alone, and which unknown machines asked."""
    given = context()
    with given.client() as client:

        def fetch() -> dict[str, Any]:
            answer: dict[str, Any] = client.call("GET", "/v1/status", params=of_host(host))
            return answer

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


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.data(answer)
        return
    output.out.print(_picture(answer))


def _picture(answer: dict[str, Any]) -> Group:
    columns = ("HOST", "STAGE", "CONFIG", "KERNEL", "INITRD", "SEED", "MEDIUM", "NETWORK", "WINDOW")
    parts = ("configuration", "kernel", "initrd", "seed")
    hosts = output.as_table(
        columns,
        (
            (
                row["host"],
                row["stage"],
                *(f"{row['parts'][part]} %" if part in row["parts"] else None for part in parts),
                row["medium"],
                row["network"],
                _window(row["window"]),
            )
            for row in answer["hosts"]
        ),
    )
    alerts = output.as_table(
        ("HOST", "ALERT", "TIMES", "LAST", "WHAT"),
        (
            (row["host"], alert["event"], alert["count"], alert["last"], alert["text"])
            for row in answer["hosts"]
            for alert in row["alerts"]
        ),
    )
    shown = (hosts, "", alerts) if alerts.row_count else (hosts,)
    if not answer["unknown"]:
        return Group(*shown)
    unknown = output.as_table(
        ("UNKNOWN MAC", "UUID", "NETWORK", "LAST SEEN", "TIMES"),
        ((u["mac"], u["uuid"], u["network"], u["last"], u["count"]) for u in answer["unknown"]),
    )
    return Group(*shown, "", unknown)


def _window(window: dict[str, Any] | None) -> str | None:
    if window is None:
        return None
    state = "open" if window["open"] else "closed"
    return f"{state}, {window['used']} of {window['boots']} used"


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
            result = client.call("GET", "/v1/audit/verify", params={"head": heads or []})
        else:
            parameters = {"limit": str(limit), **of_host(host)}
            entries = client.call("GET", "/v1/audit", params=parameters)
    if verify:
        if given.json:
            output.data(result)
        elif result["ok"]:
            output.say(f"the audit log is whole: {result['entries']} entries")
        else:
            output.say(f"the audit log is NOT whole: {'; '.join(result['problems'])}")
        raise typer.Exit(Exit.OK if result["ok"] else Exit.FAILED)
    if given.json:
        output.data(entries)
        return
    columns = ("TIME", "EVENT", "ANSWER", "HOST", "MEDIUM", "CHANNEL", "WHO", "RULE")
    output.table(
        columns,
        (
            (
                e["time"],
                e["event"],
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
