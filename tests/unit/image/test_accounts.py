"""Accounts of an image's recipe."""

from __future__ import annotations

from provision.image import accounts
from provision.image.recipe import Recipe


def test_accounts() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "xx",
            "packages": ["aa"],
            "users": {"web": {"id": 33, "groups": ["kvm"]}, "daemon": {"id": 1, "home": "/var/d"}},
            "groups": {"kvm": 105},
        }
    )
    found = {node.path: node for node in accounts.files(recipe)}
    assert found["etc/passwd"].content.read().decode().splitlines() == [
        "root:x:0:0::/root:/bin/sh",
        "daemon:x:1:1::/var/d:/usr/sbin/nologin",
        "web:x:33:33::/nonexistent:/usr/sbin/nologin",
    ]
    assert found["etc/group"].content.read().decode().splitlines() == [
        "root:x:0:",
        "daemon:x:1:",
        "web:x:33:",
        "kvm:x:105:web",
    ]
    assert (
        found["etc/shadow"].content.read().startswith(b"root:*:::::::\n") and found["etc/shadow"].mode & 0o777 == 0o600
    )
