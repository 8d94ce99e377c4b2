"""The report as one page of HTML that a person reads: sizes as bars, then tables. It loads nothing from elsewhere.

Names in it come from packages and recipes, so the template escapes every value by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from provision import assets
from provision.image import bom
from provision.image.tree import OWN

_SHOWN = 60
_LAYOUT = {
    "bar": 26,
    "label": 250,
    "width": 900,
    "texts": ("package", "version", "licences", "rule", "path", "named by"),
}


def page(report: Mapping[str, Any]) -> str:
    """The page of a report as `report.report` makes it."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets.directory("templates") / "image"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    image, groups = report["image"], report["groups"]
    title = f"{image['name']} {image['version']}"
    return pages.get_template("report.html.j2").render(
        _LAYOUT,
        title=f"{title} for {image['platform']}" if image.get("platform") else title,
        image=image,
        total=sum(entry["size"] for entry in image["files"].values()),
        groups=groups,
        most=max((group["packed"] for group in groups), default=0) or 1,
        differences=report["tool_differences"],
        bom=bom.FILE,
        packages=[
            (p["name"], p["version"], _licences(p), p["files"], _kib(p["size"]), _kib(p["packed"]))
            for p in report["packages"]
        ],
        dropped=[(entry["rule"], entry["files"], _kib(entry["size"])) for entry in report["dropped"][:_SHOWN]],
        shown=_SHOWN,
        named=[(path, " ".join(by)) for path, by in report["named"].items()],
        idle_rules=report["idle_rules"],
    )


def _licences(package: Mapping[str, Any]) -> str:
    if package["name"] == OWN:
        return ""
    return "see its copyright file" if package["licences"] is None else "; ".join(package["licences"])


def _kib(size: int) -> int:
    return round(size / 1024)
