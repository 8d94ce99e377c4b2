"""The host image's own files and its recipe: what is to be started is."""

from __future__ import annotations

from pathlib import Path

import yaml

HOST = Path(__file__).parents[2] / "images" / "host"
UNITS = HOST / "root" / "etc" / "systemd" / "system"


def test_every_unit_that_wants_to_be_enabled_is() -> None:
    enabled = yaml.safe_load((HOST / "recipe.yaml").read_text())["units"]["enable"]
    wanting = {path.name for path in UNITS.glob("provision-*") if "\n[Install]\n" in path.read_text()}
    assert len(wanting) > 5 and wanting - set(enabled) == set()
