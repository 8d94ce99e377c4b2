"""Which module brings which commands."""

from __future__ import annotations

from functools import cache

import typer

from provision.cli import accept, build, credential, demo, image, inventory, media, operate, platform, probe, serve

_MODULES = (inventory, credential, image, build, platform, probe, media, operate, accept, serve, demo)


@cache
def register(app: typer.Typer) -> None:
    """Add every command to `app`, once: typer would take each again, and grow slower with every run in a process."""
    for module in _MODULES:
        module.register(app)
