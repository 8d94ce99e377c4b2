"""platform.yaml: every mistake with its line, written the same every time, and what it makes of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Conflict, NotFound, Problems
from provision.image import build, platforms, recipe
from provision.image.closure import close
from provision.image.platforms import Firmware, Hardware, Platform
from provision.image.recipe import Action, Loaded, RuleEntry, Rules, Scope
from tests.helpers.image_samples import TOP, around, file, loaded, module

RECIPE = (
    "rules:\n  modules:\n    - needed: ['*']\n    - keep: [nic_*, sound]\n    - drop: [bad]\nalways: [tun, cry-*]\n"
)


def narrowed(text: str, rules: Loaded) -> Loaded:
    return platforms.apply(rules, *platforms.parse(text.encode(), "p.yaml"), text)


def problems(text: str) -> list[str]:
    with pytest.raises(Problems) as raised:
        platforms.parse(text.encode(), "p.yaml")
    return [str(problem) for problem in raised.value.problems]


def test_all_problems_come_at_once_with_their_lines() -> None:
    text = (
        "name: A B\nkernal: x\nmodules:\n  ahci:\n    - {what: no place}\n  nic:\n    - {at: a, color: red}\n"
        "firmware: {absent: {}}\nextra: ['a b']\nrules:\n  files:\n    - drop: [/a]\n      keep: [/b]\n"
    )
    found = problems(text)
    assert [line.split(" ")[0] for line in found] == [f"p.yaml:{n}:" for n in (1, 2, 5, 7, 8, 9)]
    assert "p.yaml:2: kernal: unknown key 'kernal'; did you mean 'kernel'?" in found
    steps = "name: p\nextra: [a, b, a]\nmodules: {b: []}\nrules:\n  modules:\n    - drop: [a]\n      keep: [b]\n"
    assert problems(steps) == [
        "p.yaml:2: extra.1: b is named twice; keep one",
        "p.yaml:2: extra.2: a is named twice; keep one",
        "p.yaml:6: rules.modules.0: has not exactly one of keep, needed, drop; rules apply in order: write one each",
    ]


FULL = Platform(
    name="rack-7",
    hardware='Maker "Model" 7: \\ #1',
    kernel="6.1.0-9-amd64",
    modules={
        "ahci": (Hardware(at="0000:00:1f.2", what="SATA controller, driver ahci", alias="pci:v1*"),),
        "none": (),
        "true": (Hardware(at="~"),),
    },
    vetoed={"bochs": "text: only"},
    firmware=Firmware(packaged={"nic": ("a/b.fw",)}, missing={"nic": ("c d".replace(" ", "-"), "1")}),
    extra=("drivers/net/**", "nft_{ct,log}"),
    rules=Rules(modules=(RuleEntry(drop=("xfs",)),), files=(RuleEntry(keep=("/a", "/b")), RuleEntry(needed=("/c",)))),
    stubs=("/usr/lib/liba.so.*",),
)


def test_it_is_written_the_same_every_time_and_reads_back() -> None:
    text = platforms.write(FULL)
    read, _ = platforms.parse(text.encode(), "p.yaml")
    assert read == FULL and platforms.write(read) == text
    assert text.splitlines()[:4] == [
        "name: rack-7",
        'hardware: "Maker \\"Model\\" 7: \\\\ #1"',
        'kernel: "6.1.0-9-amd64"',
        "modules:",
    ]
    assert platforms.write(Platform(name="p")) == "name: p\n"
    odd = platforms.write(Platform(name="p", hardware="a\x1b[31m\u202e\n"))
    assert platforms.parse(odd.encode(), "p.yaml")[0].hardware == "a?[31m??"


def test_of_the_recipe_s_modules_only_what_is_needed_stays() -> None:
    rules = loaded(RECIPE)
    assert [(r.action, r.pattern) for r in rules.rules(Scope.MODULES)] == [
        (Action.NEEDED, "*"),
        (Action.KEEP, "nic_*"),
        (Action.KEEP, "sound"),
        (Action.DROP, "bad"),
        (Action.KEEP, "tun"),
        (Action.KEEP, "cry-*"),
    ]
    text = "name: p\nmodules:\n  nic_a: []\nextra: [nic_b]\nrules:\n  modules:\n    - drop: [tun]\n"
    text += "  files:\n    - drop: [/x]\n"
    small = narrowed(text, rules)
    assert [(r.action, r.pattern, r.file, r.line) for r in small.rules(Scope.MODULES)] == [
        (Action.NEEDED, "*", "p.yaml", 1),
        (Action.NEEDED, "*", "recipe.yaml", 5),
        (Action.NEEDED, "nic_*", "recipe.yaml", 6),
        (Action.NEEDED, "sound", "recipe.yaml", 6),
        (Action.DROP, "bad", "recipe.yaml", 7),
        (Action.KEEP, "tun", "recipe.yaml", 8),
        (Action.KEEP, "cry-*", "recipe.yaml", 8),
        (Action.KEEP, "nic_a", "p.yaml", 3),
        (Action.KEEP, "nic_b", "p.yaml", 4),
        (Action.DROP, "tun", "p.yaml", 7),
    ]
    assert [r.pattern for r in small.rules(Scope.FILES)] == ["/x"]


def test_what_hardware_needs_brings_its_own_needs(tmp_path: Path) -> None:
    nodes = [
        module("net/nic_a", depends="phy", softdep="pre: cry-sum", firmware="nic/a.fw"),
        module("net/phy"),
        module("net/nic_b", firmware="nic/b.fw"),
        module("net/tun"),
        module("crypto/cry_sum"),
        module("crypto/other"),
        file("usr/lib/firmware/nic/a.fw", "a", 0o644),
        file("usr/lib/firmware/nic/b.fw", "b", 0o644),
    ]
    text = RECIPE.replace("tun, cry-*", "tun")
    rules = narrowed(
        "name: p\nextra: [nic-a]\n",
        loaded(text.replace("rules:\n", "rules:\n  files:\n    - needed: [/usr/lib/firmware/**]\n")),
    )
    where, decisions = around(nodes, rules, tmp_path)
    found = close(where, decisions)
    assert found.problems == ()
    kept = {
        path.removeprefix(f"{TOP}/kernel/") for path in found.kept if path.startswith((f"{TOP}/kernel", "usr/lib/f"))
    }
    assert kept == {"net/nic_a.ko", "net/phy.ko", "net/tun.ko", "crypto/cry_sum.ko", "usr/lib/firmware/nic/a.fw"}


def test_a_platform_is_a_file_or_ships_with_the_recipe(tmp_path: Path) -> None:
    shipped = build.default_recipe()
    assert platforms.find("q35", shipped).name == "q35.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\n")
    assert platforms.find(str(own), shipped) == own
    with pytest.raises(NotFound, match=r"q36: is not a platform file; .* ships with the recipe: common, q35"):
        platforms.find("q36", shipped)
    with pytest.raises(NotFound, match=r"/none.yaml: is not a platform file"):
        platforms.find(str(tmp_path / "none.yaml"), shipped)


def test_the_kernel_must_be_the_one_it_was_matched_against() -> None:
    rules = narrowed("name: p\nkernel: 6.1.0-9\n", loaded())
    platforms.check_kernel(rules.narrowed, "6.1.0-9", "the lock")
    platforms.check_kernel(narrowed("name: p\n", loaded()).narrowed, "6.6", "the lock")
    with pytest.raises(
        Conflict, match=r"the lock: has Linux 6\.6, and the platform p was matched against 6\.1\.0-9; detect"
    ):
        platforms.check_kernel(rules.narrowed, "6.6", "the lock")


@pytest.mark.parametrize("name", ["common", "q35"])
def test_what_ships_is_right(name: str) -> None:
    shipped = build.default_recipe()
    found = platforms.narrowed(recipe.load(shipped), platforms.find(name, shipped))
    assert found.narrowed is not None and found.narrowed.name == name and found.narrowed.kernel is None
