"""What a machine reports on its console."""

from __future__ import annotations

import pytest

from provision.errors import Invalid
from provision.lab.report import parse


def test_a_report_is_read_and_a_console_without_one_is_refused() -> None:
    text = (
        "noise\nPROVISION-REPORT-BEGIN\nhostname: n\n"
        'addr: [{"ifname": "lo", "addr_info": []}, {"ifname": "e0", "addr_info": ['
        '{"local": "10.0.0.2", "prefixlen": 24, "scope": "global"}, '
        '{"local": "fe80::1", "prefixlen": 64, "scope": "link"}]}]\n'
        "file: 0600 0:0 abcd /etc/a b\nfailed: x\nfailed: y\nPROVISION-REPORT-END\n"
    )
    report = parse(text)
    assert report["hostname"] == "n" and report.addresses == {"e0": ["10.0.0.2/24"]}
    assert report.files["/etc/a b"].mode == "0600" and report.all("failed") == ["x", "y"]
    with pytest.raises(Invalid, match="2 lines 'failed:'"):
        report["failed"]
    with pytest.raises(Invalid, match="no report"):
        parse("PROVISION-REPORT-BEGIN\n")
