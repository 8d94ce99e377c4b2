"""Which keys of the settings file do not go together, as no single value shows; pure. It may have other mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision import link
from provision.server_names import is_address, is_receiver, served_name

API_PORT, PUBLIC_PORT = 8443, 443
"""The ports of the API, and of a proxy in front of it, when the file names none."""

Objection = tuple[tuple[str | int, ...], str, str]
"""Where in the file it is, the fact, and the remedy."""


def objections(raw: dict[str, Any]) -> Iterator[Objection]:
    """All of them."""
    if "state" in raw:
        yield ("state",), "is not a key of this file", "use --state or $PROVISION_STATE"
    listen = raw.get("listen")
    blocks = [block if isinstance(block, dict) else {} for block in listen] if isinstance(listen, list) else []
    for key in ("network", "interface"):
        values = [block.get(key) for block in blocks]
        for index, value in enumerate(values):
            if isinstance(value, str) and value in values[:index]:
                yield ("listen", index, key), f"'{value}' is served twice", "remove one"
    for index, block in enumerate(blocks):
        match block.get("tftp_ports"):
            case [int(first), int(last)] if first > last:
                yield ("listen", index, "tftp_ports"), "is not a range", "write the lower port first"
    webhooks = raw.get("webhook")
    yield from _of_webhooks([one for one in webhooks if isinstance(one, dict)] if isinstance(webhooks, list) else [])
    if isinstance(api := raw.get("api"), dict):
        yield from _of_api(api, [block.get("http_port", 80) for block in blocks])


def _of_webhooks(blocks: list[dict[str, Any]]) -> Iterator[Objection]:
    """Those of every `[[webhook]]`."""
    names = [block.get("name") for block in blocks]
    for index, block in enumerate(blocks):
        name, url = names[index], block.get("url")
        if isinstance(name, str) and name in names[:index]:
            yield ("webhook", index, "name"), f"'{name}' is the name of another webhook, too", "rename one"
        if isinstance(url, str) and not is_receiver(url):
            remedy = "write https://HOST/PATH without a password, or http:// and a loopback address"
            yield ("webhook", index, "url"), "is not the URL of a receiver", remedy


def _of_api(api: dict[str, Any], taken: list[Any]) -> Iterator[Objection]:
    """Those of `[api]`; `taken` are the ports of boot listeners."""
    own, proxy = api.get("port", API_PORT), api.get("proxy")
    if own in taken:
        yield ("api", "port"), "is the port of a boot listener", "choose another one"
    if isinstance(proxy, dict) and proxy.get("port") in (own, *taken):
        yield ("api", "proxy", "port"), "is the port of another listener", "choose another one"
    yield from _of_public_name(proxy) if isinstance(proxy, dict) else ()
    yield from _of_own_names(api, own)
    for one, other in (("firmware_certificate", "firmware_key"), ("firmware_key", "firmware_certificate")):
        if one in api and other not in api:
            yield ("api", one), f"has no '{other}' beside it", "give both, or neither"


def _of_own_names(api: dict[str, Any], port: Any) -> Iterator[Objection]:
    """Those of the names that links have when the API hears on every address; an address that it has goes first."""
    names = api.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return
    if str(api.get("address")) not in ("0.0.0.0", "::") or any(is_address(name) for name in names):
        return
    if names and (over := link.excess(link.https_url(names[0].removesuffix("."), port))):
        remedy = "add the server's IP address to them, or write a shorter name first"
        yield (
            ("api", "names"),
            f"make links longer by {over} than the {link.MOST_CHARACTERS} characters that BMCs take",
            remedy,
        )


def _of_public_name(proxy: dict[str, Any]) -> Iterator[Objection]:
    """Those of what links are to name: no BMC takes a longer URL."""
    name, port = proxy.get("public_name"), proxy.get("public_port", PUBLIC_PORT)
    if name is None and "public_port" in proxy:
        yield ("api", "proxy", "public_port"), "has no 'public_name' beside it", "give both, or neither"
    if not isinstance(name, str):
        return
    try:
        name = served_name(name)
    except ValueError:
        return  # which is said by itself
    if over := link.excess(link.https_url(name, port)):
        fact = f"makes links longer by {over} than the {link.MOST_CHARACTERS} characters that BMCs take"
        yield ("api", "proxy", "public_name"), fact, "give the proxy's IP address, or a shorter name"
