"""Unit tests mirror the source: `tests/unit/store/test_chain.py` tests `provision/store/chain.py`."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.paths import ROOT

UNIT = ROOT / "tests/unit"


def mirrored(test: Path) -> Path:
    """The module that a file of tests is about, by its name."""
    return ROOT / "provision" / test.relative_to(UNIT).with_name(f"{test.stem.removeprefix('test_')}.py")


def test_every_file_of_unit_tests_mirrors_a_module() -> None:
    tests = sorted(UNIT.rglob("test_*.py"))
    assert len(tests) > 100
    strangers = [str(test.relative_to(ROOT)) for test in tests if not mirrored(test).is_file()]
    assert strangers == [], "name it after the module it tests, or move it to tests/integration or tests/project"
