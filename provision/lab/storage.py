"""Storage servers for the laboratory, both in user space: an iSCSI target (tgt) and an NFS 4 server (nfs-ganesha)."""

from __future__ import annotations

import time
from collections.abc import Callable

from provision import proc
from provision.errors import Unavailable
from provision.lab.lans import Lab

TARGET = "iqn.2020-01.test.provision:usecases"
EXPORT = "/export"
_LUN = 64 << 20
_PROGRAMS = 3600
_GANESHA = """\
NFS_CORE_PARAM {{ Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Allow_Set_Io_Flusher_Fail = true; }}
NFSV4 {{ Graceless = true; RecoveryRoot = "{directory}"; Minor_Versions = 1, 2; }}
MEM {{ Inode_Size = 2097152; }}
EXPORT {{ Export_Id = 1; Path = {export}; Pseudo = {export}; Protocols = 4; Access_Type = RW;
    Squash = No_Root_Squash; SecType = sys; FSAL {{ Name = MEM; }} }}
"""


def iscsi(lab: Lab) -> None:
    """Serve a disk of 64 MiB at TARGET in the server's namespace, with CRC32C digests for initiators that ask for them.

    Raises Unavailable when tgt is missing or does not answer.
    """
    proc.find("tgtd", "tgt")
    socket, disk = lab.directory / "tgt", lab.directory / "lun.img"
    with disk.open("wb") as file:
        file.truncate(_LUN)
    # tgtd takes no SIGTERM while it has a target; timeout makes it one that does end.
    argv = ["timeout", "-k", "1", str(_PROGRAMS), "env", f"TGT_IPC_SOCKET={socket}", "tgtd", "--foreground"]
    daemon = lab.spawn(lab.server, argv, package="coreutils", log="tgtd.log")
    _within(10, lambda: socket.with_name("tgt.0").exists() or not daemon.running, "tgtd")
    target = ("--mode", "target", "--tid", "1")
    for line in (
        ("--op", "new", *target, "--targetname", TARGET),
        ("--op", "update", *target, "--name", "HeaderDigest", "--value", "CRC32C"),
        ("--op", "update", *target, "--name", "DataDigest", "--value", "CRC32C"),
        ("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "--backing-store", str(disk)),
        ("--op", "bind", *target, "--initiator-address", "ALL"),
    ):
        argv = ["tgtadm", "--lld", "iscsi", *line]
        proc.run(argv, package="tgt", env={"TGT_IPC_SOCKET": str(socket)}, timeout=20)


def nfs(lab: Lab) -> None:
    """Serve an empty directory in memory as EXPORT by NFS 4 in the server's namespace; raises Unavailable."""
    directory, log = lab.directory / "nfs", lab.directory / "ganesha.text"
    directory.mkdir(exist_ok=True)
    configuration = lab.directory / "ganesha.conf"
    configuration.write_text(_GANESHA.format(directory=directory, export=EXPORT))
    argv = ["ganesha.nfsd", "-F", "-L", str(log), "-f", str(configuration), "-p", str(directory / "pid")]
    daemon = lab.spawn(lab.server, argv, package="nfs-ganesha nfs-ganesha-mem", log="ganesha.log")
    started = "NFS SERVER INITIALIZED"
    _within(20, lambda: (log.exists() and started in log.read_text()) or not daemon.running, "ganesha.nfsd")
    if not daemon.running:
        lines = (
            [line for line in log.read_text().splitlines() if ":CRIT" in line or ":FATAL" in line]
            if log.exists()
            else []
        )
        raise Unavailable("ganesha.nfsd", f"did not start: {(lines or [daemon.text])[-1]}")


def _within(seconds: int, done: Callable[[], bool], subject: str) -> None:
    for _ in range(seconds * 10):
        if done():
            return
        time.sleep(0.1)
    raise Unavailable(subject, f"was not ready within {seconds} s", "look at the machine's load and try again")
