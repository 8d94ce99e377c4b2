"""Compromised hosts at rest: a content that others may have stays known, whatever happens to the database's rows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provision import link as secret_links
from provision.boot import Medium
from provision.errors import NotFound, Unavailable
from provision.principal import PrincipalRole
from provision.secret import Secret
from provision.store.compromises import Content
from provision.store.links import Wanted
from provision.store.store import Store
from provision.token import Token
from tests.helpers.principals import ROOT
from tests.helpers.store_samples import NOW, credential, host, inventory, open_store, raw


def declare(store: Store, *names: str) -> None:
    """Declare n1 compromised, with everything that it has."""
    opened = store.credentials.open("n1", names)
    contents = [Content(one.name, one.version, one.secret) for one in opened]
    links, tokens = store.links.standing("n1"), [token.name for token, _ in store.tokens.all()]
    endings = [
        store.windows.closing,
        lambda tx, host: store.links.revoking(tx, links),
        lambda tx, host: store.tokens.removing(tx, tokens),
    ]
    store.compromises.declare("n1", contents, endings, NOW, ROOT)


def exposed(store: Store) -> tuple[str, ...]:
    return tuple(store.snapshot.exposed.get("n1", ()))


def test_only_another_content_takes_the_mark_away(store: Store, tmp_path: Path) -> None:
    store.credentials.set("n1", credential(b"first"), NOW)
    store.credentials.set("n2", credential(b"first"), NOW)
    assert exposed(store) == ()
    declare(store, "tls")
    assert exposed(store) == ("tls",) and "n2" not in store.snapshot.exposed
    store.credentials.set("n1", credential(b"first"), NOW)
    assert exposed(store) == ("tls",), "the same content as another version"
    store.close()
    with open_store(tmp_path) as again:
        assert exposed(again) == ("tls",)
        again.credentials.set("n1", credential(b"second"), NOW)
        assert exposed(again) == ()
        again.credentials.set("n1", credential(b"first"), NOW)
        assert exposed(again) == ("tls",), "it comes back, and so does the mark"
        again.credentials.set("n1", credential(b"first", "other"), NOW)
        assert exposed(again) == ("other", "tls"), "under another name, too"
        again.credentials.remove("n1", "tls")
        assert exposed(again) == ("other",)
        again.credentials.set_all([("n1", credential(b"x", "other")), ("n1", credential(b"first"))], NOW)
        assert exposed(again) == ("tls",)


def test_all_of_it_or_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.credentials.set("n1", credential(b"first"), NOW)
    store.windows.open("n1", 10, 1, NOW, ROOT)
    store.links.make("n1", secret_links.new(), Wanted(Medium.ISO, "i", "s", "c", 10, 1), NOW, ROOT)
    token = Token("ci", PrincipalRole.OPERATOR, (), NOW, NOW + timedelta(days=1), "root")
    store.tokens.add(Secret(b"t"), token)
    before = store.snapshot
    with monkeypatch.context() as broken:
        broken.setattr(store.tokens, "removing", lambda tx, names: tx.connection.exec_driver_sql("not SQL"))
        with pytest.raises(Unavailable):
            declare(store, "tls")
    window = store.windows.of("n1")
    assert store.snapshot is before and window is not None and not window.closed
    assert store.tokens.holds(token) and not store.links.all()[0].revoked
    declare(store, "tls")
    window = store.windows.of("n1")
    assert window is not None and window.closed and store.links.all()[0].revoked and not store.tokens.holds(token)


def test_every_declaration_withdraws_what_was_made_before(store: Store, tmp_path: Path) -> None:
    seen = {store.snapshot.revisions["n1"]}
    other = store.snapshot.revisions["n2"]
    for number in (2, 3):
        declare(store)
        seen.add(store.snapshot.revisions["n1"])
        assert len(seen) == number
    store.close()
    with open_store(tmp_path) as again:
        assert again.snapshot.revisions["n1"] in seen and again.snapshot.revisions["n2"] == other
        assert again.snapshot.compromised["n1"].number == 2
        again.hosts.apply(inventory(host(1), host(2), domain="example.net"), ROOT)
        assert again.snapshot.compromised["n1"].declared == NOW


def test_a_host_that_is_removed_is_another_when_it_comes_back(store: Store) -> None:
    store.credentials.set("n1", credential(b"first"), NOW)
    declare(store, "tls")
    store.hosts.apply(inventory(host(2)), ROOT)
    with pytest.raises(NotFound):
        declare(store)
    store.hosts.apply(inventory(host(1), host(2)), ROOT)
    assert "n1" not in store.snapshot.compromised


@pytest.mark.parametrize("table", ["compromises", "exposures"])
def test_rows_that_were_deleted_are_missed(store: Store, tmp_path: Path, table: str) -> None:
    store.credentials.set("n1", credential(b"first"), NOW)
    declare(store, "tls")
    store.close()
    raw(tmp_path, f"DELETE FROM {table}")
    with open_store(tmp_path) as again:
        assert "did not write" in again.database.distrust


def test_marks_survive_that_the_database_is_accepted(store: Store) -> None:
    store.credentials.set("n1", credential(b"first"), NOW)
    declare(store, "tls")
    store.accept()
    assert exposed(store) == ("tls",)
    store.credentials.set("n1", credential(b"first"), NOW)
    assert exposed(store) == ("tls",)


def test_no_content_is_in_the_marks(store: Store, tmp_path: Path) -> None:
    store.credentials.set("n1", credential(b"canary-content"), NOW)
    declare(store, "tls")
    assert not [path.name for path in tmp_path.iterdir() if b"canary-content" in path.read_bytes()]
    assert "canary" not in repr(store.snapshot.compromised)
