"""`penstock policy explain`: on files and asking the agent; exit codes, text, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from config.policy.resolve import resolve
from config.settings import Settings
from tests.config.policy.builders import endpoints, load
from tests.proxy.api.agent import Agent
from tests.proxy.cli.conftest import Command

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: cart}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: front}}]
    toPorts: [{ports: [{port: http, protocol: TCP}], rules: {http: [{method: GET, path: "/items.*"}]}}]
  - fromEndpoints: [{matchLabels: {app: audit}}]
"""
MANIFESTS = """\
kind: Namespace
metadata: {name: shop}
---
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{ports: [{name: http, containerPort: 8080}]}]}
---
kind: Pod
metadata: {name: front, namespace: shop, labels: {app: front}}
"""
BY_NAME = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: front}}
  egress:
  - toFQDNs: [{matchName: a.cdn.test}]
    toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: ["*.cdn.test"]}]
"""
OURS = "endpoints: [{name: audit, namespace: shop, labels: {app: audit}, addresses: [10.0.0.9]}]\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "web.yaml").write_text(POLICY)
    (tmp_path / "pods.yaml").write_text(MANIFESTS)
    (tmp_path / "more.yaml").write_text(OURS)
    return tmp_path


@pytest.fixture
def offline(run: Command, files: Path) -> Command:
    def explain(*arguments: str) -> Result:
        given = ("--policies", str(files / "policies"))
        known = ("--endpoints", str(files / "pods.yaml"), str(files / "more.yaml"))
        return run("policy", "explain", *given, *known, *arguments)

    return explain


@pytest.mark.parametrize(
    ("arguments", "code", "first"),
    [
        ("--from shop/front --to shop/cart --port http/tcp", 0, "ALLOWED  shop/front -> shop/cart http/tcp"),
        ("--from shop/audit --to shop/cart-0 --port 9/udp", 0, "ALLOWED  shop/audit -> shop/cart-0 9/udp"),
        ("--from 10.0.0.9 --to shop/cart --port 9/udp", 0, "ALLOWED  10.0.0.9 -> shop/cart 9/udp"),
        ("--from world --to shop/cart --port 8080", 3, "DENIED  world -> shop/cart 8080"),
        ("-n shop --from app=front --to cart --port 8080", 0, "ALLOWED  app=front -> cart 8080"),
        ("--from app=front --to shop/cart --port 8080", 3, "DENIED  app=front -> shop/cart 8080"),
        ("-n shop --from app=a --to app=b --port 1", 0, "ALLOWED  app=a -> app=b 1"),
        ("--from world --to shop/cart --port 8080 --audit", 0, "AUDITED  world -> shop/cart 8080"),
        ("--from world --to shop/cart --port 8080 --enable-policy never", 0, "ALLOWED  world -> shop/cart 8080"),
        ("--from world --to shop/front --port 1 --enable-policy always", 3, "DENIED  world -> shop/front 1"),
        ("--from shop/cart --to x.example --name x.example=192.0.2.1 --port 443", 0, "ALLOWED  shop/cart -> x.exa"),
    ],
)
def test_exit_codes(offline: Command, arguments: str, code: int, first: str) -> None:
    result = offline(*arguments.split())
    assert result.exit_code == code, result.output
    assert result.stdout.startswith(first)


@pytest.mark.parametrize(
    ("given", "code"),
    [((), 3), (("--bind-names", "off"), 0), (("--bind-names", "tls"), 3), (("--bind-names", "all"), 3)],
)
def test_names_bind_as_they_are_set_to(offline: Command, files: Path, given: tuple[str, ...], code: int) -> None:
    (files / "policies" / "names.yaml").write_text(BY_NAME)
    where = ("--from", "shop/front", "--to", "a.cdn.test", "--name", "a.cdn.test=192.0.2.1", "--port", "443")
    assert offline(*where, "--sni", "a.cdn.test", *given).exit_code == 0
    assert offline(*where, "--sni", "b.cdn.test", *given).exit_code == code


def test_requests(offline: Command) -> None:
    where = ("--from", "shop/front", "--to", "shop/cart", "--port", "http/tcp")
    assert offline(*where, "--http", "GET /items/../items/7").exit_code == 0
    assert offline(*where, "--http", "GET /items/../secret").exit_code == 3
    assert offline(*where, "--grpc", "shop.Cart/Get").exit_code == 3
    assert offline(*where, "--http", "GET /items", "-H", "x: 1", "--host", "y").exit_code == 0


def test_text(offline: Command, files: Path) -> None:
    where = ("--from", "shop/front", "--to", "shop/cart", "--port", "http/tcp")
    result = offline(*where, "--http", "PUT /items")
    web = files / "policies" / "web.yaml"
    assert result.stdout.splitlines() == [
        "DENIED  shop/front -> shop/cart http/tcp PUT /items",
        "",
        "Egress of shop/front: allowed",
        "  not enforced: no policy is about egress of shop/front, so everything is allowed",
        "",
        "Ingress of shop/cart: denied (L4 redirect, L7 deny)",
        "  no HTTP rule permits this request",
        f"  by shop/web ingress[0] ({web}:7)",
        f"  MATCHED   POLICY     RULE         {'FILE:LINE'.ljust(len(str(web)) + 2)}   WHY",
        f'  no        shop/web   ingress[0]   {web}:7   http.method: method "PUT" does not match "GET"',
        f"  no        shop/web   ingress[1]   {web}:9   peer: app=audit,k8s:io.kubernetes.pod.namespace=shop "
        "does not select shop/front (app=front)",
        "",
        "Revision: 1",
    ]
    matched = offline(*where).stdout
    assert "its HTTP rules judge each request" in matched
    assert "none was given" in matched


def test_json_contract(offline: Command, files: Path) -> None:
    result = offline("--from", "shop/audit", "--to", "shop/cart", "--port", "1", "-o", "json")
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert set(body) == {"verdict", "egress", "ingress", "revision"}
    assert body["verdict"] == "allow"
    assert body["egress"] == {
        "enforced": False,
        "verdict": "allow",
        "l4": "none",
        "l7": None,
        "by": [],
        "considered": [],
        "note": "not enforced: no policy is about egress of shop/audit, so everything is allowed",
    }
    side = body["ingress"]
    web = str(files / "policies" / "web.yaml")
    by = {"policy": "web", "namespace": "shop", "rule": "ingress[1]", "file": web, "line": 9}
    assert (side["enforced"], side["verdict"], side["l4"], side["l7"], side["by"]) == (
        True,
        "allow",
        "allow",
        None,
        [by],
    )
    first, second = side["considered"]
    assert (first["matched"], first["matcher"], second["matched"], second["matcher"]) == (False, "peer", True, None)


def test_all(offline: Command) -> None:
    where = ("--from", "shop/cart", "--to", "shop/front", "--port", "1", "-o", "json")
    assert json.loads(offline(*where).stdout)["ingress"]["considered"] == []
    listed = json.loads(offline(*where, "--all").stdout)["ingress"]["considered"]
    assert [item["matcher"] for item in listed] == ["subject", "subject"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "shop/x", "--to", "shop/cart", "--port", "1"), "--from: there is no pod x in namespace shop"),
        (("--from", "shop/front", "--to", "shop/cart"), "--port is missing"),
        (("--from", "shop/front", "--port", "1"), "Missing option '--to'"),
        (("--from", "a=", "--to", "=", "--port", "1"), "is no label of a pod"),
        (("--from", "shop/front", "--to", "shop/cart", "--http", "GET /", "--grpc", "A/B"), "only one of"),
        (("--from", "shop/front", "--to", "shop/cart", "--port", "1", "--enable-policy", "x"), "'x' is not one of"),
        (("--from", "shop/front", "--to", "shop/cart", "--http", "GET /%2f"), "the proxy would answer 400"),
    ],
)
def test_wrong_usage(offline: Command, arguments: tuple[str, ...], message: str) -> None:
    result = offline(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_broken_files(run: Command, files: Path) -> None:
    bad = files / "policies" / "bad.yaml"
    bad.write_text(POLICY.replace("name: web", "name: bad").replace("fromEndpoints", "fromEndpoint"))
    command = ("policy", "explain", "--policies", str(files / "policies"), "--endpoints", str(files / "pods.yaml"))
    where = ("--from", "shop/front", "--to", "shop/cart", "--port", "8080", "-o", "json")
    refused = run(*command, *where)
    assert refused.exit_code == 2
    assert f"{bad}:7:5: error[CNP001]" in refused.stderr
    assert "--ignore-errors" in refused.stderr
    assert refused.stdout == ""
    ignored = run(*command, *where, "--ignore-errors")
    assert f"{bad}:7:5: error[CNP001]" in ignored.stderr
    # What the broken policy may have allowed is not known, what the good one allows is.
    assert json.loads(ignored.stdout)["verdict"] == "allow"
    # It may be about more than the good one: nobody can tell, so both directions of its pods are closed.
    body = json.loads(
        run(*command, "--from", "shop/cart", "--to", "world", "--port", "1", "--ignore-errors", "-o", "json").stdout
    )
    assert body["egress"]["verdict"] == "deny"
    assert body["egress"]["by"][0]["policy"].startswith("unreadable:")


def test_broken_endpoints_cannot_be_ignored(run: Command, files: Path) -> None:
    (files / "pods.yaml").write_text("kind: Pod\nmetadata: {}\n")
    result = run(
        "policy", "explain", "--policies", str(files / "policies"), "--endpoints", str(files / "pods.yaml"),
        "--from", "world", "--to", "shop/cart", "--port", "1", "--ignore-errors",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "pods.yaml:2:11: error[EPF001] an object without a name" in result.stderr


def test_a_folder_that_is_not_there_allows_nothing(run: Command, files: Path) -> None:
    command = ("policy", "explain", "--policies", str(files / "none"), "--endpoints", str(files / "pods.yaml"))
    where = ("--from", "shop/front", "--to", "shop/cart", "--port", "1")
    assert run(*command, *where).exit_code == 2
    assert run(*command, *where, "--ignore-errors").exit_code == 3


def test_colours_only_on_a_terminal(offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--from", "world", "--to", "shop/cart", "--port", "8080")
    assert "\x1b" not in offline(*where).stdout


def test_hostile_text_is_shown_harmless(run: Command, files: Path) -> None:
    (files / "policies" / "web.yaml").write_text(POLICY.replace("app: audit", r'"a\e[2J": audit'))
    result = run(
        "policy", "explain", "--policies", str(files / "policies"), "--endpoints", str(files / "pods.yaml"),
        "--from", "shop/front", "--to", "shop/cart", "--port", "1",
    )  # fmt: skip
    assert result.exit_code == 3
    assert "\x1b" not in result.output


def test_asking_the_agent(ask: Command, agent: Agent) -> None:
    agent.view.sources = load(POLICY.replace("shop", "default").replace("app: cart", "id: a")).documents
    agent.view.current = resolve(agent.view.sources, endpoints(), Settings(), 9)
    refused = ask("policy", "explain", "--from", "foo", "--to", "a", "--port", "80/tcp", "--http", "GET /")
    assert refused.exit_code == 3, refused.output
    assert refused.stdout.startswith("DENIED  foo -> a 80/tcp GET /\n")
    assert refused.stdout.endswith("Revision: 9\n")
    allowed = ask("policy", "explain", "--from", "a", "--to", "foo", "--port", "1", "-o", "json")
    assert allowed.exit_code == 0
    assert json.loads(allowed.stdout)["verdict"] == "allow"
    unknown = ask("policy", "explain", "--from", "foo", "--to", "nobody", "--port", "1")
    assert unknown.exit_code == 2
    assert "there is no pod nobody" in unknown.stderr


def test_what_belongs_to_files(run: Command) -> None:
    result = run("policy", "explain", "--from", "a", "--to", "b", "--port", "1", "--audit")
    assert result.exit_code == 2
    assert "go with --policies" in result.stderr


def test_no_agent(run: Command, tmp_path: Path) -> None:
    result = run("policy", "explain", "--from", "a", "--to", "b", "--port", "1", "--socket", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "no agent at" in result.stderr
