"""Every command, in the order of the help, and where it is. Its module is loaded when it runs or is explained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup


@dataclass(frozen=True)
class Group:
    """Commands that share a first word: what they are about, and each by its second word. `default` is the one that
    a second word which names none belongs to."""

    help: str
    commands: Mapping[str, str]
    default: str | None = None


COMMANDS: Mapping[str, str | Group] = {
    "init": "provision.cli.inventory:init",
    "apply": "provision.cli.inventory:apply",
    "check": "provision.cli.inventory:check",
    "iso": "provision.cli.media:iso",
    "disk": "provision.cli.media:disk",
    "render": "provision.cli.media:render",
    "dhcp": "provision.cli.media:dhcp",
    "explain": "provision.cli.operate:explain",
    "window": "provision.cli.operate:window",
    "status": "provision.cli.operate:status",
    "audit": "provision.cli.operate:audit",
    "enroll": "provision.cli.tpm:enroll",
    "power": "provision.cli.power:power",
    "boot": "provision.cli.boot:boot",
    "login": "provision.cli.login:login",
    "logout": "provision.cli.login:logout",
    "serve": "provision.cli.serve:serve",
    "demo": "provision.cli.demo:demo",
    "host": Group(
        "Show hosts, and say what has happened to one.",
        {
            "list": "provision.cli.inventory:host_list",
            "show": "provision.cli.inventory:host_show",
            "replace-mac": "provision.cli.host:replace_mac",
            "move": "provision.cli.host:move",
            "compromised": "provision.cli.host:compromised",
            "reprovision": "provision.cli.identity:reprovision",
            "decommission": "provision.cli.identity:decommission",
            "retry-update": "provision.cli.update:retry_update",
        },
    ),
    "credential": Group(
        "Seal the secrets that go into hosts' images.",
        {
            "set": "provision.cli.credential:set_",
            "load": "provision.cli.credential:load",
            "list": "provision.cli.credential:list_",
            "show": "provision.cli.credential:show",
            "remove": "provision.cli.credential:remove",
        },
    ),
    "link": Group(
        "Make short URLs of hosts' media: provision link HOST.",
        {
            "create": "provision.cli.link:create",
            "list": "provision.cli.link:list_",
            "revoke": "provision.cli.link:revoke",
        },
        default="create",
    ),
    "token": Group(
        "Let in people and programs that are not on the server.",
        {
            "create": "provision.cli.token:create",
            "list": "provision.cli.token:list_",
            "revoke": "provision.cli.token:revoke",
        },
    ),
    "bmc": Group(
        "Set and check hosts' BMCs.",
        {
            "set": "provision.cli.bmc:set_",
            "show": "provision.cli.bmc:show",
            "remove": "provision.cli.bmc:remove",
            "check": "provision.cli.bmc:check",
        },
    ),
    "tpm": Group(
        "Enrol hosts' TPMs, and explain what they are bound to.",
        {
            "show": "provision.cli.tpm:show",
            "list": "provision.cli.tpm:list_",
            "accept": "provision.cli.tpm:accept",
            "reject": "provision.cli.tpm:reject",
            "remove": "provision.cli.tpm:remove",
            "import": "provision.cli.tpm:import_",
            "explain": "provision.cli.tpm:explain",
            "revoke": "provision.cli.tpm:revoke",
        },
    ),
    "webhook": Group(
        "Test receivers of events, and replay events to them.",
        {
            "test": "provision.cli.webhook:test",
            "replay": "provision.cli.webhook:replay",
        },
    ),
    "image": Group(
        "Build, probe, import and list base images.",
        {
            "import": "provision.cli.image:import_",
            "list": "provision.cli.image:list_",
            "verify": "provision.cli.image:verify",
            "remove": "provision.cli.image:remove",
            "build": "provision.cli.build:build",
            "strip": "provision.cli.build:strip",
            "diff": "provision.cli.build:diff",
            "publish": "provision.cli.build:publish",
            "probe": "provision.cli.probe:probe",
            "minimal-set": "provision.cli.probe:minimal_set",
        },
    ),
    "rollout": Group(
        "Give hosts a new base image, some at a time.",
        {
            "start": "provision.cli.rollout:start",
            "status": "provision.cli.rollout:status",
            "pause": "provision.cli.rollout:pause",
            "continue": "provision.cli.rollout:continue_",
            "rollback": "provision.cli.rollout:rollback",
        },
    ),
    "site-key": Group(
        "Manage the keys that the site signs with.",
        {
            "list": "provision.cli.site_key:list_",
            "roll": "provision.cli.site_key:roll",
            "retire": "provision.cli.site_key:retire",
        },
    ),
    "sb": Group(
        "Set up Secure Boot with the site's own key.",
        {
            "init": "provision.cli.secure_boot:init",
            "sign": "provision.cli.secure_boot:sign",
            "list": "provision.cli.secure_boot:list_",
            "iso": "provision.cli.secure_boot:iso",
            "enrol-image": "provision.cli.secure_boot:enrol_image",
        },
    ),
    "ca": Group(
        "Manage the internal CA of the API.",
        {
            "show": "provision.cli.ca:show",
            "export": "provision.cli.ca:export",
            "renew": "provision.cli.ca:renew",
        },
    ),
    "platform": Group(
        "Find out which drivers a machine needs.",
        {"detect": "provision.cli.platform:detect"},
    ),
    "completion": Group(
        "Let a shell complete commands, options and host names.",
        {
            "bash": "provision.cli.completion:bash",
            "zsh": "provision.cli.completion:zsh",
            "fish": "provision.cli.completion:fish",
            "words": "provision.cli.completion:words",
        },
    ),
    "store": Group(
        "Accept a database that the server does not trust.",
        {"accept": "provision.cli.accept:accept_store"},
    ),
    "clock": Group(
        "Accept a clock that has gone back.",
        {"accept": "provision.cli.accept:accept_clock"},
    ),
}


class CommandGroup(TyperGroup):
    """`provision` itself, or one of its groups, with commands that are made when they are asked for."""

    def __init__(
        self, *, rows: Mapping[str, str | Group] = COMMANDS, default: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.commands, self._default = cast(Any, _Made(rows)), default

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first of these words names, or the default one, and the words that are left for it."""
        if self._default is not None and args[0] not in self.commands:
            args = [self._default, *args]
        return super().resolve_command(ctx, args)


class _Made(Mapping[str, Any]):
    """Commands by name, each made the first time that it is looked at."""

    def __init__(self, rows: Mapping[str, str | Group]) -> None:
        self._rows = rows
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, self._rows[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _make(name: str, row: str | Group) -> Any:
    if isinstance(row, Group):
        settings = {"name": name, "help": row.help, "no_args_is_help": True, "rich_markup_mode": None}
        return CommandGroup(rows=row.commands, default=row.default, **settings)
    module, _, function = row.partition(":")
    # The way from a function to a command that typer documents is an application of one command.
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name)(getattr(import_module(module), function))
    return typer.main.get_command(alone)
