"""The boot matrix is whole: no cell is lost, each that does not exist has its reason, and every pair is booted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from provision.lab.vm import Firmware
from tests.helpers import boot_results, pairwise
from tests.helpers.boot_matrix import (
    ELSEWHERE,
    EVERY,
    POSSIBLE,
    RULES,
    SELECTED,
    Addressing,
    Cell,
    Install,
    Storage,
    Way,
    against,
)
from tests.helpers.boot_results import BEGIN, DOCUMENT, END, Result
from tests.helpers.paths import ROOT


def test_each_rule_rules_out_what_no_other_does() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    alone = {found[0].name for cell in EVERY if len(found := against(cell)) == 1}
    assert alone == {rule.name for rule in RULES}
    assert all(rule.reason.endswith(".") for rule in RULES)


@pytest.mark.parametrize(
    ("cell", "rules"),
    [
        (Cell(Firmware.BIOS, Way.HTTP, Addressing.DHCP, Storage.NONE), ["bios-has-no-http"]),
        (Cell(Firmware.UEFI, Way.DISK, Addressing.BOND, Storage.NONE), ["oem-has-a-disk"]),
        (Cell(Firmware.BIOS, Way.PXE, Addressing.DHCP, Storage.TPM), ["bios-binds-nothing"]),
        (Cell(Firmware.UEFI, Way.PXE, Addressing.DHCP, Storage.TPM), ["grub-binds-nothing-without-secure-boot"]),
        (Cell(Firmware.SECURE_BOOT, Way.PXE, Addressing.VLAN, Storage.BOTH), []),
        (Cell(Firmware.UEFI, Way.CD, Addressing.VLAN, Storage.BOTH), []),
        (Cell(Firmware.SECURE_BOOT, Way.CD, Addressing.VLAN, Storage.TPM), []),
        (Cell(Firmware.UEFI, Way.HTTPS, Addressing.BOND, Storage.TPM), []),
        (Cell(Firmware.SECURE_BOOT, Way.DISK, Addressing.VLAN, Storage.BOTH), []),
        (Cell(Firmware.SECURE_BOOT, Way.PXE, Addressing.VLAN, Storage.TPM), []),
        (Cell(Firmware.UEFI, Way.HTTP, Addressing.IPV6, Storage.TPM), []),
        (Cell(Firmware.BIOS, Way.USB, Addressing.BOND, Storage.DISK), []),
    ],
)
def test_cells_are_ruled_out_by_name(cell: Cell, rules: list[str]) -> None:
    assert [rule.name for rule in against(cell)] == rules


def test_cells_have_names_of_hosts_and_no_two_the_same() -> None:
    names = [cell.name for cell in EVERY]
    assert len(set(names)) == len(names) == 360
    assert all(name == name.strip("-") and name.replace("-", "").isalnum() for name in names)


def test_every_row_of_the_install_matrix_is_booted() -> None:
    assert {cell.install for cell in (*SELECTED, *ELSEWHERE)} == set(Install)


def test_what_is_booted_elsewhere_exists() -> None:
    assert set(ELSEWHERE) <= set(POSSIBLE) and not set(ELSEWHERE) & set(SELECTED)
    assert all((ROOT / "tests/boot" / name).is_file() for name in ELSEWHERE.values())


def test_every_pair_that_can_stand_together_is_booted() -> None:
    def pairs(cell: Cell) -> set[tuple[object, object]]:
        values = (cell.firmware, cell.way, cell.addressing, cell.storage)
        found: set[tuple[object, object]] = set(combinations(values, 2))
        if cell.storage is Storage.BOTH:
            found |= set(combinations((*values[:3], Storage.TPM), 2))
        bond = cell.addressing is Addressing.BOND
        sealed = {(cell.addressing, Storage.BOTH)} if cell.storage is Storage.TPM else set()
        return found | sealed | ({(cell.way, Addressing.VLAN), (cell.way, Addressing.IPV6)} if bond else set())

    def every(cells: Iterable[Cell]) -> set[tuple[object, object]]:
        return set().union(*map(pairs, cells))

    booted = (*SELECTED, *ELSEWHERE)
    assert every(booted) == every(POSSIBLE)
    assert {cell.addressing for cell in SELECTED} == set(Addressing)
    assert set(SELECTED) <= set(POSSIBLE) and len(SELECTED) < 24


def test_a_selection_is_the_same_each_time_and_small() -> None:
    rows: list[pairwise.Row] = [(a, b, c) for a in "abc" for b in "abc" for c in "abc"]
    found = pairwise.select(rows)
    assert found == pairwise.select(rows) and 9 <= len(found) <= 12
    assert set().union(*map(pairwise.pairs, found)) == set().union(*map(pairwise.pairs, rows))
    assert pairwise.select([]) == []


def test_what_is_dear_is_selected_only_where_it_must_be() -> None:
    rows: list[pairwise.Row] = [(a, b, c) for a in "ab" for b in "ab" for c in "cd"]
    dear = pairwise.select(rows, cost=lambda row: 9.0 if row[2] == "d" else 1.0)
    assert Counter(row[2] for row in dear)["d"] == 2, "with a and with b, and no more"


def test_a_row_is_left_out_of_which_all_is_in_others() -> None:
    # The first one that is taken has most pairs for its cost, and nothing of its own in the end.
    rows: list[pairwise.Row] = [("a", "b", "c"), ("a", "b", "x"), ("a", "y", "c"), ("z", "b", "c")]
    assert pairwise.select(rows) == rows[1:]


def test_what_is_given_is_not_selected_again() -> None:
    rows: list[pairwise.Row] = [(a, b) for a in "ab" for b in "ab"]
    assert pairwise.select(rows, [("a", "b"), ("b", "a")]) == [("a", "a"), ("b", "b")]


def test_results_are_read_back_the_last_of_each_cell(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results"
    assert boot_results.read(file) == {}
    cell = POSSIBLE[0].name
    for result in (Result(cell, False, 1.5), Result("other", True, 2.0), Result(cell, True, 31.4)):
        boot_results.append(file, result)
    assert boot_results.read(file)[cell] == Result(cell, True, 31.4)


def test_tables_say_what_was_booted_and_what_was_not() -> None:
    first, second, third = (Cell(Firmware.BIOS, Way.PXE, how, Storage.NONE) for how in list(Addressing)[:3])
    text = boot_results.tables({first.name: Result(first.name, True, 31.4), second.name: Result(second.name, False, 9)})
    assert "| BIOS | PXE | none | 31 s | failed | not yet | not yet | not yet |" in text.splitlines()
    assert "| IT, DHCP, none | 13 | 1 |" in text.splitlines()
    assert third.name not in text
    assert all(f"`{rule.name}`" in text for rule in RULES)
    assert text.count(" s |") == 1


def test_the_tables_of_the_documentation_have_every_cell() -> None:
    text = DOCUMENT.read_text()
    between = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    assert boot_results.replaced(text, between) == text
    empty = boot_results.tables({}).splitlines()
    said = between.splitlines()
    assert len(said) == len(empty)
    assert [line.split(" | ")[:3] for line in said[:2]] == [line.split(" | ")[:3] for line in empty[:2]]
    heads = ["|".join(line.split("|")[:4]) for line in empty if line.count("|") == 9]
    assert ["|".join(line.split("|")[:4]) for line in said if line.count("|") == 9] == heads
    assert said[-len(RULES) :] == empty[-len(RULES) :]
