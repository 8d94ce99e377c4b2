"""Lines of a TOML file by the paths of what stands there."""

from __future__ import annotations

from provision.toml_lines import lines_of

TEXT = """\
top = 1
[api]
port = 8443  # a comment

[api.proxy]
addresses = [
  "10.0.0.1",
]

[[listen]]
network = "a"
[[listen]]
network = "b"
"""


def test_keys_and_tables_have_their_lines() -> None:
    found = lines_of(TEXT)
    assert (found[("top",)], found[("api",)], found[("api", "port")]) == (1, 2, 3)
    assert found[("api", "proxy", "addresses")] == 6
    assert (found[("listen", 0, "network")], found[("listen", 1, "network")]) == (11, 13)
