"""init, apply, check, host: the state directory and what stands in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import output
from provision.cli.arguments import HostName, Selector, route, selector_parameters
from provision.cli.ca import ServerAddresses, ServerNames, chosen_names, make, require_short
from provision.cli.context import context
from provision.errors import Conflict, Exit, Unavailable

if TYPE_CHECKING:
    from provision.api.inventory import Changes, File
    from provision.document import Source

_OURS = frozenset({"key", "provision.db", "provision.toml"})


def init(
    ca: Annotated[bool, typer.Option("--ca", help="Make an internal CA, and this server's certificates by it")] = False,
    names: ServerNames = None,
    addresses: ServerAddresses = None,
) -> None:
    """Make a state directory: a master key, and settings to edit.

    An existing state directory is left as it is, and gets a CA with --ca.
    """
    if not ca and (names or addresses):
        raise typer.BadParameter("are for --ca", param_hint="--name and --address")
    if ca and not names and not addresses:
        raise typer.BadParameter("needs a --name or an --address that clients use", param_hint="--ca")
    # First: no state directory is left behind by a name that is not valid.
    chosen = chosen_names(names, addresses)
    if chosen is not None:
        require_short(chosen)
    made, changed = _make_state()
    block = make(context().state, chosen) if chosen is not None else None
    _tell_of_state(made, changed, block)


def _make_state() -> tuple[bool, list[str]]:
    """Whether there is a new master key, and what else was made or changed."""
    from provision.settings import load
    from provision.store.keys import create_key, load_key

    given = context()
    state, config = given.state, given.config
    changed = _prepare(state, config)
    load(state, config)
    made = not (state / "key").exists()
    if made:
        create_key(state)
    else:
        load_key(state, {})
    return made, changed


def _tell_of_state(made: bool, changed: list[str], block: str | None) -> None:
    given = context()
    state, config = given.state, given.config
    if given.json:
        settings = {} if block is None else {"settings": block}
        output.data({"state": str(state), "config": str(config), "made": made, **settings})
        return
    if block is not None:
        changed = [*changed, "made an internal CA"]
        output.say(f"made an internal CA in {state / 'tls'}; to serve the API with it, put this into {config}:")
        output.text(f"\n{block}")
    if not made:
        output.say(f"{state} is a state directory already; {', '.join(changed) or 'nothing was changed'}")
        return
    output.say(
        f"made {state} with a new master key: back up {state / 'key'}; sealed secrets cannot be opened without it"
    )
    output.say(
        f"next: name this server's networks in {config}, 'provision image import NAME …', 'provision apply FILE'"
    )


def _prepare(state: Path, config: Path) -> list[str]:
    """Make the directory and the settings, where they are missing; returns what was changed, in words."""
    from provision.settings import TEMPLATE
    from provision.writing import replacing

    changed = []
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = {path.name for path in state.iterdir()} - {"lost+found"}
        if there and not there & _OURS:
            fact = f"is not a state directory, and is not empty: it has {min(there)} in it"
            raise Conflict(str(state), fact, "choose an empty or a new one with --state")
        if state.stat().st_mode & 0o777 != 0o700:
            state.chmod(0o700)
            changed.append("its mode is 0700 now")
        if not config.exists():
            with replacing(config) as descriptor:
                os.write(descriptor, TEMPLATE.encode())
                os.fchmod(descriptor, 0o644)
            changed.append(f"made {config}")
    except OSError as error:
        raise Unavailable(str(state), f"cannot be made ({error.strerror})", "choose another with --state") from None
    return changed


def apply(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Inventory files (YAML), or directories of them; - is standard input"),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove hosts that the files do not name")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask, even when more than a tenth of the hosts goes")
    ] = False,
) -> None:
    """Show what the inventory changes, then apply it as a whole.

    Every problem in the files is reported at once, with file and line, and then nothing is changed.
    """
    from provision.api.inventory import Apply, Changes
    from provision.inventory.files import load

    given = context()
    body = Apply.model_construct(files=[_file(source) for source in load(files)], prune=prune, dry_run=True)
    with given.client() as client:
        shown = client.call(Changes, "POST", "/v1/inventory", body=body)
        if not given.json:
            for line in shown.lines:
                output.say(line)
        if not dry_run and shown.lines:
            if shown.confirm and not yes:
                _ask(len(shown.removed))
            body = body.model_copy(update={"dry_run": False, "confirmed": shown.confirm})
            # What was shown is what is made: another admin may have been faster.
            shown = client.call(Changes, "POST", "/v1/inventory", body=body, headers={"if-match": shown.etag})
    if given.json:
        output.data(shown)
    elif not shown.lines:
        output.say("no difference")
    else:
        _summarize(shown, dry_run)


def _summarize(shown: Changes, dry_run: bool) -> None:
    site = "site: changed; " if shown.site else ""
    counts = f"{len(shown.added)} added, {len(shown.changed)} changed, {len(shown.removed)} removed"
    output.say(f"{site}hosts: {counts} ({'dry run, nothing was applied' if dry_run else 'all of it was applied'})")
    for note in shown.notes:
        output.say(f"note: {note}")


def _ask(count: int) -> None:
    question = f"Remove {count} hosts, more than a tenth of all?"
    if not sys.stdin.isatty():
        raise Conflict(
            "inventory", f"pruning would remove {count} hosts, more than a tenth of all", "give --yes to remove them"
        )
    if not typer.confirm(question):
        raise Conflict("inventory", "you did not confirm the removal", "nothing was changed")


def _file(source: Source) -> File:
    from provision.api.inventory import File

    return File.model_construct(name=source.name, text=source.text, attachments=dict(source.attachments))


def check(
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="ADDRESS[:PORT]", help="DNS server to ask; an IPv6 address with a port as [IPV6]:PORT"
        ),
    ] = None,
) -> None:
    """Check that DNS agrees with the inventory.

    It looks up SRV, A, AAAA and PTR records.
    """
    from provision.api.inventory import Discrepancy

    given = context()
    with given.client() as client:
        parameters = {} if server is None else {"server": server}
        findings = client.call(list[Discrepancy], "GET", "/v1/check", params=parameters)
    if given.json:
        output.data(findings)
    for finding in findings if not given.json else ():
        output.say(f"{finding.subject}: {finding.fact}; {finding.remedy}")
    if findings:
        raise typer.Exit(Exit.INVALID)
    if not given.json:
        output.say("DNS agrees with the inventory")


def host_list(
    selector: Selector = None,
    ansible: Annotated[bool, typer.Option("--ansible", help="Print a dynamic inventory for Ansible (JSON)")] = False,
) -> None:
    """List the hosts."""
    from provision.api.hosts import HostRow

    given = context()
    if ansible:
        _list_for_ansible(selector)
        return
    with given.client() as client:
        rows = client.call(list[HostRow], "GET", "/v1/hosts", params=selector_parameters(selector))
    if given.json:
        output.data(rows)
        return
    columns = ("NAME", "MACS", "INSTALL", "ADDRESSING", "STORAGE", "NETBOOT", "LABELS")
    keys = ("name", "macs", "install", "addressing", "storage", "netboot", "labels")
    output.table(columns, ([_short(getattr(row, key)) for key in keys] for row in rows))


def _list_for_ansible(selector: str | None) -> None:
    from provision.cli.ansible import inventory
    from provision.site import Inventory

    wanted = selector_parameters(selector)
    with context().client() as client:
        whole = client.call(Inventory, "GET", "/v1/inventory")
    output.data(inventory(whole, (wanted["label"], wanted["value"]) if wanted else None))


def host_show(name: HostName) -> None:
    """Show everything about one host."""
    from provision.api.hosts import HostDetail

    with context().client() as client:
        output.data(client.call(HostDetail, "GET", route("hosts", name)))


def _short(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return value
