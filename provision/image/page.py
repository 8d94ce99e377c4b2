"""The report as one page of HTML that a person reads: sizes as bars, then tables. It loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from provision.image import bom
from provision.image.tree import OWN

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .2rem .6rem .2rem 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } tr { border-bottom: 1px solid #e4e4e4; }
code { font-size: 13px; } svg text { font: 13px system-ui, sans-serif; fill: #222; } rect { fill: #3b6ea5; }
"""
_SHOWN = 60
_TEXTS = ("package", "version", "licences", "rule", "path", "named by")
_BAR, _LABEL, _WIDTH = 26, 250, 900


def page(report: Mapping[str, Any]) -> str:
    """The page of a report as `report.report` makes it."""
    image = report["image"]
    title = f"{image['name']} {image['version']}"
    total = sum(entry["size"] for entry in image["files"].values())
    title += f" for {image['platform']}" if image.get("platform") else ""
    facts = f"Linux {escape(image['kernel_version'])}, {image['root_files']} paths, id {image['id'][:16]}"
    parts = [
        f"<h1>{escape(title)}: {_mib(total)} MiB</h1><p>{facts}</p>",
        "<h2>Where the size goes</h2>",
        chart([(group["name"], group["packed"]) for group in report["groups"]]),
        _differences(report["tool_differences"]),
        f"<h2>Packages</h2><p>Licences as the packages' copyright files name them; {bom.FILE} is the bill of materials"
        " for programs.</p>",
        _table(
            ("package", "version", "licences", "files", "KiB", "KiB packed"),
            (
                (p["name"], p["version"], _licences(p), p["files"], _kib(p["size"]), _kib(p["packed"]))
                for p in report["packages"]
            ),
        ),
        f"<h2>Left out</h2><p>The {_SHOWN} rules that keep most out; report.json has every path.</p>",
        _table(
            ("rule", "files", "KiB"),
            ((entry["rule"], entry["files"], _kib(entry["size"])) for entry in report["dropped"][:_SHOWN]),
        ),
    ]
    if report["named"]:
        parts.append(
            "<h2>Named, but left out</h2><p>Programs and libraries that are not in the image, and the files that name"
            " them.</p>"
        )
        parts.append(_table(("path", "named by"), ((path, " ".join(by)) for path, by in report["named"].items())))
    if report["idle_rules"]:
        items = "".join(f"<li><code>{escape(rule)}</code></li>" for rule in report["idle_rules"])
        parts.append(f"<h2>Rules that decided nothing</h2><ul>{items}</ul>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def chart(rows: Sequence[tuple[str, int]]) -> str:
    """Bars for names and bytes as one SVG element, the longest over the whole width."""
    most = max((size for _, size in rows), default=0) or 1
    lines = []
    for number, (name, size) in enumerate(rows):
        middle = number * _BAR + _BAR * 2 // 3
        width = (_WIDTH - _LABEL - 90) * size / most
        lines.append(
            f'<text x="{_LABEL - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{number * _BAR + 4}" width="{width:.1f}" height="{_BAR - 8}"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{middle}">{_mib(size)} MiB</text>'
        )
    height = _BAR * len(rows)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img">{"".join(lines)}</svg>'


def _licences(package: Mapping[str, Any]) -> str:
    if package["name"] == OWN:
        return ""
    return "see its copyright file" if package["licences"] is None else "; ".join(package["licences"])


def _differences(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<p><strong>Not repeatable here:</strong> {escape('; '.join(lines))}.</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    cells = "".join(f"<th{'' if h in _TEXTS else ' class=n'}>{escape(h)}</th>" for h in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(str(value))}</td>"


def _kib(size: int) -> int:
    return round(size / 1024)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f}"
