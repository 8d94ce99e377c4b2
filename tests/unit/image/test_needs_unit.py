"""The lines of a systemd unit."""

from __future__ import annotations

from provision.image import needs_unit


def test_lines_of_a_unit() -> None:
    text = b"# c\n[Unit]\nA=1\n;B=2\n[Service]\nExecStart=/bin/x \\\n  y=1\nEmpty=\n"
    assert [(line.section, line.key, line.value) for line in needs_unit.lines(text)] == [
        ("Unit", "A", "1"),
        ("Service", "ExecStart", "/bin/x    y=1"),
        ("Service", "Empty", ""),
    ]
