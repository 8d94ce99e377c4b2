"""What may happen to a store: killed, full, read-only, damaged. It opens clean, or says why not on one line."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from provision.boot import Medium
from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import dialect
from provision.store.store import Store
from tests.helpers import paths
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, credential, host, inventory, mac, open_store
from tests.unit.store.test_migrations import killed_after

A = inventory(host(1), host(2), host(3))
B = inventory(host(2, interfaces=host(1).interfaces), host(3, labels={"a": "b"}), host(4), domain="example.net")


def prepare(state: Path) -> None:
    state.mkdir()
    with open_store(state) as store:
        store.hosts.apply(A, ROOT)
        store.credentials.set("n1", credential(b"one"), NOW)
        store.windows.open("n2", 10, 1, NOW, ROOT)
        store.boots.begin("n2", mac(2), Medium.PXE, "mgmt", NOW, "r")


def apply(store: Store) -> None:
    store.hosts.apply(B, ROOT)


def check_apply(store: Store) -> str:
    found = store.hosts.inventory()
    assert found in (A, B)
    macs = {m: h.name for h in found.hosts for m in h.macs}
    with store.database.read() as tx:
        rows = tx.connection.exec_driver_sql("SELECT mac, name FROM macs JOIN hosts ON hosts.id = macs.host_id")
        assert {row[0]: row[1] for row in rows} == macs
    infos = [(info.host, info.version) for info in store.credentials.infos()]
    assert infos == ([("n1", 1)] if found == A else [])
    return "old" if found == A else "new"


def use_window(store: Store) -> None:
    store.boots.charge(store.boots.of("n2")[0], NOW)


def check_window(store: Store) -> str:
    window, boot = store.windows.of("n2"), store.boots.of("n2")[0]
    assert window is not None and window.used == (boot.charged is not None) == (boot.window is not None)
    # Either way the boot can go on, and no second one can.
    assert store.boots.charge(boot, NOW)
    other = store.boots.begin("n2", mac(2), Medium.PXE, "mgmt", NOW, "other")
    assert store.boots.charge(other, NOW) is None
    return "new" if boot.charged else "old"


def set_credential(store: Store) -> None:
    store.credentials.set("n1", credential(b"two"), NOW)


def check_credential(store: Store) -> str:
    (opened,) = store.credentials.open("n1", ["tls"])
    assert (opened.version, opened.secret) in ((1, Secret(b"one")), (2, Secret(b"two")))
    return "old" if opened.version == 1 else "new"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("act", "check"),
    [(apply, check_apply), (use_window, check_window), (set_credential, check_credential)],
    ids=["apply", "window", "credential"],
)
def test_killed_at_every_point(tmp_path: Path, act: Callable[[Store], None], check: Callable[[Store], str]) -> None:
    prepare(tmp_path / "origin")
    seen, point, running = set(), 0, True
    while running:
        point += 1
        state = tmp_path / str(point)
        shutil.copytree(tmp_path / "origin", state)

        def action(state: Path = state) -> None:
            act(open_store(state))

        running = killed_after(point, action)
        with open_store(state) as store:
            seen.add(check(store))
    assert seen == {"old", "new"}


LOOP = """
    import sys
    from pathlib import Path
    from tests.helpers.principals import ROOT
    from tests.helpers.store_samples import *
    from tests.unit.store.test_database import A, B
    store = open_store(Path(sys.argv[1]))
    for number in range(100000):
        store.hosts.apply(A if number % 2 else B, ROOT)
        store.credentials.set("n3", credential(b"%d" % number), NOW)
        print(number, flush=True)
"""


@pytest.mark.integration
def test_killed_at_random(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    for seed in range(4):
        command = [sys.executable, "-c", textwrap.dedent(LOOP), str(tmp_path / "state")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=paths.ROOT)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        last = int((process.stdout.read().split() or [first])[-1])
        process.wait()
        with open_store(tmp_path / "state") as store:
            assert store.hosts.inventory() in (A, B)
            version = store.credentials.infos("n3")[0].version
            secret = int(store.credentials.open("n3", ["tls"])[0].secret.reveal())
            assert secret in (last, last + 1), "what was reported as done is done"
            assert version > secret


def test_damaged_database(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    path = tmp_path / "state" / "provision.db"
    content = path.read_bytes()
    for damaged in (b"not a database" * 400, content[:5000], content[:4096] + b"\xff" * 4096 + content[8192:]):
        path.write_bytes(damaged)
        with pytest.raises(Unavailable, match=r"damaged.*backup") as caught:
            open_store(tmp_path / "state")
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        assert path.read_bytes() == damaged, "a damaged database is left as it is"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE hosts SET document = '{\"canary\": 1}' WHERE name = 'n1'",
        "UPDATE hosts SET document = replace(document, '52:54:', '52:55:') WHERE name = 'n1'",
        "UPDATE site SET document = replace(document, 'example.org', 'canary.org')",
        "UPDATE site SET revision = 'canary'",
    ],
)
def test_damaged_document(tmp_path: Path, damage: str) -> None:
    prepare(tmp_path / "state")
    raw = sqlite3.connect(tmp_path / "state" / "provision.db")
    assert raw.execute(damage).rowcount == 1
    raw.commit()
    raw.close()
    with pytest.raises(Unavailable, match="document that is damaged") as caught:
        open_store(tmp_path / "state")
    assert "canary" not in str(caught.value)


def test_no_state_directory(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory"):
        dialect.open_file(tmp_path / "missing" / "provision.db")


def test_database_errors_show_no_values(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    with open_store(tmp_path / "state") as store:
        raw = sqlite3.connect(tmp_path / "state" / "provision.db")
        raw.execute("DROP TABLE credentials")
        raw.commit()
        raw.close()
        with pytest.raises(Unavailable) as caught:
            store.credentials.set("n1", credential(b"canary"), NOW)
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
        assert "canary" not in str(caught.value) and "\n" not in str(caught.value)


def in_namespace(setup: str, script: str, directory: Path) -> None:
    """Run Python in a mount namespace of its own, after `setup` (shell); it ends with the child."""
    command = f'set -e; {setup}; exec "$0" -c "$1" "$2"'
    argv = ["unshare", "-m", "sh", "-c", command, sys.executable, textwrap.dedent(script), str(directory)]
    done = subprocess.run(argv, cwd=paths.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


FULL = """
    import os, sys
    from pathlib import Path
    import pytest
    from provision.errors import Unavailable
    from provision.store.audit import Audit
    from provision.store.keys import create_key, load_key
    from tests.helpers.principals import ROOT
    from tests.helpers.store_samples import *
    state = Path(sys.argv[1])
    small, large = inventory(host(1)), inventory(*(host(i) for i in range(1, 4000)))
    store = open_store(state)
    store.hosts.apply(small, ROOT)
    store.credentials.set("n1", credential(b"one"), NOW)
    audit = Audit(state / "audit.log", load_key(state, {}))
    audit.record({"event": "before"}, durable=True)

    ballast = os.open(state / "ballast", os.O_WRONLY | os.O_CREAT)
    os.write(ballast, bytes(200000))
    with pytest.raises(Unavailable, match="provision.db: cannot be written: the disk is full; make room"):
        store.hosts.apply(large, ROOT)
    assert store.hosts.inventory() == small

    with pytest.raises(OSError):
        while True:
            os.write(ballast, bytes(512))
    count = 0
    with pytest.raises(Unavailable, match="audit log cannot be written .No space left on device.; make room"):
        while count < 10000:
            audit.record({"event": "full", "subject": "x" * 400, "count": count})
            count += 1
    with pytest.raises(Unavailable, match="disk is full"):
        for number in range(10000):
            store.credentials.set("n1", credential(bytes(4000)), NOW)
    other = state / "other"
    other.mkdir(exist_ok=True)
    with pytest.raises(Unavailable, match="No space left"):
        create_key(other)
    assert not (other / "key").exists()

    os.ftruncate(ballast, 0)
    audit.record({"event": "after"}, durable=True)
    assert audit.verify().ok, audit.verify()
    assert [entry["event"] for entry in audit.entries()][:1] == ["before"]
    assert audit.entries()[-1]["event"] == "after"
    audit.close()
    store.credentials.set("n1", credential(b"after"), NOW)
    store.close()
    with open_store(state) as store:
        assert store.hosts.inventory() == small
        assert store.credentials.open("n1", ["tls"])[0].secret.reveal() == b"after"
"""


@pytest.mark.integration
def test_disk_full(tmp_path: Path) -> None:
    in_namespace(f"mount -t tmpfs -o size=844k provision-test {tmp_path}", FULL, tmp_path)


READ_ONLY = """
    import subprocess, sys
    from pathlib import Path
    import pytest
    from provision.boot import Medium
    from provision.errors import Unavailable
    from provision.store.audit import Audit
    from provision.store.keys import create_key, load_key
    from provision.store.lock import StateLock
    from tests.helpers.principals import ROOT
    from tests.helpers.store_samples import *
    state = Path(sys.argv[1])
    store = open_store(state)
    audit = Audit(state / "audit.log", load_key(state, {}))
    audit.record({"event": "before"})
    store.hosts.apply(inventory(host(1)), ROOT)
    store.windows.open("n1", 10, 1, NOW, ROOT)
    boot = store.boots.begin("n1", mac(1), Medium.PXE, "mgmt", NOW, "r")
    store.close()
    audit.close()
    subprocess.run(["mount", "-o", "remount,ro,bind", str(state)], check=True)
    with pytest.raises(Unavailable, match="cannot be opened .Read-only file system."):
        open_store(state)
    with pytest.raises(Unavailable, match="Read-only file system"):
        StateLock(state)
    with pytest.raises(Unavailable, match="audit.log: cannot be opened .Read-only file system."):
        Audit(state / "audit.log", load_key(state, {}))
    with pytest.raises(Unavailable, match="Read-only file system"):
        create_key(state / "empty")
    subprocess.run(["mount", "-o", "remount,rw,bind", str(state)], check=True)
    with open_store(state) as store:
        assert store.hosts.inventory() == inventory(host(1)) and store.boots.charge(boot, NOW)
"""


@pytest.mark.integration
def test_read_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    in_namespace(f"mount --bind {tmp_path} {tmp_path}", READ_ONLY, tmp_path)


def test_turned_read_only_while_running(tmp_path: Path) -> None:
    prepare(tmp_path / "state")
    with open_store(tmp_path / "state") as store:
        boot = store.boots.of("n2")[0]

        # What SQLite reports when the file system went read-only under it, without needing a broken disk.
        def deny(connection: Any, _record: object, _proxy: object) -> None:
            connection.execute("PRAGMA query_only = ON")

        event.listen(store.database.engine, "checkout", deny)
        with pytest.raises(Unavailable, match=r"cannot be written: it is read-only"):
            store.boots.charge(boot, NOW)
        with pytest.raises(Unavailable, match="read-only"):
            store.hosts.apply(B, ROOT)
        store.sightings.seen(mac(9), None, "mgmt", NOW)
        assert [seen.mac for seen in store.sightings.all()] == [mac(9)]
        window = store.windows.of("n2")
        assert window is not None and window.used == 0 and store.hosts.inventory() == A
