"""The report that the probe prints on its console between two marks, one `key: value` per line."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from provision.errors import Invalid

BEGIN, END = "PROVISION-REPORT-BEGIN", "PROVISION-REPORT-END"


@dataclass(frozen=True)
class File:
    """A file of the booted host; `mode` is "missing" when there is none. Contents are never reported."""

    mode: str
    owner: str
    sha256: str


@dataclass(frozen=True)
class Report:
    """Every value of every key, in order."""

    values: dict[str, list[str]]

    def __getitem__(self, key: str) -> str:
        """The value of a key that has exactly one; raises Invalid otherwise."""
        found = self.values.get(key, [])
        if len(found) != 1:
            raise Invalid("probe report", f"{len(found)} lines '{key}:' instead of one")
        return found[0]

    def all(self, key: str) -> list[str]:
        """Every value of a key: "failed" (units), "leftover", "resolv" (lines of resolv.conf), "resolv-upstream"."""
        return self.values.get(key, [])

    def json(self, key: str) -> list[dict[str, Any]]:
        """What `ip -j` printed: "addr", "route", "route6" or "link"."""
        result: list[dict[str, Any]] = json.loads(self[key])
        return result

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Addresses with prefix lengths by interface name, without loopback and link-local ones."""
        return {
            link["ifname"]: [
                f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] not in ("link", "host")
            ]
            for link in self.json("addr")
            if link["ifname"] != "lo"
        }

    @property
    def files(self) -> dict[str, File]:
        """The reported files by path."""
        parts = (line.split(" ", 3) for line in self.all("file"))
        return {path: File(mode, owner, digest) for mode, owner, digest, path in parts}


def parse(text: str) -> Report:
    """The last report in a console's text; raises Invalid when there is none."""
    found = re.findall(rf"^{BEGIN}\n(.*?)^{END}$", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise Invalid("console", "has no report of the probe")
    values: dict[str, list[str]] = defaultdict(list)
    for line in found[-1].splitlines():
        key, _, value = line.partition(":")
        values[key].append(value.strip())
    return Report(dict(values))
