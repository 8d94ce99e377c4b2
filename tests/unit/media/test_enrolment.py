"""The medium that enrols certificates, as mtools and partition readers see it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.media import enrolment, gpt


def test_it_is_a_disk_with_the_loader_and_the_files(tmp_path: Path) -> None:
    file = tmp_path / "enrol.img"
    file.write_bytes(enrolment.medium({"loader/keys/auto/PK.auth": b"signed", "keys/site1.cer": b"certificate"}))
    (partition,) = gpt.read_table(file).partitions
    assert partition.type == gpt.EFI_SYSTEM

    def content(path: str) -> bytes:
        argv = ["mtype", "-i", f"{file}@@{partition.offset}", f"::{path}"]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    assert content("EFI/BOOT/BOOTX64.EFI") == enrolment.LOADER.read_bytes()
    assert content("loader/keys/auto/PK.auth") == b"signed" and content("keys/site1.cer") == b"certificate"
    assert b"secure-boot-enroll force" in content("loader/loader.conf")


def test_a_missing_loader_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "LOADER", Path("/nonexistent/loader"))
    with pytest.raises(Unavailable, match=r"cannot be read .*; apt-get install systemd-boot-efi"):
        enrolment.medium({})
