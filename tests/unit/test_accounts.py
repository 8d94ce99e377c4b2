from __future__ import annotations

import pytest

from provision.accounts import ROOT_ONLY, read

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:109::/var/lib/libvirt:/bin/false\n"
GROUP = b"root:x:0:\nkvm:x:109:libvirt-qemu\nlibvirt-qemu:x:64055:libvirt-qemu\n"


@pytest.mark.parametrize(
    ("user", "group", "owner"),
    [
        (None, None, "0:0"),
        ("root", "root", "0:0"),
        (None, "libvirt-qemu", "0:64055"),
        ("libvirt-qemu", "kvm", "64055:109"),
    ],
)
def test_owners_by_name(user: str | None, group: str | None, owner: str) -> None:
    accounts = read(PASSWD, GROUP)
    assert accounts.owner(user, group) == owner
    assert list(accounts.unknown(user, group)) == []


def test_what_the_image_does_not_have() -> None:
    accounts = read(PASSWD, GROUP)
    assert list(accounts.unknown("qemu", "qemu")) == [("user", "qemu"), ("group", "qemu")]
    assert list(ROOT_ONLY.unknown("root", "kvm")) == [("group", "kvm")]
    with pytest.raises(KeyError):
        accounts.owner(None, "qemu")


def test_lines_that_are_none_say_nothing_and_the_first_of_two_counts() -> None:
    text = b"a:x:1:1::\na:x:2:2::\n\n+::::::\nB:x:3:\nc:x:-1:\nd:x:4294967295:\ne:x:07:\nf:x:8\n\xff:x:9:\ng:x\n"
    assert read(text, b"").users == {"a": 1, "f": 8}
