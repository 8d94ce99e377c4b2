"""Units are enabled as systemctl would."""

from __future__ import annotations

from provision.image import enable
from provision.image.tree import Tree
from tests.helpers.image_samples import file, loaded

UNITS = "usr/lib/systemd/system"


def test_units_are_enabled_as_systemctl_would() -> None:
    packages = Tree(
        [
            file(f"{UNITS}/a.service", "[Install]\nWantedBy=multi-user.target\nAlias=z.service\nAlso=b.socket\n"),
            file(f"{UNITS}/b.socket", "[Install]\nRequiredBy=sockets.target x.target\n"),
            file(f"{UNITS}/t@.service", "[Install]\nWantedBy=y.target\n"),
            file(f"{UNITS}/static.service", "[Service]\n"),
        ]
    )
    rules = loaded("units:\n  enable: [a.service, t@1.service]\n  mask: [m.service]\n")
    links, problems = enable.links(rules, packages)
    assert problems == []
    assert {node.path: node.content.read().decode() for node in links} == {
        "etc/systemd/system/multi-user.target.wants/a.service": f"/{UNITS}/a.service",
        "etc/systemd/system/z.service": f"/{UNITS}/a.service",
        "etc/systemd/system/sockets.target.requires/b.socket": f"/{UNITS}/b.socket",
        "etc/systemd/system/x.target.requires/b.socket": f"/{UNITS}/b.socket",
        "etc/systemd/system/y.target.wants/t@1.service": f"/{UNITS}/t@.service",
        "etc/systemd/system/m.service": "/dev/null",
    }
    _, problems = enable.links(loaded("units:\n  enable:\n    - static.service\n    - gone.service\n"), packages)
    assert [str(problem) for problem in problems] == [
        "recipe.yaml:5: units.enable.0: static.service cannot be enabled: it has no [Install] section",
        "recipe.yaml:6: units.enable.1: no package has gone.service; add the package, or leave the unit out",
    ]
