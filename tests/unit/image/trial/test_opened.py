"""The record of opened files becomes a proposal that leaves alone what was opened, by whatever name."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from provision.errors import Invalid
from provision.image import patterns
from provision.image.recipe import Action, Scope
from provision.image.trial import minimal, opened
from tests.helpers.image_samples import loaded

# As a host wrote it, shortened; names are as programs gave them.
RECORD = """\
lost 0
module kvm_amd
module nf_tables
link /bin -> usr/bin
link /lib -> usr/lib
link /lib64 -> usr/lib64
link /sbin -> usr/sbin
link /usr/bin/python3 -> python3.11
link /usr/bin/sh -> dash
link /usr/lib/x86_64-linux-gnu/libz.so.1 -> libz.so.1.2.13
link /var/run -> /run
link /circle -> circle
opened /bin/sh
opened /usr/bin/python3
opened /lib/x86_64-linux-gnu/libz.so.1
opened /usr/lib/python3.11/../python3.11/os.py
opened encodings/utf_8.py
opened /circle
opened \n\
end
"""
FILES = {
    "/usr/bin/dash": "dash",
    "/usr/bin/python3.11": "python3",
    "/usr/lib/x86_64-linux-gnu/libz.so.1.2.13": "zlib1g",
    "/usr/lib/python3.11/os.py": "libpython",
    "/usr/lib/python3.11/encodings/utf_8.py": "libpython",
    "/usr/lib/python3.11/encodings/idna.py": "libpython",
    "/usr/lib/modules/6.1/kernel/arch/x86/kvm/kvm-amd.ko": "linux",
    "/usr/lib/modules/6.1/kernel/fs/xfs/xfs.ko": "linux",
    "/usr/share/ca-certificates/mozilla/A.crt": "ca-certificates",
    "/usr/lib/provision/status": "recipe",
    "/etc/sasl2.conf": "sasl",
    "/usr/bin/never": "never",
}
REPORT: dict[str, Any] = {
    "image": {"files": {"vmlinuz": {"size": 3 << 20}, "initrd": {"size": 1 << 20}}},
    "files": [{"path": p, "package": n, "size": 100 + i, "packed": 50} for i, (p, n) in enumerate(FILES.items())],
    "packages": [{"name": name, "files": list(FILES.values()).count(name)} for name in set(FILES.values())],
}


def test_names_lead_to_files() -> None:
    links = opened.parse(RECORD).links
    assert opened.resolve("/bin/sh", links) == "/usr/bin/dash"
    assert opened.resolve("/sbin/../lib//x86_64-linux-gnu/./libz.so.1", links).endswith("gnu/libz.so.1.2.13")
    assert opened.resolve("/var/run/x", links) == "/run/x"
    assert opened.resolve("/../bin", links) == "/usr/bin"
    assert opened.resolve("/circle/x", links) == "/circle/x"


def test_only_what_nothing_opened_is_proposed() -> None:
    proposal = opened.propose(REPORT, opened.parse(RECORD))
    assert [row.unused for row in proposal.rows] == [
        ("/usr/lib/python3.11/encodings/idna.py",),
        ("/usr/bin/never",),
    ]
    assert (proposal.opened, proposal.files) == (6, 12)
    assert proposal.modules.unused == ("/usr/lib/modules/6.1/kernel/fs/xfs/xfs.ko",)
    # Two files and a module, 50 bytes each.
    assert (proposal.size, proposal.floor) == (4 << 20, (4 << 20) - 150)
    assert [row.package for row in opened.propose(REPORT, opened.parse(RECORD), ("/usr/bin/**",)).rows] == [
        "ca-certificates",
        "libpython",
        "sasl",
    ]


def test_the_rules_are_a_recipe() -> None:
    odd = {"path": "/usr/bin/odd [name]", "package": "odd", "size": 1, "packed": 1}
    code = {
        "path": "/lib/x.pyc",
        "package": "x",
        "size": 1,
        "packed": 1,
        "compiled": {"source": "/lib/x.py", "needs": []},
    }
    report = {**REPORT, "files": [*REPORT["files"], odd, code]}
    text = opened.rules(opened.propose(report, opened.parse(RECORD.replace("lost 0", "lost 3"))))
    assert "6 of 14 files were opened" in text and "3 events were lost" in text
    assert "need 4.0 of the 4.0 MiB" in text
    rules = loaded(text).rules(Scope.FILES)
    assert {rule.action for rule in rules} == {Action.DROP}
    assert [rule.pattern for rule in rules] == [
        "/usr/lib/python3.11/encodings/idna.py",
        "/usr/bin/never",
        "/usr/bin/odd??name?",
        "/lib/x.py",
    ]
    assert patterns.matches(rules[2].pattern, str(odd["path"]))


@pytest.mark.parametrize("record", ["", "lost 0\nopened /x\n", RECORD + "opened /late\n", "module\nend\n"])
def test_half_a_record_is_refused(record: str) -> None:
    with pytest.raises(Invalid):
        opened.parse(record)


def test_the_disk_is_read_up_to_its_end(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(gzip.compress(RECORD.encode()) + bytes(4096))
    assert minimal.unpacked(disk) == RECORD
    disk.write_bytes(bytes(4096))
    with pytest.raises(Invalid, match="was not written"):
        minimal.unpacked(disk)
