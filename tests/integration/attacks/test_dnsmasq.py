"""DHCP configurations of a hostile service: no foreign line comes to root's dnsmasq, and its checker can do nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Exit, Invalid, ProvisionError
from provision.proc import find
from provision.render import dhcp, dnsmasq_lines
from tests.integration.attacks.fake_service import answer
from tests.integration.attacks.test_operator_socket import GOOD, attacked
from tests.integration.attacks.test_operator_socket import state as state


def bad_configurations(script: Path) -> Iterator[str]:
    lines = GOOD.splitlines()
    smuggled = (
        *(f"{name}={script}" for name in ("conf-script", "dhcp-script", "dhcp-luascript", "conf-file", "conf-dir")),
        *(f"{name}={script}" for name in ("addn-hosts", "hostsdir", "dhcp-hostsfile", "dhcp-hostsdir", "servers-file")),
        *(f"{name}={script}" for name in ("log-facility", "pid-file", "dhcp-leasefile", "tftp-root", "resolv-file")),
        *("user=root", "group=root", "enable-tftp", "enable-tftp=eth1", "port=53", "interface=eth0", "interface=*"),
        *(
            "dhcp-scriptuser=root",
            "leasefile-ro",
            "dhcp-option=tag:net-mgmt,option:router,$(id)",
            "address=/#/10.0.0.1",
        ),
        *("dhcp-host=52:54:00:00:00:07,ignore", "dhcp-boot=tag:net-mgmt,tag:arch-bios,/../x,,10.20.0.4", " port=0"),
        f"dhcp-boot=tag:net-mgmt,tag:arch-http,http://10.20.0.4/http-boot/boot.iso,,10.20.0.4\rconf-script={script}",
    )
    for line in smuggled:
        for place in (0, 14, len(lines)):
            yield "\n".join([*lines[:place], line, *lines[place:]]) + "\n"
    for end in ("\r", "\x0b", "\x0c", "\x85", "\u2028", "\0", "\x1e"):
        yield GOOD + f"# a comment{end}conf-script={script}\n"
    # dnsmasq takes 1024 bytes at a time: the rest of a long comment is a line of its own.
    for length in range(1018, 1027):
        yield GOOD + "#" + "x" * (length - 1) + f"conf-script={script}\n"
    for number, line in enumerate(lines):
        if line and not line.startswith("#") and number < 20:
            yield "\n".join([*lines[:number], *lines[number + 1 :]]) + "\n"
    yield from ("", "\n", GOOD.rstrip("\n"), f"conf-script={script}\n", GOOD * 60_000)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program of the attacker's, which everybody may run; it leaves `ran` behind."""
    place = tmp_path / "open"
    place.mkdir()
    for directory in (place, tmp_path, *list(tmp_path.parents)[:2]):
        directory.chmod(0o777)
    path = place / "evil"
    path.write_text(f"#!/bin/sh\n/usr/bin/touch {place}/ran\n")
    path.chmod(0o755)
    return path


def test_no_foreign_line_comes_to_dnsmasq(state: Path, script: Path) -> None:
    dnsmasq_lines.require(GOOD, {"eth1"})
    dnsmasq_lines.require(GOOD, None)
    ran = attacked(state, lambda m, p: [answer(GOOD.encode(), "text/plain")], ("dhcp",))
    assert (ran.code, ran.out) == (Exit.OK, GOOD)
    for number, text in enumerate(bad_configurations(script)):
        if text in (GOOD, f" {GOOD}"):
            continue
        with pytest.raises(Invalid):
            dnsmasq_lines.require(text, {"eth1"})
        if number % 9:
            continue
        for command in (("dhcp", "--check", "-o", "target/dhcp.conf"), ("dhcp",)):
            body = answer(text.encode(), "text/plain")
            refused = attacked(state, lambda m, p, body=body: [body], command)  # type: ignore[misc]
            assert refused.code in (Exit.INVALID, Exit.UNAVAILABLE), (text[-200:], refused)
            assert "evil" not in refused.out + refused.err
            assert list((state.parent / "target").iterdir()) == []
    assert not (script.parent / "ran").exists()


@pytest.mark.parametrize("line", ["conf-script={script}", "conf-file={secret}", "addn-hosts={secret}"])
def test_the_checker_itself_may_neither_run_nor_read(state: Path, script: Path, line: str) -> None:
    """Behind the grammar: what dnsmasq reads is read by nobody, who cannot start a program."""
    text = f"port=0\n{line.format(script=script, secret=state.parent / 'secret')}\n".encode()
    if "script" in line:
        subprocess.run([find("dnsmasq", "dnsmasq-base"), "--test", "--conf-file=-"], input=text, capture_output=True)
        assert (script.parent / "ran").exists(), "otherwise this test could not fail"
        (script.parent / "ran").unlink()
    try:
        dhcp.check(text)
    except ProvisionError as error:
        assert "of-root-alone" not in str(error)
    else:
        assert "addn" in line, "dnsmasq opens that one later"
    assert not (script.parent / "ran").exists()


def test_what_is_confined_has_nothing_left() -> None:
    from provision.proc import run

    status = run(["cat", "/proc/self/status"], package="coreutils", confined=True).stdout.decode()
    rows = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert rows["Uid"].split() == rows["Gid"].split() == ["65534"] * 4 and rows["Groups"].strip() == ""
    assert {int(rows[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (rows["NoNewPrivs"], rows["Seccomp"]) == ("1", "2")
    assert run(["env"], package="coreutils", confined=True).stdout == b""
    for program in (["sh", "-c", "/bin/true"], ["env", "/bin/true"], ["timeout", "9", "/bin/true"]):
        done = run(program, package="coreutils", confined=True, ok=range(256))
        assert done.returncode not in (0, 124), (program, done)
