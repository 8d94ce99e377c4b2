"""What BusyBox provides in an image: only what it has."""

from __future__ import annotations

from provision.image import applets
from provision.image.tree import Tree
from tests.image_samples import file, loaded


def test_applets_that_busybox_does_not_have_are_named_with_their_lines() -> None:
    rules = loaded("applets:\n  - cat\n  - nohup\ninitramfs:\n  applets: [sh, at]\n")
    has = Tree([file("usr/bin/busybox", "\x7fELF\0[\0cat\0sh\0nohups\0")])
    found = list(applets.problems(rules, has))
    assert [(p.line, p.path, p.fact) for p in found] == [
        (5, "applets.1", "this BusyBox has no nohup"),
        (7, "initramfs.applets.1", "this BusyBox has no at"),
    ]
    assert not list(applets.problems(rules, Tree([])))
