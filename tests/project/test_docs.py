"""The documentation says what the program does: nothing is missing, and nothing is invented."""

from __future__ import annotations

import ast
import importlib
import re
import socket
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from pydantic_core import PydanticUndefined
from starlette.routing import Route
from typer.main import get_command

from provision import boot_paths, clock, proc, settings
from provision.boot_paths import Loader, Place
from provision.document import Source
from provision.errors import Exit
from provision.inventory.parse import parse
from provision.media import loaders
from provision.media.loaders import SERVED
from provision.service.service import Service
from provision.settings import EVENTS, RULES, Api, Kerberos, Listen, Metrics, Proxy, Settings, Tpm, Webhook
from provision.site import SitePolicy
from provision.store.chain import RECOVERED, REMOVED, SEGMENT
from provision.store.keys import create_key
from provision.store.pending import BEGUN, FAILED
from provision.ticket import Grant
from provision.web import boot_app
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from provision.web.pages import app as pages_app
from tests.helpers.documents import Document, codes
from tests.helpers.netns import isolated, lan, sh
from tests.helpers.paths import ROOT

# By its name: the package has a function of the same name.
MAIN = importlib.import_module("provision.cli.main")
DEPLOYMENT = Document.read("docs/deployment.md")
README = Document.read("README.md")
TEXTS = (
    "README.md",
    "docs/deployment.md",
    "docs/design.md",
    "CHANGELOG.md",
    "docs/media-format.md",
    "docs/host-image.md",
    "docs/releasing.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
SAMPLES = {
    "{base}": "a" * 64,
    "{number}": "0",
    "{revision}": "b" * 64,
    "{mac}": "52-54-00-00-00-01",
    "{uuid}": "4c4c4544-0042-3510-8054-b4c04f4d3132",
}


def sources() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "provision").rglob("*.py"))}


@pytest.fixture(scope="module")
def root() -> Any:
    return get_command(MAIN.app)


def leaves(command: Any, name: str = "provision") -> dict[str, Any]:
    """Every command that does something, by its whole name; and the program itself."""
    below = getattr(command, "commands", {})
    found = {} if below and name != "provision" else {name: command}
    for word, inner in below.items():
        found |= leaves(inner, f"{name} {word}")
    return found


def options(command: Any) -> set[str]:
    return {o for p in command.params for o in p.opts if o.startswith("-")} - {"--help", "-h"}


def parse_line(root: Any, words: list[str]) -> None:
    """Let the command line's own parser read the words; raises its usage error."""
    command, words = root, [w for w in words if w != "--json"]
    while True:
        context = command.make_context("provision", list(words))
        if not hasattr(command, "commands"):
            return
        words = words[len(words) - len(context.args) - 1 :]  # the subcommand, and what is left for it
        _, command, words = command.resolve_command(context, words)


def test_every_command_and_option_is_described(root: Any) -> None:
    rows = DEPLOYMENT.section("Commands").table()
    found = leaves(root)
    assert set(rows) == set(found)
    assert {name: set(codes(row[1])) for name, row in rows.items()} == {n: options(c) for n, c in found.items()}


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_line_is_real(root: Any, name: str) -> None:
    document = Document.read(name)
    # In a sentence a command may be named without its arguments.
    mentions = [words for words in document.spans() if " ".join(["provision", *words]) not in leaves(root)]
    for words in [*document.shell_lines(), *mentions]:
        try:
            parse_line(root, words)
        except Exception as error:
            raise AssertionError(f"{name}: provision {' '.join(words)}: {error}") from error


def test_a_wrong_command_line_is_seen(root: Any) -> None:
    assert len(Document.read("README.md").shell_lines()) > 8
    for line in ("window hv1 --hours 3", "frobnicate", "iso a b", "credential set x y", "host show"):
        [words] = Document("x", f"```sh\nprovision {line}\n```\n").shell_lines()
        with pytest.raises(Exception, match=r"(?i)no such|unexpected|missing"):
            parse_line(root, words)


def test_every_setting_is_described() -> None:
    rows = DEPLOYMENT.section("Settings").table()
    fields = {name: field for name, field in Settings.model_fields.items() if name != "state"}
    fields |= {f"listen.{name}": field for name, field in Listen.model_fields.items()}
    fields |= {f"api.{name}": field for name, field in Api.model_fields.items()}
    fields |= {f"api.kerberos.{name}": field for name, field in Kerberos.model_fields.items()}
    fields |= {f"api.kerberos.role.{name}": field for name, field in Grant.model_fields.items()}
    fields |= {f"api.proxy.{name}": field for name, field in Proxy.model_fields.items()}
    fields |= {f"tpm.{name}": field for name, field in Tpm.model_fields.items()}
    fields |= {f"metrics.{name}": field for name, field in Metrics.model_fields.items()}
    fields |= {f"webhook.{name}": field for name, field in Webhook.model_fields.items()}
    assert set(rows) == set(fields)
    for name, field in fields.items():
        assert rows[name][1].strip("`") == toml(field.default), name


def toml(value: Any) -> str:
    """A default as the table writes it."""
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def test_every_example_of_settings_is_taken() -> None:
    blocks = DEPLOYMENT.blocks("toml") + Document.read("README.md").blocks("toml")
    assert len(blocks) > 3
    for block in blocks:
        settings.parse(block.encode(), "docs", Path("/nowhere"))


def routes(guard: Any) -> set[tuple[str, str]]:
    app = guard.app
    return {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if not (method == "HEAD" and route.path.endswith("openapi.json"))
    }


def described_routes(heading: str) -> set[tuple[str, str]]:
    rows = DEPLOYMENT.section(heading).tables()[0]
    return {(method.strip(), codes(row[1])[0]) for row in rows for method in row[0].split(",")}


def test_every_route_is_described() -> None:
    nothing: Any = None
    assert described_routes("Boot routes") == routes(boot_app.create(nothing, nothing))
    assert described_routes("Operator routes") == routes(operator_app.create(nothing, by_peer_credentials))
    assert described_routes("Page routes") == routes(pages_app.create(MagicMock(), by_peer_credentials))


def test_every_tftp_path_is_described() -> None:
    rows = DEPLOYMENT.section("TFTP paths").table()
    plain = {name for name in rows if "/" not in name}
    assert plain == set(SERVED)
    reached = set()
    for name in set(rows) - plain:
        for placeholder, sample in SAMPLES.items():
            name = name.replace(placeholder, sample)
        request = boot_paths.parse(Place.TFTP, name)
        assert request is not None, name
        reached.add(type(request))
    assert reached == boot_paths.kinds(Place.TFTP) - {Loader}


def test_every_denial_is_described() -> None:
    rules = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                position = {"Denied": 3, "Denial": 0, "_denial": 0}.get(node.func.id)
                named = [k.value for k in node.keywords if k.arg == "rule"]
                given = named or (node.args[position : position + 1] if position is not None else [])
                rules |= {str(a.value) for a in given if isinstance(a, ast.Constant)}
    assert set(DEPLOYMENT.section("Troubleshooting: what a console shows").table(0)) == rules - {""}
    assert {"secrets-on-general", "phone-home", "expired-release", "unknown-host"} < rules


def test_every_start_up_refusal_is_described() -> None:
    assert tuple(DEPLOYMENT.section("Start-up refusals").table()) == RULES


def test_every_exit_code_is_described() -> None:
    rows = DEPLOYMENT.section("Exit codes").tables()[0]
    assert {(int(row[0]), "".join(codes(row[1]))) for row in rows} == {(int(e), e.name) for e in Exit} | {(130, "")}
    assert all(re.search(rf"\b{int(code)} \w", MAIN.EPILOG) for code in Exit), "the help has them too"


def test_every_variable_is_described() -> None:
    read = re.compile(r"""environ(?:\.get\(|\[)["'](\w+)["']""")
    found = {name for path in sources() for name in read.findall(path.read_text())} | set(proc._KEPT)
    assert set(DEPLOYMENT.section("Environment").table()) == found


def test_every_event_of_the_audit_log_is_described() -> None:
    noted = re.compile(r"""(?:\.(?:note|act)\(\s*|\bact\([\w.]+, [\w.]+, |"event": )"([a-z-]+)\"""")
    found = {name for path in sources() for name in noted.findall(path.read_text())}
    found |= {RECOVERED, SEGMENT, REMOVED, BEGUN, FAILED}
    assert set(DEPLOYMENT.section("The audit log").table()) == found


def test_every_event_of_webhooks_is_described() -> None:
    text = DEPLOYMENT.section("Webhooks").text.partition("The names that `events` takes")[2].partition(":")[2]
    assert tuple(codes(text)) == EVENTS
    log = set(DEPLOYMENT.section("The audit log").table())
    assert set(EVENTS) - {"released", "denied", "unknown-machine", "fetched-while-up"} <= log


def test_every_package_is_named() -> None:
    """The line that installs the server's tools has every package whose absence the program would complain about."""
    named = re.compile(r"""(?:package=|_PACKAGE = )"([a-z0-9-]+)\"""")
    files = [path for path in sources() if not {"demo", "lab", "trial"} & set(path.parts)]
    wanted = {name for path in files for name in named.findall(path.read_text())}
    wanted |= {*loaders._PACKAGES.values(), "grub-efi-amd64-signed", "iproute2", "nftables"}
    given = DEPLOYMENT.section("Installing the server").blocks("sh")[0].replace("\\\n", " ").split()
    assert wanted <= set(given)
    known = (ROOT / "tools" / "need").read_text().split()
    assert wanted - {word.strip('"') for word in known} == set(), "the tests install them too"


def test_every_boot_loader_is_described() -> None:
    """What a directory for --loaders has in it, and where Debian has the same."""
    rows = DEPLOYMENT.section("Boot loaders").table()
    assert {name: Path(*codes(row[2])) for name, row in rows.items()} == loaders.DEBIAN


def test_every_path_of_the_state_directory_is_described(tmp_path: Path) -> None:
    (tmp_path / "provision.toml").write_text(settings.TEMPLATE)
    create_key(tmp_path)
    service = Service.open(settings.load(tmp_path, tmp_path / "provision.toml"))
    try:
        names = {path.name + ("/" if path.is_dir() else "") for path in tmp_path.iterdir()}
    finally:
        service.close()
    rows = DEPLOYMENT.section("Installing the server").table()
    assert names <= {code for row in rows.values() for cell in row for code in codes(cell)}
    later = {"operator.sock", "bases/", "audit.pending", "tls/", "webhooks/", "kerberos.replays"}
    assert set(rows) - names <= later, "these come later"


def test_defaults_of_windows_are_as_described() -> None:
    policy = SitePolicy()
    text = DEPLOYMENT.section("Windows").text
    assert f"{policy.window_minutes} minutes and one boot" in text
    assert policy.window_boots == 1


def test_the_install_matrix_is_complete() -> None:
    rows = DEPLOYMENT.section("The install matrix").tables()[0]
    cells = {(row[0].lower(), row[1].lower(), row[2] == "none") for row in rows}
    wanted = {("oem", a, False) for a in ("dhcp", "static")} | {
        ("it", a, s) for a in ("dhcp", "static") for s in (False, True)
    }
    assert cells == wanted
    assert all(codes(row[6]) for row in rows), "each cell has its commands"
    assert ["image", "build"] in [words[:2] for words in DEPLOYMENT.section("The install matrix").shell_lines()]


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_somewhere(name: str) -> None:
    text = Document.read(name).text
    headings = {p: anchors(p) for p in (*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"))}
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        path = ((ROOT / name).parent / file).resolve() if file else ROOT / name
        assert path.exists(), target
        assert not anchor or anchor in headings[path], target


def test_the_readme_leads_to_every_page() -> None:
    text = Document.read("README.md").section("Read on").text
    assert set(re.findall(r"\((docs/[^)]+)\)", text)) == {f"docs/{path.name}" for path in (ROOT / "docs").iterdir()}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as web views of Markdown make them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_target_of_make_is_described() -> None:
    text = Document.read("CONTRIBUTING.md").text + Document.read("docs/releasing.md").text + README.text
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets
    assert {name for name in targets[1].split() if not re.search(rf"make {name}\b", text)} == {"clean"}


def test_the_readme_applies() -> None:
    """The inventory that the README shows is one that is taken."""
    [text] = Document.read("README.md").blocks("yaml")
    inventory = parse([Source("README.md", text.encode(), {})], clock.now())
    assert inventory.hosts


@pytest.mark.integration
@isolated
def test_nftables_takes_the_firewall(tmp_path: Path) -> None:
    [text] = DEPLOYMENT.blocks("nft")
    rules = tmp_path / "provision.nft"
    rules.write_text(text)
    sh(f"nft -c -f {rules} && nft -f {rules} && nft list chain inet provision input | grep 20000-20255")
    rules.write_text(text.replace("filter hook input", "filter hok input"))
    sh(f"! nft -c -f {rules}")


@pytest.mark.integration
@isolated
def test_the_firewall_keeps_local_processes_off() -> None:
    """The lines do what is said of them: the LAN gets what it needs, and nobody on the server gets there by itself."""
    [text] = DEPLOYMENT.blocks("nft")
    with lan("eth1", "192.0.2.1/24", "192.0.2.9/24") as host:
        assert "1 received" in sh("ping -c 1 -W 2 192.0.2.1")
        sh(f"nft -f - <<'END'\n{text}END\n")
        assert "0 received" in sh("ping -c 1 -W 1 192.0.2.1 || true")
        assert "1 received" in host.sh("ping -c 1 -W 2 192.0.2.1")
        with socket.create_server(("192.0.2.1", 80)), socket.create_server(("192.0.2.1", 81)):
            host.sh("timeout 2 bash -c '</dev/tcp/192.0.2.1/80'")
            host.sh("! timeout 2 bash -c '</dev/tcp/192.0.2.1/81'")


def test_templates_of_the_settings_say_where_they_are_described() -> None:
    assert "docs/deployment.md" in settings.TEMPLATE
    settings.parse(settings.TEMPLATE.encode(), "provision.toml", Path("/nowhere"))


def test_every_threat_names_tests_that_are_there() -> None:
    """A "cannot" that nobody attacks is a hope; the few that are somebody else's doing say so by naming none."""
    named = set()
    for _who, _can, cannot in DEPLOYMENT.section("Threats in plain words").tables()[0]:
        found = re.findall(r"`((?:tests/[a-z_/]*)?test_\w+\.py)`", cannot)
        named |= {name if name.startswith("tests/") else f"tests/integration/attacks/{name}" for name in found}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_picture_is_shown() -> None:
    shown = set(re.findall(r"!\[[^]]+\]\(pictures/([^)]+)\)", (ROOT / "docs/deployment.md").read_text()))
    assert shown == {path.name for path in (ROOT / "docs/pictures").iterdir()}


def test_an_upgrade_installs_as_the_installation_does() -> None:
    """Libraries come by their hashes both times."""
    page = Document.read("docs/deployment.md")
    first, later = (page.section(name).blocks("sh") for name in ("Installing the server", "Upgrade"))
    installs = [
        [line for block in blocks for line in block.splitlines() if "pip install" in line] for blocks in (first, later)
    ]
    assert installs[0] == installs[1]
    assert [line.split("install ")[1].split()[0] for line in installs[0]] == ["--require-hashes", "--no-deps"]
