"""The machinery of the benchmarks on tiny inputs: each measures something real and says what it found; not how fast."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from bench import __main__ as runner
from bench import (
    alive,
    api,
    boot,
    browsers,
    cli,
    configs,
    disks,
    first_byte,
    image,
    links,
    pinning,
    scale,
    site,
    storm,
    stream,
    tftp,
    tls,
    tpm,
    tpm_boot,
)
from bench.common import Row, paired, table
from provision.image.recipe import load
from tests.helpers.paths import ROOT


def row(goal: str, ours: float = 1.0, ratio: float = 1.0) -> Row:
    return Row("something", ours, 1.0, "s", ratio, goal)


@pytest.mark.parametrize(
    ("goal", "ours", "ratio", "verdict"),
    [
        (">= 0.5", 9, 0.5, "met"),
        (">= 0.5", 9, 0.499, "missed"),
        ("> 1.0", 9, 1.0, "missed"),
        ("<= 0.02", 9, 0.02, "met"),
        ("<= 0.02", 9, 0.021, "missed"),
        ("< 150 MiB", 149.9, 300, "met"),
        ("< 150 MiB", 150, 1, "missed"),
        ("none", 1, 1, ""),
    ],
)
def test_goals_are_judged(goal: str, ours: float, ratio: float, verdict: str) -> None:
    assert row(goal, ours, ratio).verdict == verdict


def test_an_images_figures_are_judged_by_their_goals() -> None:
    assert [image.size("x", ours, 60.0).verdict for ours in (60.0, 60.1)] == ["met", "missed"]
    assert [image.duration("x", ours, 240.0).verdict for ours in (240.0, 241.0)] == ["met", "missed"]


def test_growth_is_measured_against_an_image_without_what_came_later(tmp_path: Path) -> None:
    recipe = image.before(ROOT / "images", tmp_path / "images")
    loaded = load(recipe)
    assert {"provision-alive.service", "ssh.service"} <= set(loaded.recipe.units.enable)
    assert not {"provision-secrets.service", "provision-data.service"} & set(loaded.recipe.units.enable)
    left = {path.name for path in (tmp_path / "images").rglob("*")}
    assert {"init", "status", "capture-platform"} <= left
    assert not {"tpm.py", "slots", "stored", "fetched", "provision-enroll.service"} & left
    assert "r8152" not in recipe.read_text() and "vmxnet3" in recipe.read_text()


def test_a_program_that_is_gone_ends_the_benchmark(tmp_path: Path) -> None:
    """Growth that is measured against something else than is said would be worth nothing."""
    shutil.copytree(ROOT / "images", tmp_path / "images")
    (tmp_path / "images/common/initramfs/manifest.awk").rename(tmp_path / "images/common/initramfs/other.awk")
    with pytest.raises(SystemExit, match=r"has no manifest\.awk"):
        image.before(tmp_path / "images", tmp_path / "before")


def test_a_units_time_is_what_systemd_says_of_it() -> None:
    line = "[  {}] systemd[1]: {} provision-enroll.service - Enrol this machine's TPM\n"
    skipped = "[    9.500000] systemd[1]: provision-enroll.service: Skipped due to 'exec-condition'.\n"
    console = line.format("  9.000000", "Starting") + skipped + line.format(" 12.250000", "Starting")
    with pytest.raises(SystemExit, match="provision-enroll is not seen on the console"):
        tpm_boot.seconds(console, "provision-enroll")
    console += line.format(" 13.000000", "Finished") + line.format(" 99.000000", "Starting")
    assert tpm_boot.seconds(console, "provision-enroll") == 0.75
    online = "[  {}] systemd[1]: Reached target network-online.target - Network is Online.\n"
    assert tpm_boot.seconds(online.format(" 12.000000") + console, "provision-enroll") == 0.75
    waited = console.replace(
        line.format(" 13.000000", "Finished"), online.format(" 12.750000") + line.format(" 13.000000", "Finished")
    )
    assert tpm_boot.seconds(waited + online.format("14.000000"), "provision-enroll") == 0.25
    with pytest.raises(SystemExit, match="provision-secrets is not seen"):
        tpm_boot.seconds(console, "provision-secrets")


def test_ratios_are_of_pairs() -> None:
    """A pair that was measured while the machine was busy moves neither the medians nor the ratio."""
    found = paired("x", "1/s", ">= 0.5", [(10, 20), (1, 2), (12, 20)])
    assert (found.ours, found.peer, found.ratio) == (10, 20, 0.5)


def test_the_document_says_what_was_missed_and_names_no_machine() -> None:
    text = runner.document({"a": ("What a is.\n", [row(">= 2"), row("none")]), "b": ("And b.", [row("<= 2")])})
    assert "- a: something\n" in text and "- b:" not in text
    assert "## a\n\nWhat a is.\n\n| what" in text
    assert socket.gethostname() not in text and str(ROOT) not in text
    assert f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Linux " in text
    assert "All goals were met." in runner.document({"b": ("And b.", [row("<= 2")])})


def test_an_unknown_benchmark_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["first_bite"]) == 2
    assert "first_byte" in capsys.readouterr().err


def test_what_stands_beside_media_is_not_media() -> None:
    before = {"audit.log": 10, "bases/x/base.iso": 100}
    assert first_byte.media_bytes(before, {"audit.log": 99, "provision.db-wal": 5, "bases/x/base.iso": 100}) == 0
    assert first_byte.media_bytes(before, {**before, "bases/x/node1.iso": 7}) == 7


def test_a_boot_whose_loader_gives_up_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    consoles = iter(["Boot failed: press a key", "LIBVIRT ANSWERS", *["Boot failed: press a key"] * boot.TRIES])
    machine = MagicMock()
    machine.return_value.__enter__.side_effect = lambda: MagicMock(console=next(consoles))
    demo = MagicMock()
    for name, double in (("Lab", MagicMock()), ("DemoSite", demo), ("VM", machine), ("proc", MagicMock())):
        monkeypatch.setattr(boot, name, double)
    with boot.site("x", MagicMock()) as power_on:
        assert power_on(512) < 60 and machine.call_count == 2
        with pytest.raises(SystemExit, match="gave up"):
            power_on(512)
    windows = [call.args for call in demo.return_value.call.call_args_list if call.args[0] == "window"]
    assert len(windows) == machine.call_count == 2 + boot.TRIES
    [(_, inventory, _)] = (call.args for call in demo.call_args_list)
    assert "credentials: [keytab, enrolment, file0, file1]" in inventory


def test_inventories_differ_by_one_host() -> None:
    lines = site.inventory(3).text.splitlines(), site.inventory(3, first_rack="other").text.splitlines()
    assert [new for old, new in zip(*lines, strict=True) if old != new] == [b"    labels: {rack: other}"]
    assert len({site.mac(n) for n in range(70_000)}) == 70_000


@pytest.mark.integration
def test_first_bytes_come_and_nothing_is_stored() -> None:
    built, alone, disk = first_byte.main([(4096, 2)])
    assert 0 < alone.peer < built.peer
    assert built.ours > 0
    assert (disk.ours, disk.verdict) == (0, "met")


@pytest.mark.integration
def test_disks_come_in_each_format_and_as_patches() -> None:
    *first, batch = disks.main(pairs=1, initrd=4096, hosts=5, rounds=1)
    assert len(first) == 3 and all(0 < one.ours < one.peer for one in first)
    assert batch.ours >= 0


@pytest.mark.integration
def test_keys_are_wrapped_and_values_computed() -> None:
    rsa, p256, computed, _ = tpm.main(hosts=30, rounds=1, wrapped=3, initrd=4096)
    assert min(rsa.ours, p256.ours, computed.ours) > 0


@pytest.mark.long
@pytest.mark.integration
def test_hosts_say_that_they_are_up_and_ask_what_to_run() -> None:
    up, _, ordered, asked, grown = alive.main(hosts=4, rounds=1, share=4)
    assert min(up.ours, up.peer, ordered.ours, asked.ours, asked.peer) > 0
    assert grown.verdict == "met"


@pytest.mark.long
@pytest.mark.integration
def test_configurations_are_asked_for_from_every_hosts_own_address() -> None:
    kept, new, *_ = configs.main(hosts=4, pairs=1, seconds=0.3, fresh=10)
    assert min(kept.ours, kept.peer, new.ours, new.peer) > 0


@pytest.mark.integration
def test_a_host_is_asked_and_pinned() -> None:
    alone, seed = pinning.main(pins=3, hosts=3)
    assert alone.ours > alone.peer > 0
    assert min(seed.ours, seed.peer) > 0


@pytest.mark.long
@pytest.mark.integration
def test_sites_of_two_sizes_are_compared() -> None:
    rows = scale.main(small=20, large=60, rounds=1, each_side=1)
    assert len(rows) == 6
    assert all(found.ours > 0 for found in rows)
    assert "dnsmasq" in table(rows)


@pytest.mark.integration
def test_streams_and_their_memory_are_measured() -> None:
    rows = stream.main(small=stream.MIB, large=2 * stream.MIB, pairs=1, seconds=0.1)
    assert [found.unit for found in rows] == ["GB/s"] * 8 + ["MiB"] * 4
    assert all(found.ours > 0 and found.peer > 0 for found in rows)


@pytest.mark.integration
def test_streams_over_tls_are_measured() -> None:
    rows = tls.main(size=32 * tls.MIB, pairs=1)
    assert [found.unit for found in rows] == ["GB/s"] * 4
    assert all(found.ours > 0 and found.peer > 0 for found in rows)


@pytest.mark.long
@pytest.mark.integration
def test_a_link_is_measured_against_the_socket() -> None:
    rows = links.main(size=site.MIB, pairs=1)
    assert [found.unit for found in rows] == ["GB/s"] * 4
    assert all(found.ours > 0 and found.peer > 0 for found in rows)


@pytest.mark.long
@pytest.mark.integration
def test_a_storm_is_followed_and_every_host_gets_its_own() -> None:
    rows = storm.main(hosts=4, pairs=1, initrd=4096)
    assert [found.unit for found in rows] == ["GB/s", "GB/s", "s"]
    assert all(found.ours > 0 and found.peer > 0 for found in rows)


def test_what_a_host_takes_stands_in_its_configuration() -> None:
    text = b"LABEL provision\n  LINUX http://192.0.2.1/k\n  INITRD http://192.0.2.1/i/0,http://192.0.2.1/s.cpio\n"
    assert storm.named(text) == ["/k", "/i/0", "/s.cpio"]
    with pytest.raises(SystemExit, match="not a configuration to boot by"):
        storm.named(b"LOCALBOOT 0")


@pytest.mark.long
@pytest.mark.integration
def test_browsers_are_measured() -> None:
    page, seconds, memory = browsers.main(small=2, large=20, rounds=1, count=8, seconds=1.0, turns=1)
    assert min(page.ours, page.peer, seconds.ours, seconds.peer, memory.peer) > 0


@pytest.mark.integration
def test_reads_of_the_api_are_measured() -> None:
    rate, cost = api.main(hosts=2, pairs=1, seconds=0.3)
    assert min(rate.ours, rate.peer, cost.ours, cost.peer) > 0


@pytest.mark.integration
def test_tftp_is_measured_against_two_servers() -> None:
    rows = tftp.main(size=1024 * 1024, pairs=1)
    assert [found.unit for found in rows] == ["MiB/s"] * 4 + ["MiB"]
    assert all(found.ours > 0 for found in rows)


@pytest.mark.integration
def test_the_command_line_is_measured_against_python_alone() -> None:
    rows = cli.main(pairs=1)
    assert [found.unit for found in rows] == ["ms"] * 4
    assert all(found.ours > found.peer > 0 for found in rows)
