"""Images over the API: what there is, and imports and verifications, which are operations."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.fixtures.media import image_archive, kernel
from tests.helpers.site_fixture import Site, touch
from tests.unit.web.operator.test_app import call, data


@pytest.fixture
def app(here: Site) -> Guard:
    return operator_app.create(here.service, by_peer_credentials)


def begun(app: Guard, path: str, body: Any = None) -> dict[str, Any]:
    """An operation that was begun, at its end."""
    reply = call(app, "POST", path, body)
    assert reply.status == 202, reply
    operation = json.loads(reply.body)
    assert reply.headers["location"] == f"/v1/operations/{operation['id']}"
    ended = data(app, "GET", f"{reply.headers['location']}?wait=60")
    assert isinstance(ended, dict) and ended["state"] in ("done", "failed")
    return ended


def test_images_are_listed_and_verified(here: Site, app: Guard) -> None:
    (row,) = data(app, "GET", "/v1/images")
    assert (row["name"], row["id"]) == ("base", here.base.id)
    whole = begun(app, "/v1/images/base/verify")
    assert (whole["kind"], whole["host"], whole["image"]) == ("verify", None, "base")
    assert whole["result"] == row and whole["progress"] == {"stage": "verifying", "fraction": 1.0}
    kernel_file = here.base.kernel.path
    kernel_file.write_bytes(bytes(here.base.kernel.size))
    touch(kernel_file)
    problem = begun(app, "/v1/images/base/verify")["problem"]
    assert (problem["status"], problem["subject"]) == (503, "base image base: kernel")
    assert "kernel: is damaged" in data(app, "GET", "/v1/images")[0]["problem"]
    assert call(app, "POST", "/v1/images/other/verify").problem["status"] == 404


def test_an_image_without_a_file_is_listed_with_that(here: Site, app: Guard) -> None:
    here.base.iso.path.unlink()
    assert "base.iso" in data(app, "GET", "/v1/images")[0]["problem"]


@pytest.mark.integration
def test_an_import_tells_how_far_it_is_and_leaves_no_upload(here: Site, app: Guard) -> None:
    ids = [data(app, "POST", "/v1/uploads", part)["id"] for part in (kernel(), image_archive())]
    body = {"kernel": ids[0], "initrds": [ids[1]], "kernel_arguments": ["quiet"], "seed_size": 65536}
    ended = begun(app, "/v1/images/new", body)
    assert (ended["kind"], ended["image"], ended["problem"]) == ("import", "new", None)
    assert ended["progress"]["fraction"] > 0.9
    assert (ended["result"]["name"], ended["result"]["kernel_arguments"]) == ("new", ["quiet"])
    assert list((here.state / "tmp").iterdir()) == []
    assert call(app, "POST", "/v1/images/new", body).problem["fact"] == "2 of its files were not uploaded"
    assert call(app, "DELETE", "/v1/images/new").status == 204
    assert not (here.state / "bases" / ended["result"]["id"]).exists()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("BAD", {}, "a name in its path"),
        ("new", {"kernel": "../../key"}, "body.kernel is missing or not of the right form"),
        ("new", {"kernel": "0" * 32}, "not uploaded"),
        ("new", {"initrds": ["/etc/passwd"]}, "body.initrds is missing or not of the right form"),
    ],
)
def test_a_wrong_import_is_a_problem(here: Site, app: Guard, name: str, change: dict[str, Any], said: str) -> None:
    ids = [data(app, "POST", "/v1/uploads", part)["id"] for part in (b"k", b"i", b"l")]
    body = {"kernel": ids[0], "initrds": [ids[1]]} | change
    assert said in call(app, "POST", f"/v1/images/{name}", body).problem["detail"]
    assert (here.state / "key").exists()
    loader = {"kernel": ids[0], "initrds": [ids[1]], "loaders": {"../evil": ids[2]}}
    data(app, "POST", "/v1/uploads", b"x")
    assert call(app, "POST", "/v1/images/new", loader).problem["status"] == 422
    assert not (here.state / "evil").exists()


def test_an_upload_that_nobody_imports_is_kept_for_a_day(here: Site, app: Guard) -> None:
    old, new = (data(app, "POST", "/v1/uploads", part)["id"] for part in (b"old", b"new"))
    (here.state / "tmp" / "a-directory").mkdir()
    for name, hours in ((old, 25), ("a-directory", 25), (new, 23)):
        written = here.clock().timestamp() - hours * 3600
        os.utime(here.state / "tmp" / name, (written, written))
    here.service.images.forget_old()
    assert {path.name for path in (here.state / "tmp").iterdir()} == {new, "a-directory"}


@pytest.mark.integration
def test_the_same_image_again_is_the_same_and_no_act(here: Site, app: Guard) -> None:
    results = []
    for name in ("new", "new", "other"):
        ids = [data(app, "POST", "/v1/uploads", part)["id"] for part in (kernel(), image_archive())]
        results.append(begun(app, f"/v1/images/{name}", {"kernel": ids[0], "initrds": [ids[1]]}))
    assert results[0]["result"] == results[1]["result"]
    assert results[2]["problem"]["fact"] == "this content is already imported as 'new'"
    assert [entry["image"] for entry in here.audit("image-imported")].count("new") == 1
