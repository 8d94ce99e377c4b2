"""Which module brings which commands."""

from __future__ import annotations

import typer

from provision.cli import build, credential, demo, image, inventory, media, operate, platform, probe, serve

_MODULES = (inventory, credential, image, build, platform, probe, media, operate, serve, demo)


def register(app: typer.Typer) -> None:
    """Add every command to `app`."""
    for module in _MODULES:
        module.register(app)
